//! Between a program's start and its end: its signals, and its exit code.

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Signals that we take for a program. Blocked before it starts, so that none is lost in between;
/// ours again when dropped.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
    /// What was blocked before.
    before: SigSet,
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
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(SuperviseError::Block)?;
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(SuperviseError::Block)?;
        Ok(Self { queue, before })
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

impl Drop for Signals {
    fn drop(&mut self) {
        // What came for a program that had ended must not end us before its exit code is told.
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        if let Ok(left) = SignalFd::with_flags(&TAKEN.into_iter().collect(), flags) {
            while let Ok(Some(_)) = left.read_signal() {}
        }
        // The mask was in force before, so the kernel takes it.
        let _ = self.before.thread_set_mask();
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn a_signal_that_comes_after_the_program_ended_is_forgotten_and_the_next_one_is_ours() {
        let before = SigSet::thread_get_mask().unwrap();
        let signals = Signals::block().unwrap();
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGUSR1));
        // To this thread alone, as the mask is.
        raise(Signal::SIGUSR1).unwrap();
        drop(signals);
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
