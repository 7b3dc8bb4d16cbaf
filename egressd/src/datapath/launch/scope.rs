//! Abstract Unix sockets of processes outside, where no program of ours is asked about them.

use nix::errno::Errno;
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

/// Cuts this process, and all that it will start, off from abstract Unix sockets that were made
/// before or elsewhere (landlock(7)). Older kernels cannot do that: then nothing happens.
///
/// # Errors
/// The kernel refuses, for example because `no_new_privs` is not set.
pub fn cut_off() -> io::Result<()> {
    match version() {
        Some(version) if version >= SCOPES => restrict(),
        _ => Ok(()),
    }
}

/// What Landlock of this kernel knows; None where it is not there, or not enabled.
fn version() -> Option<i64> {
    // SAFETY: to ask for the version takes no structure.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<Rules>(), 0, VERSION) };
    (version > 0).then_some(version)
}

fn restrict() -> io::Result<()> {
    let rules = Rules { handled_access_fs: 0, handled_access_net: 0, scoped: ABSTRACT_UNIX_SOCKETS };
    // SAFETY: the structure is as long as we say.
    let made =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size_of::<Rules>(), 0) };
    let descriptor = i32::try_from(Errno::result(made)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    let rules = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: the call takes a descriptor and no pointers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

/// include/uapi/linux/landlock.h, struct landlock_ruleset_attr.
#[repr(C)]
struct Rules {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

// include/uapi/linux/landlock.h.
const VERSION: u32 = 1;
const ABSTRACT_UNIX_SOCKETS: u64 = 1;
/// The version that knows scopes: Linux 6.12.
const SCOPES: i64 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    };

    #[test]
    fn what_others_made_is_out_of_reach_and_what_is_made_inside_is_not() {
        if version().is_none_or(|version| version < SCOPES) {
            println!("skipped: this kernel's Landlock knows no scopes");
            return;
        }
        let named = |name: &str| {
            let name = format!("egressd-scope-{}-{name}", std::process::id());
            SocketAddr::from_abstract_name(name).unwrap()
        };
        let (outside, inside) = (named("outside"), named("inside"));
        let _outside = UnixListener::bind_addr(&outside).unwrap();
        assert!(UnixStream::connect_addr(&outside).is_ok());
        // In a thread: the restriction is the thread's own, and ends with it.
        let thread = std::thread::spawn(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            cut_off().unwrap();
            let _inside = UnixListener::bind_addr(&inside).unwrap();
            let denied = UnixStream::connect_addr(&outside).unwrap_err();
            assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
            assert!(UnixStream::connect_addr(&inside).is_ok());
        });
        thread.join().unwrap();
    }
}
