//! What an agent may do by itself: no capability over the network or the host, no descriptor of
//! ours.

use crate::policy;
use caps::Capability;
use nix::{errno::Errno, unistd::User};
use std::{ffi::CString, io};

/// Changes every user and group id, and the variables that name the user.
///
/// # Errors
/// The kernel refuses, or the groups of the user cannot be read.
pub fn become_user(user: &User) -> nix::Result<()> {
    let name = CString::new(user.name.clone()).map_err(|_| Errno::EINVAL)?;
    nix::unistd::initgroups(&name, user.gid)?;
    nix::unistd::setresgid(user.gid, user.gid, user.gid)?;
    // Keeps the capabilities that dropping the rest takes; execve(2) takes them all.
    nix::sys::prctl::set_keepcaps(true)?;
    nix::unistd::setresuid(user.uid, user.uid, user.uid)?;
    // SAFETY: the child has one thread.
    unsafe {
        std::env::set_var("HOME", &user.dir);
        std::env::set_var("USER", &user.name);
        std::env::set_var("LOGNAME", &user.name);
    }
    Ok(())
}

/// Empties the bounding set but for `keep`, and the other sets to what is left of it.
///
/// # Errors
/// The kernel refuses.
pub fn drop_capabilities(keep: &[Capability]) -> Result<(), caps::errors::CapsError> {
    use caps::CapSet;
    let permitted = caps::read(None, CapSet::Permitted)?;
    // What is permitted may have gone from the effective set with the user id.
    caps::set(None, CapSet::Effective, &permitted)?;
    let held = caps::read(None, CapSet::Bounding)?;
    caps::clear(None, CapSet::Ambient)?;
    for capability in held.iter().filter(|capability| !keep.contains(capability)) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    let kept = permitted.into_iter().filter(|capability| keep.contains(capability)).collect();
    caps::set(None, CapSet::Inheritable, &caps::CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Closes everything but stdin, stdout and stderr. Those three are refused when
/// they are network sockets, which would carry the cgroup of whoever made them.
///
/// # Errors
/// One of the three is such a socket.
pub fn close_descriptors() -> io::Result<()> {
    for number in 0..3 {
        let is_network = nix::sys::socket::getsockname::<nix::sys::socket::SockaddrStorage>(number)
            .is_ok_and(|address| address.as_unix_addr().is_none());
        if is_network {
            return Err(io::Error::other(format!(
                "descriptor {} is a network socket, which the fence would not cover",
                number
            )));
        }
    }
    // SAFETY: nothing in this process uses a descriptor above 2 from here on.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The capabilities that an agent of uid 0 keeps: those that package managers need to write
/// files for other users and to drop to them. None of them reaches the network, a device,
/// another namespace, or a process outside.
pub const KEPT: [Capability; 7] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// The kernel's capability of that name.
#[must_use]
pub fn of(kept: policy::Capability) -> Capability {
    match kept {
        policy::Capability::NetRaw => Capability::CAP_NET_RAW,
        policy::Capability::NetAdmin => Capability::CAP_NET_ADMIN,
    }
}
