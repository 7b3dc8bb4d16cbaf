//! Starts a program as an agent: cloned into its cgroup, with nothing of ours left in its hands.
//!
//! A sealed agent enters namespaces that the daemon made for it: of the network first, then, when
//! every mount is made, of users.
//!
//! Two processes: an init, the first of a process id namespace, and the program. The namespace
//! keeps the agent from tracing processes outside and from taking their sockets; when the init
//! ends, the kernel ends everything in it. The order matters: mounts while there is still the
//! capability to make them, capabilities before the filter, the filter last, so that it binds
//! only what follows it.

mod doors;
mod filter;
mod mounts;
mod privileges;
mod scope;
mod supervise;
mod trust;

pub use filter::Recorded;
pub use supervise::{Reap, Signals};
pub use trust::trust_variables;

use crate::policy::Capability;
use doors::Doors;
use filter::Families;
use mounts::{Replaced, Views, Withheld};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    unistd::{ForkResult, Pid, Uid, User, execvp, fork, pipe2, read},
};
use seccompiler::BpfProgram;
use std::{
    ffi::{CString, OsString},
    fs,
    io::{self, Write},
    os::{
        fd::{AsRawFd, IntoRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
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
    /// Folders that the agent cannot change, should it be root: what lies there is obeyed.
    pub kept: Vec<PathBuf>,
    /// Whether the agent may speak to Unix sockets of the host that nobody hides.
    pub host_sockets: bool,
    /// What the agent sees as `/etc/resolv.conf`; None: what we see.
    pub resolv_conf: Option<PathBuf>,
    /// What the agent sees in the place of the host's authorities; None: what we see.
    pub authorities: Option<PathBuf>,
    /// The namespaces that a sealed agent is to be in.
    pub seal: Option<Seal>,
    /// Variables of our own environment that the agent does not get.
    pub withheld: Vec<String>,
    /// Variables to set on top of our own environment.
    pub environment: Vec<(String, String)>,
    /// What is left to the kernel programs.
    pub recorded: Recorded,
    /// Whom to run it as; None: as whom we are.
    pub user: Option<User>,
}

/// Namespaces that are there already, as files, and what the agent may do in them.
#[derive(Debug)]
pub struct Seal {
    pub network: PathBuf,
    pub user: PathBuf,
    pub capabilities: Vec<Capability>,
}

/// Starts the program, and returns its init. Both are in the cgroup before they run their first instruction, because a
/// socket keeps the cgroup of its creator.
///
/// Must be called while the process has one thread, for the child allocates before it executes, and
/// with [`Signals`] blocked.
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
    let may_send_raw = launch.seal.as_ref().is_some_and(|seal| !seal.capabilities.is_empty());
    let families = if may_send_raw { Families::WithRaw } else { Families::UnixAndIp };
    let filters = Filters {
        whole: filter::filter(families, Recorded::default())?,
        rest: filter::filter(families, launch.recorded)?,
    };
    let namespaces = launch.seal.as_ref().map(Namespaces::open).transpose()?;
    let cgroup =
        fs::File::open(&launch.cgroup).map_err(|error| LaunchError::Cgroup(launch.cgroup.clone(), error))?;
    let (watched, held) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(LaunchError::Pipe)?;
    match clone_into(&cgroup, namespaces.is_some()).map_err(LaunchError::Clone)? {
        Some(child) => {
            // Stays open for as long as we live: see `bind_to_launcher`.
            let _ = held.into_raw_fd();
            Ok(child)
        }
        None => {
            drop(held);
            let status = confine(launch, namespaces, &filters, watched)
                .and_then(|()| be_init(&program, &arguments))
                .unwrap_or_else(|failure| {
                    complain(&failure);
                    STATUS_OURS
                });
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
    #[error("failed to open namespace `{path}`: {error}", path = .0.display(), error = .1)]
    Namespace(PathBuf, io::Error),
    #[error("failed to make a pipe: {0}")]
    Pipe(Errno),
    #[error("failed to clone into the agent's cgroup: {0}")]
    Clone(io::Error),
    #[error("failed to build the seccomp filter: {0}")]
    Filter(String),
}

const STATUS_OURS: i32 = 125;
const STATUS_NOT_EXECUTABLE: i32 = 126;
const STATUS_NOT_FOUND: i32 = 127;

/// clone3(2) with CLONE_INTO_CGROUP (Linux 5.7): the child's pid, or None in the child.
fn clone_into(cgroup: &fs::File, is_sealed: bool) -> io::Result<Option<Pid>> {
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
    let own_ipc = if is_sealed { libc::CLONE_NEWIPC } else { 0 };
    let namespaces = (libc::CLONE_NEWNS | libc::CLONE_NEWPID | own_ipc).unsigned_abs();
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP | u64::from(namespaces),
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

/// The one that denies all, and the one that leaves to the security hooks what they record.
struct Filters {
    whole: BpfProgram,
    rest: BpfProgram,
}

fn confine(
    launch: &Launch,
    namespaces: Option<Namespaces>,
    filters: &Filters,
    launcher: OwnedFd,
) -> Result<(), String> {
    let folder = std::env::current_dir().map_err(|error| format!("failed to find the folder: {error}"))?;
    let user = launch.user.as_ref().map_or_else(Uid::effective, |user| user.uid);
    // Of the host's network namespace, which is left next.
    let doors = Doors::find(launch.host_sockets, user)?;
    let views = match &namespaces {
        Some(namespaces) => {
            namespaces.enter_network().map_err(|error| format!("failed to enter the cell: {error}"))?;
            Views::Own
        }
        None => Views::OfHost,
    };
    let replaced =
        Replaced { resolv_conf: launch.resolv_conf.as_deref(), authorities: launch.authorities.as_deref() };
    // Others cannot write them anyway, and keep the freedom to link and rename across the way to them.
    let kept = if user.is_root() { launch.kept.as_slice() } else { &[] };
    mounts::fence(views, doors, replaced, Withheld { hidden: &launch.hidden, kept })?;
    // By its path: the folder itself may be one that was just hidden.
    std::env::set_current_dir(&folder)
        .map_err(|error| format!("failed to enter `{}`: {error}", folder.display()))?;
    for name in &launch.withheld {
        // SAFETY: the child has one thread.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in &launch.environment {
        // SAFETY: the child has one thread.
        unsafe { std::env::set_var(name, value) };
    }
    let mut kept = privileges::KEPT.to_vec();
    if let Some(namespaces) = namespaces {
        // Behind the mounts, which belong to the namespace that is left here.
        namespaces.enter_user().map_err(|error| format!("failed to enter the user namespace: {error}"))?;
        kept.extend(launch.seal.iter().flat_map(|seal| &seal.capabilities).map(|kept| privileges::of(*kept)));
    }
    if let Some(user) = &launch.user {
        privileges::become_user(user)
            .map_err(|error| format!("failed to become `{}`: {}", user.name, error.desc()))?;
    }
    privileges::drop_capabilities(&kept).map_err(|error| format!("failed to drop capabilities: {error}"))?;
    let act = |act: &'static str| move |error: Errno| format!("failed to {act}: {}", error.desc());
    nix::sys::prctl::set_no_new_privs().map_err(act("set no_new_privs"))?;
    bind_to_launcher(launcher).map_err(act("bind the agent to its launcher"))?;
    privileges::close_descriptors()
        .map_err(|error| format!("failed to close inherited descriptors: {error}"))?;
    // Whatever the daemon says: what does not run here is left nothing.
    let hooks_run = filter::hooks_run();
    if !(hooks_run && launch.recorded.abstract_sockets) {
        scope::cut_off()
            .map_err(|error| format!("failed to cut the agent off from abstract sockets: {error}"))?;
    }
    let filter = if hooks_run { &filters.rest } else { &filters.whole };
    seccompiler::apply_filter(filter).map_err(|error| format!("failed to apply the seccomp filter: {error}"))
}

/// The namespaces of a sealed agent, opened while they can be seen.
struct Namespaces {
    network: fs::File,
    user: fs::File,
}

impl Namespaces {
    fn open(seal: &Seal) -> Result<Self, LaunchError> {
        let open = |path: &PathBuf| {
            fs::File::open(path).map_err(|error| LaunchError::Namespace(path.clone(), error))
        };
        Ok(Self { network: open(&seal.network)?, user: open(&seal.user)? })
    }

    /// The network's, and one of cgroups whose root is the agent's own.
    fn enter_network(&self) -> Result<(), Errno> {
        setns(&self.network, CloneFlags::CLONE_NEWNET)?;
        unshare(CloneFlags::CLONE_NEWCGROUP)
    }

    fn enter_user(self) -> Result<(), Errno> {
        setns(&self.user, CloneFlags::CLONE_NEWUSER)
    }
}

/// Has the kernel end this process with its launcher, which holds the other end of the pipe.
///
/// A launcher that ended before it was asked would go unseen, and the number of the parent tells
/// nothing across process id namespaces. The kernel closes files before it tells children of the
/// end (kernel/exit.c, do_exit), so the pipe shows every end that no signal will.
fn bind_to_launcher(launcher: OwnedFd) -> Result<(), Errno> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    match read(launcher, &mut [0]) {
        Err(Errno::EAGAIN) => Ok(()),
        Ok(_) => Err(Errno::ESRCH),
        Err(error) => Err(error),
    }
}

/// Starts the program, forwards signals to it, and reaps what it leaves; returns its exit code.
fn be_init(program: &CString, arguments: &[CString]) -> Result<i32, String> {
    // Its memory is the launcher's: what is withheld from the agent's environment still stands there. Whoever executes
    // a program is dumpable again.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|error| format!("failed to close the memory of init: {}", error.desc()))?;
    // SAFETY: this process has one thread.
    let forked = unsafe { fork() }.map_err(|error| format!("failed to fork: {}", error.desc()))?;
    match forked {
        ForkResult::Child => {
            reset_signals()?;
            Ok(execute(program, arguments))
        }
        ForkResult::Parent { child } => {
            let signals = Signals::block().map_err(|error| error.to_string())?;
            let code = signals.forward_until_exit(child, Reap::All).map_err(|error| error.to_string())?;
            Ok(i32::from(code))
        }
    }
}

/// The launcher blocked signals to forward them; the program starts with none blocked or ignored.
fn reset_signals() -> Result<(), String> {
    // SAFETY: restoring the default action runs none of our code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }
        .and_then(|_| sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None))
        .map_err(|error| format!("failed to reset signals: {}", error.desc()))
}

/// Returns only when the program could not be executed.
fn execute(program: &CString, arguments: &[CString]) -> i32 {
    let error = match execvp(program, arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    complain(&format!("failed to run `{}`: {}", program.to_string_lossy(), error.desc()));
    if error == Errno::ENOENT { STATUS_NOT_FOUND } else { STATUS_NOT_EXECUTABLE }
}

fn complain(failure: &str) {
    // Where stderr is closed, nobody is left to tell; a panic here would unwind into the launcher's code.
    let _ = writeln!(io::stderr(), "egressctl: {failure}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_that_has_ended_is_noticed() {
        let bind = |launcher_lives| {
            let (watched, held) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
            let held = Some(held).filter(|_| launcher_lives);
            // In a thread: the binding is the thread's own, and ends with it.
            let bound = std::thread::spawn(|| bind_to_launcher(watched)).join().unwrap();
            drop(held);
            bound
        };
        assert_eq!(bind(true), Ok(()));
        assert_eq!(bind(false), Err(Errno::ESRCH));
    }
}
