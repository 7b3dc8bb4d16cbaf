//! What a bench made goes when it ends, however it ends.

use crate::lab;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

/// Runs this program once more, as `--supervised`, and cleans up behind it: it may be killed anywhere. A signal that
/// ends this process ends that one first.
pub fn run() -> ExitCode {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD]
        .into_iter()
        .for_each(|s| signals.add(s));
    signals.thread_block().expect("signals can be held back");
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg(SUPERVISED);
    let mut child = command.spawn().expect("this program can be run");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are positive"));
    let code = loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Ok(Some(status)) = child.try_wait() {
                    break code(status);
                }
            }
            Ok(signal) => drop(kill(pid, signal)),
            Err(_) => {}
        }
    };
    lab::remove_leftovers();
    ExitCode::from(code)
}

const SUPERVISED: &str = "--supervised";

/// How the child ended, as a shell says it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(1)
}
