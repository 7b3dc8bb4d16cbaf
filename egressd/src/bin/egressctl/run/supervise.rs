//! Between the agent's start and its end: its signals, and its exit code.

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Signals that we take for the agent. Blocked before it starts, so that none is lost in between.
#[derive(Debug)]
pub struct Signals {
    queue: SignalFd,
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
    pub fn block() -> anyhow::Result<Self> {
        let set: SigSet = TAKEN.into_iter().collect();
        set.thread_block().context("failed to block signals")?;
        let queue = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("failed to queue signals")?;
        Ok(Self { queue })
    }

    /// Forwards signals to `child` until it ends; returns its exit code, as shells count it.
    pub fn forward_until_exit(&self, child: Pid) -> anyhow::Result<u8> {
        loop {
            let taken = match self.queue.read_signal() {
                Ok(Some(taken)) => taken,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).context("failed to wait for signals"),
            };
            let signal = i32::try_from(taken.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGCHLD) => {
                    if let Some(code) = exit_code(child)? {
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

fn exit_code(child: Pid) -> anyhow::Result<Option<u8>> {
    let status = waitpid(child, Some(WaitPidFlag::WNOHANG)).context("failed to wait for the agent")?;
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        WaitStatus::StillAlive
        | WaitStatus::Stopped(..)
        | WaitStatus::Continued(_)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_) => return Ok(None),
    };
    Ok(Some(u8::try_from(code).unwrap_or(u8::MAX)))
}
