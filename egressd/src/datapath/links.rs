//! Replacing the program behind a pinned link, in one step.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// The link, or program, that is pinned at `path`, if there is one.
///
/// # Errors
/// The pin is there but cannot be opened.
pub fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    if !path.exists() {
        return Ok(None);
    }
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let descriptor = bpf(BPF_OBJ_GET, &Object { path: path.as_ptr() as u64, descriptor: 0, flags: 0 })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Attaches `program` to `cgroup` beside the programs of others (any one that denies is enough),
/// and pins the link at `path`.
///
/// # Errors
/// The kernel refuses the hook, or the pin.
pub fn create(program: impl AsFd, cgroup: impl AsFd, hook: AttachType, path: &Path) -> io::Result<()> {
    pin(create_link(number(&program)?, number(&cgroup)?, hook as u32)?, path)
}

fn create_link(program: u32, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    // include/uapi/linux/bpf.h, union bpf_attr, BPF_LINK_CREATE.
    #[repr(C)]
    struct LinkCreate {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let descriptor = bpf(BPF_LINK_CREATE, &LinkCreate { program, target, attach_type, flags: 0 })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches `program` to the ingress of the device `index` of this network namespace, and pins the
/// link at `path`.
///
/// # Errors
/// The kernel has no TCX (before 6.6), there is no such device, or the pin is refused.
pub fn create_on_device(program: impl AsFd, index: u32, path: &Path) -> io::Result<()> {
    pin(attach_to_device(program, index)?, path)
}

/// The same, until what is returned is dropped.
///
/// # Errors
/// The kernel has no TCX (before 6.6), or there is no such device.
pub fn attach_to_device(program: impl AsFd, index: u32) -> io::Result<OwnedFd> {
    create_link(number(&program)?, index, BPF_TCX_INGRESS)
}

/// The hooks that programs of ours are attached to (include/uapi/linux/bpf.h, enum
/// bpf_attach_type).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachType {
    Ingress = 0,
    Egress = 1,
    SocketCreate = 2,
    SocketOperations = 3,
    Device = 6,
    Connect4 = 10,
    Connect6 = 11,
    SendMessage4 = 14,
    SendMessage6 = 15,
    ReceiveMessage4 = 19,
    ReceiveMessage6 = 20,
    SetSocketOption = 22,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    SocketRelease = 34,
    /// A security hook; which one, the program says.
    SecurityHook = 43,
}

/// The id of the cgroup that `link` is attached to; 0 if it is gone.
///
/// # Errors
/// The kernel does not say.
pub fn cgroup_of(link: impl AsFd) -> io::Result<u64> {
    let [low, high, ..] = target_of(link)?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Has `program` judge what the sockets in the sockmap `map` send, in place of any that did. It stays for
/// as long as the map.
///
/// # Errors
/// The kernel refuses.
pub fn attach_to_sockmap(program: impl AsFd, map: impl AsFd) -> io::Result<()> {
    // include/uapi/linux/bpf.h, union bpf_attr, BPF_PROG_ATTACH.
    #[repr(C)]
    struct ProgramAttach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    let attributes = ProgramAttach {
        target: number(&map)?,
        program: number(&program)?,
        attach_type: BPF_SK_MSG_VERDICT,
        flags: 0,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map(|_| ())
}

/// The ids of the programs that judge what the sockets in the sockmap `map` send.
///
/// # Errors
/// The kernel does not say (before 5.18).
pub fn attached_to_sockmap(map: impl AsFd) -> io::Result<Vec<u32>> {
    query(number(&map)?, BPF_SK_MSG_VERDICT, Whose::Own)
}

/// The index of the device that `link` is attached to; 0 if it is gone.
///
/// # Errors
/// The kernel does not say.
pub fn device_of(link: impl AsFd) -> io::Result<u32> {
    target_of(link).map(|[index, ..]| index)
}

/// What a link is attached to, in the words of its kind.
fn target_of(link: impl AsFd) -> io::Result<[u32; 4]> {
    // include/uapi/linux/bpf.h, struct bpf_link_info. Behind the first four numbers is a union: for a
    // cgroup its id in 64 bits, for TCX the index; then the attach type.
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        kind: u32,
        id: u32,
        program: u32,
        zero: u32,
        target: [u32; 4],
    }
    #[repr(C)]
    struct ObjectInfo {
        descriptor: u32,
        length: u32,
        info: u64,
    }
    let mut info = LinkInfo::default();
    let length = u32::try_from(size_of::<LinkInfo>()).map_err(io::Error::other)?;
    let attributes = ObjectInfo { descriptor: number(&link)?, length, info: (&raw mut info) as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes)?;
    Ok(info.target)
}

/// Puts `program` behind `link`: from one packet to the next, without a moment without either.
///
/// # Errors
/// The kernel refuses, for example because the program's attach type differs.
pub fn replace(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    // include/uapi/linux/bpf.h, union bpf_attr, BPF_LINK_UPDATE.
    #[repr(C)]
    struct LinkUpdate {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let attributes =
        LinkUpdate { link: number(&link)?, program: number(&program)?, flags: 0, old_program: 0 };
    bpf(BPF_LINK_UPDATE, &attributes).map(|_| ())
}

/// Whose programs count for a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Whose {
    /// Those that are attached to it.
    Own = 0,
    /// Those of the cgroups above it too (BPF_F_QUERY_EFFECTIVE).
    Effective = 1,
}

/// The ids of the programs that run for `cgroup` at the hook with this number.
///
/// # Errors
/// The kernel has no such hook, or there are more than [`MAX_ATTACHED`].
pub fn attached(cgroup: impl AsFd, hook: u32, whose: Whose) -> io::Result<Vec<u32>> {
    query(number(&cgroup)?, hook, whose)
}

/// The ids of the programs that judge what comes in by the device `index` of this network namespace.
///
/// # Errors
/// The kernel has no TCX (before 6.6), or there is no such device.
pub fn attached_to_device(index: u32) -> io::Result<Vec<u32>> {
    match query(index, BPF_TCX_INGRESS, Whose::Own) {
        // Nothing ever was attached there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn query(target: u32, hook: u32, whose: Whose) -> io::Result<Vec<u32>> {
    // include/uapi/linux/bpf.h, union bpf_attr, BPF_PROG_QUERY.
    #[repr(C)]
    struct ProgramQuery {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        zero: u32,
    }
    let mut programs = [0_u32; MAX_ATTACHED];
    let mut query = ProgramQuery {
        target,
        attach_type: hook,
        query_flags: whose as u32,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        count: u32::try_from(MAX_ATTACHED).map_err(io::Error::other)?,
        zero: 0,
    };
    // SAFETY: the kernel writes the count back, and no more programs than that.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<ProgramQuery>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = usize::try_from(query.count).map_err(io::Error::other)?;
    Ok(programs.into_iter().take(count).collect())
}

/// Asks for the first program that is loaded, whosoever it is: the least that bpf(2) can be asked.
///
/// # Errors
/// The kernel does not answer us.
pub fn any_program() -> io::Result<()> {
    // include/uapi/linux/bpf.h, union bpf_attr, BPF_PROG_GET_NEXT_ID.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        flags: u32,
    }
    let mut query = NextId { start: 0, next: 0, flags: 0 };
    // SAFETY: the kernel writes the next id back.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, &raw mut query, size_of::<NextId>()) };
    match io::Error::last_os_error() {
        _ if result >= 0 => Ok(()),
        // There is none.
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

/// The kernel attaches no more to one hook of a cgroup (BPF_CGROUP_MAX_PROGS), and there are few
/// levels above ours.
const MAX_ATTACHED: usize = 256;

/// include/uapi/linux/bpf.h, union bpf_attr, BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

fn pin(link: OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    bpf(BPF_OBJ_PIN, &Object { path: path.as_ptr() as u64, descriptor: number(&link)?, flags: 0 }).map(|_| ())
}

fn number(descriptor: &impl AsFd) -> io::Result<u32> {
    u32::try_from(descriptor.as_fd().as_raw_fd()).map_err(io::Error::other)
}

// include/uapi/linux/bpf.h, enum bpf_cmd.
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
/// enum bpf_attach_type.
const BPF_SK_MSG_VERDICT: u32 = 7;
const BPF_TCX_INGRESS: u32 = 46;

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` is a prefix of union bpf_attr that is as long as we say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}
