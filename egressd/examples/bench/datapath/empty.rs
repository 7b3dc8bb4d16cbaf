//! The least program that can be attached to a cgroup: it lets everything pass.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// Attaches the program to what leaves from sockets of `cgroup`, until the link is dropped.
///
/// # Errors
/// The kernel refuses.
pub fn attach(cgroup: &File) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let program = LoadProgram {
        kind: CGROUP_SKB,
        instructions: PROGRAM.len() as u32,
        program: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        unused: [0; 11],
        attach_type: EGRESS,
    };
    let program = bpf(PROG_LOAD, &program)?;
    let link =
        CreateLink { program: program.as_raw_fd(), target: cgroup.as_raw_fd(), kind: EGRESS, flags: 0 };
    bpf(LINK_CREATE, &link)
}

/// `r0 = 1; exit`
const PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// The beginning of `union bpf_attr` (include/uapi/linux/bpf.h) for two commands.
#[repr(C)]
struct LoadProgram {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    /// The verifier's log, versions, flags, a name and a device.
    unused: [u32; 11],
    attach_type: u32,
}

#[repr(C)]
struct CreateLink {
    program: RawFd,
    target: RawFd,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const CGROUP_SKB: u32 = 8;
const EGRESS: u32 = 1;

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are of the command's form, and outlive the call with all that they lead to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel made it for us.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
