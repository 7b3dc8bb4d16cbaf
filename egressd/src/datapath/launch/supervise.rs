//! Between a program's start and its end: its signals, and its exit code.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Signals that we take for a program. Blocked before it starts, so that none is lost in between.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
}

/// Whose ends are taken note of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reap {
    /// The child alone: others are somebody else's to wait for.
    Child,
    /// Everything, as an init does: orphans are its children.
    All,
}

/// Why a program could not be waited for.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("failed to block signals: {0}")]
    Block(Errno),
    #[error("failed to wait for the agent: {0}")]
    Wait(Errno),
}

/// What people and service managers send; SIGCHLD tells of the agent itself.
const TAKEN: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

impl Signals {
    /// # Errors
    /// The kernel has no descriptor left for the queue.
    pub fn block() -> Result<Self, SuperviseError> {
        let set: SigSet = TAKEN.into_iter().collect();
        set.thread_block().map_err(SuperviseError::Block)?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(SuperviseError::Block)?;
        Ok(Self { queue })
    }

    /// Forwards signals to `child` until it ends; returns its exit code, as shells count it.
    ///
    /// # Errors
    /// Signals or children cannot be waited for.
    pub fn forward_until_exit(&self, child: Pid, reap: Reap) -> Result<u8, SuperviseError> {
        loop {
            let taken = match self.queue.read_signal() {
                Ok(Some(taken)) => taken,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(SuperviseError::Wait(error)),
            };
            let signal = i32::try_from(taken.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGCHLD) => {
                    if let Some(code) = exit_code(child, reap)? {
                        return Ok(code);
                    }
                }
                // The terminal sends to its whole foreground group: the agent has it already.
                Some(_) if taken.ssi_code == SI_KERNEL => {}
                Some(signal) => {
                    // It may have ended meanwhile; then SIGCHLD is next.
                    let _ = kill(child, signal);
                }
                None => {}
            }
        }
    }
}

/// include/uapi/asm-generic/siginfo.h: sent by the kernel.
const SI_KERNEL: i32 = 0x80;

/// The exit code of `child`, once it has ended.
fn exit_code(child: Pid, reap: Reap) -> Result<Option<u8>, SuperviseError> {
    let whom = match reap {
        Reap::Child => Some(child),
        Reap::All => None,
    };
    loop {
        let status = waitpid(whom, Some(WaitPidFlag::WNOHANG)).map_err(SuperviseError::Wait)?;
        let (pid, code) = match status {
            WaitStatus::Exited(pid, code) => (pid, code),
            WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
            WaitStatus::StillAlive => return Ok(None),
            WaitStatus::Stopped(..)
            | WaitStatus::Continued(_)
            | WaitStatus::PtraceEvent(..)
            | WaitStatus::PtraceSyscall(_) => continue,
        };
        if pid == child {
            return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX)));
        }
    }
}
