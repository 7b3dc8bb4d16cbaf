//! What an agent may do by itself: no capability over the network or the host, no descriptor of
//! ours.

use crate::policy;
use caps::Capability;
use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname},
        stat::{FileStat, SFlag, fstat, major, minor},
    },
    unistd::{User, isatty},
};
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

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

/// Closes everything but stdin, stdout and stderr. Those three must be files, pipes, terminals, the
/// harmless devices or Unix sockets: whatever else they are would carry the namespaces or the cgroup
/// of whoever made it.
///
/// # Errors
/// One of the three is something else.
pub fn close_descriptors() -> io::Result<()> {
    for (number, name) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
        // SAFETY: the descriptor is looked at, and not closed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(i32::try_from(number).map_err(io::Error::other)?) };
        match fstat(descriptor) {
            Ok(found) if is_harmless(descriptor, &found) => {}
            Err(Errno::EBADF) => {}
            Ok(_) | Err(_) => {
                return Err(io::Error::other(format!(
                    "{name} is no file, pipe, terminal or Unix socket, and the fence would not cover it: \
                     redirect it, for example from or to `/dev/null`"
                )));
            }
        }
    }
    // SAFETY: nothing in this process uses a descriptor above 2 from here on.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether nothing but bytes goes through a descriptor that was opened outside. A folder would lead
/// to files that are hidden; a device, a ring of io_uring or a network socket leads out.
fn is_harmless(descriptor: BorrowedFd<'_>, found: &FileStat) -> bool {
    // Documentation/admin-guide/devices.txt: null, zero, full, random and urandom.
    const MEMORY: u64 = 1;
    const HARMLESS: [u64; 5] = [3, 5, 7, 8, 9];
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    let device = (major(found.st_rdev), minor(found.st_rdev));
    match kind {
        SFlag::S_IFREG | SFlag::S_IFIFO => true,
        SFlag::S_IFCHR => {
            (device.0 == MEMORY && HARMLESS.contains(&device.1)) || isatty(descriptor).unwrap_or(false)
        }
        SFlag::S_IFSOCK => getsockname::<SockaddrStorage>(descriptor.as_raw_fd())
            .is_ok_and(|address| address.family() == Some(AddressFamily::Unix)),
        _ => false,
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
