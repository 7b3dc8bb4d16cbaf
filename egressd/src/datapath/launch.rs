//! Starts a program as an agent: cloned into its cgroup, with nothing of ours left in its hands.
//!
//! The order matters: mounts while there is still the capability to make them, capabilities
//! before the filter, the filter last, so that it binds only what follows it.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{Pid, execvp},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

/// What to start, and what to keep from it.
#[derive(Debug)]
pub struct Launch {
    /// The folder of the agent's cgroup.
    pub cgroup: PathBuf,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Folders and files that the agent sees empty: sockets, pins and logs of the daemon.
    pub hidden: Vec<PathBuf>,
    /// Variables to set on top of our own environment.
    pub environment: Vec<(String, String)>,
    /// Whom to run it as; None: as whom we are.
    pub user: Option<nix::unistd::User>,
}

/// Starts the program. The child is in the cgroup before it runs its first instruction, because a
/// socket keeps the cgroup of its creator.
///
/// Must be called while the process has one thread: the child allocates before it executes.
///
/// # Errors
/// The child could not be made. What fails in the child ends it with status 125 (ours), 126 (not
/// executable) or 127 (not found), after a line on stderr.
pub fn launch(launch: &Launch) -> Result<Pid, LaunchError> {
    let mut arguments = Vec::new();
    for argument in &launch.command {
        let argument = CString::new(argument.clone().into_vec());
        arguments.push(argument.map_err(|_| LaunchError::Nul)?);
    }
    let program = arguments.first().ok_or(LaunchError::NoProgram)?.clone();
    let filter = filter()?;
    let cgroup =
        fs::File::open(&launch.cgroup).map_err(|error| LaunchError::Cgroup(launch.cgroup.clone(), error))?;
    match clone_into(&cgroup).map_err(LaunchError::Clone)? {
        Some(child) => Ok(child),
        None => {
            let name = launch.command.first().map(|name| name.to_string_lossy().into_owned());
            let status = match confine(launch, &filter) {
                Ok(()) => execute(&program, &arguments, &name.unwrap_or_default()),
                Err(failure) => {
                    eprintln!("egressctl: {failure}");
                    STATUS_OURS
                }
            };
            // SAFETY: ends the child without running what the parent registered for its own end.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("no program was given")]
    NoProgram,
    #[error("an argument holds a NUL byte")]
    Nul,
    #[error("failed to open cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Cgroup(PathBuf, io::Error),
    #[error("failed to clone into the agent's cgroup: {0}")]
    Clone(io::Error),
    #[error("failed to build the seccomp filter: {0}")]
    Filter(String),
}

/// The capabilities that an agent of uid 0 keeps: those that package managers need to write
/// files for other users and to drop to them. None of them reaches the network, a device,
/// another namespace, or a process outside.
const KEPT: [caps::Capability; 7] = [
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_FOWNER,
    caps::Capability::CAP_FSETID,
    caps::Capability::CAP_KILL,
    caps::Capability::CAP_SETGID,
    caps::Capability::CAP_SETUID,
];

/// Sockets of programs that would resolve names or start processes for an agent, outside its
/// cgroup.
const DEPUTIES: [&str; 12] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
];

const STATUS_OURS: i32 = 125;
const STATUS_NOT_EXECUTABLE: i32 = 126;
const STATUS_NOT_FOUND: i32 = 127;

/// clone3(2) with CLONE_INTO_CGROUP (Linux 5.7): the child's pid, or None in the child.
fn clone_into(cgroup: &fs::File) -> io::Result<Option<Pid>> {
    // include/uapi/linux/sched.h, struct clone_args.
    #[repr(C)]
    #[derive(Default)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?,
        ..CloneArguments::default()
    };
    // SAFETY: without CLONE_VM this is fork(2); the child has its own copy of everything.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?))),
        _ => Err(io::Error::last_os_error()),
    }
}

fn confine(launch: &Launch, filter: &BpfProgram) -> Result<(), String> {
    fence_mounts(launch)?;
    for (name, value) in &launch.environment {
        // SAFETY: the child has one thread.
        unsafe { std::env::set_var(name, value) };
    }
    if let Some(user) = &launch.user {
        become_user(user).map_err(|error| format!("failed to become `{}`: {}", user.name, error.desc()))?;
    }
    drop_capabilities().map_err(|error| format!("failed to drop capabilities: {error}"))?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| format!("failed to set no_new_privs: {error}"))?;
    reset_signals()?;
    close_descriptors().map_err(|error| format!("failed to close inherited descriptors: {error}"))?;
    seccompiler::apply_filter(filter).map_err(|error| format!("failed to apply the seccomp filter: {error}"))
}

/// A mount namespace in which cgroups cannot be changed, and what is ours cannot be seen.
fn fence_mounts(launch: &Launch) -> Result<(), String> {
    let named = |act: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |error: Errno| format!("failed to {act} `{path}`: {}", error.desc())
    };
    let root = Path::new("/");
    unshare(CloneFlags::CLONE_NEWNS).map_err(named("make a mount namespace for", root))?;
    // Mounts of the host still arrive; ours do not leave.
    mount_with(None, root, MsFlags::MS_SLAVE | MsFlags::MS_REC)
        .map_err(named("detach mounts below", root))?;
    for path in cgroup_mounts().map_err(|error| format!("failed to read mountinfo: {error}"))? {
        let read_only = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | MsFlags::MS_NOEXEC;
        mount_with(None, &path, read_only).map_err(named("make read-only", &path))?;
    }
    for path in launch.hidden.iter().filter(|path| path.is_dir()) {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("egressd"), path, Some("tmpfs"), flags, Some("mode=0,size=4k"))
            .map_err(named("hide", path))?;
    }
    let files = launch.hidden.iter().map(PathBuf::as_path).filter(|path| path.is_file());
    for path in files.chain(DEPUTIES.map(Path::new).into_iter().filter(|path| path.exists())) {
        mount_with(Some(Path::new("/dev/null")), path, MsFlags::MS_BIND).map_err(named("hide", path))?;
    }
    Ok(())
}

fn mount_with(source: Option<&Path>, path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(source, path, None::<&str>, flags, None::<&str>)
}

/// Mount points of every cgroup hierarchy, of either version.
fn cgroup_mounts() -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let point = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let is_cgroup = matches!(right.split(' ').next()?, "cgroup" | "cgroup2");
        is_cgroup.then(|| left.split(' ').nth(4).map(PathBuf::from))?
    };
    Ok(mountinfo.lines().filter_map(point).collect())
}

/// Changes every user and group id.
fn become_user(user: &nix::unistd::User) -> nix::Result<()> {
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

fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    use caps::CapSet;
    let permitted = caps::read(None, CapSet::Permitted)?;
    // What is permitted may have gone from the effective set with the user id.
    caps::set(None, CapSet::Effective, &permitted)?;
    let held = caps::read(None, CapSet::Bounding)?;
    caps::clear(None, CapSet::Ambient)?;
    for capability in held.iter().filter(|capability| !KEPT.contains(capability)) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    let kept = permitted.into_iter().filter(|capability| KEPT.contains(capability)).collect();
    caps::set(None, CapSet::Inheritable, &caps::CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// The parent blocked signals to forward them; the program starts with none blocked or ignored.
fn reset_signals() -> Result<(), String> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    // SAFETY: restoring the default action runs none of our code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }
        .and_then(|_| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None))
        .map_err(|error| format!("failed to reset signals: {}", error.desc()))
}

/// Everything but stdin, stdout and stderr closes with execve(2). Those three are refused when
/// they are sockets, which would carry the cgroup of whoever made them.
fn close_descriptors() -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: the descriptor is only looked at; fstat fails if it is closed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_network = nix::sys::socket::getsockname::<nix::sys::socket::SockaddrStorage>(number)
            .is_ok_and(|address| address.as_unix_addr().is_none());
        if is_network {
            return Err(io::Error::other(format!(
                "descriptor {} is a network socket, which the fence would not cover",
                descriptor.as_raw_fd()
            )));
        }
    }
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only marks descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Socket families other than Unix, IP and route netlink, io_uring (which makes sockets that no
/// filter sees), and bpf(2) end with EPERM.
fn filter() -> Result<BpfProgram, LaunchError> {
    let failed = |error: seccompiler::BackendError| LaunchError::Filter(error.to_string());
    let is_not = |argument, value: i32| {
        let value = u64::try_from(value).unwrap_or(0);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value).map_err(failed)
    };
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        .into_iter()
        .map(|family| is_not(0, family))
        .collect::<Result<Vec<_>, _>>()?;
    let is_netlink = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(libc::AF_NETLINK.unsigned_abs()),
    )
    .map_err(failed)?;
    let netlink = vec![is_netlink, is_not(2, libc::NETLINK_ROUTE)?];
    let sockets =
        vec![SeccompRule::new(families).map_err(failed)?, SeccompRule::new(netlink).map_err(failed)?];
    let mut rules = BTreeMap::from([(libc::SYS_socket, sockets)]);
    for call in
        [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_bpf]
    {
        rules.insert(call, Vec::new());
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(failed)?;
    let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).map_err(failed)?;
    filter.try_into().map_err(failed)
}

/// Returns only when the program could not be executed.
fn execute(program: &CString, arguments: &[CString], name: &str) -> i32 {
    let error = match execvp(program, arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("egressctl: failed to run `{name}`: {}", error.desc());
    if error == Errno::ENOENT { STATUS_NOT_FOUND } else { STATUS_NOT_EXECUTABLE }
}
