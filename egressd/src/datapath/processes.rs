//! Which programs processes run, as `/proc` says at the moment.

use crate::policy::{AgentId, Process};
use nix::{
    fcntl::{AT_FDCWD, OFlag, openat, readlinkat},
    sys::stat::Mode,
};
use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What `/proc` still says of a process; else what the kernel wrote down.
#[must_use]
pub fn process(pid: u32, command: String) -> Process {
    let executable = std::fs::read_link(executable(pid)).ok().map(|path| path.display().to_string());
    let line = File::open(arguments(pid)).and_then(|file| line(&file)).ok().flatten();
    Process { pid, executable, command: line.unwrap_or(command) }
}

/// The same, for processes that start one flow after another: their files stay open, for to open them takes
/// longer than to read them.
///
/// Nothing that was read is kept, because a process may become another program (execve(2)) and write over
/// its arguments; and files of `/proc` are those of one process, never of the next that has its number.
#[derive(Debug, Default)]
pub struct Processes {
    agents: Mutex<HashMap<AgentId, VecDeque<Known>>>,
}

impl Processes {
    /// As [`process`], for a process of `agent`.
    #[must_use]
    pub fn read(&self, agent: AgentId, pid: u32, command: String) -> Process {
        let Some(files) = self.files(agent, pid) else { return process(pid, command) };
        match (files.executable(), line(&files.arguments)) {
            (Some(executable), Ok(Some(command))) => Process { pid, executable: Some(executable), command },
            // It has ended, or did while its files were opened.
            (_, Ok(_) | Err(_)) => {
                self.forget_process(agent, pid);
                process(pid, command)
            }
        }
    }

    /// Forgets the processes of an agent that is gone.
    pub fn forget(&self, agent: AgentId) {
        self.lock().remove(&agent);
    }

    /// The files of a process that has been asked for before.
    fn files(&self, agent: AgentId, pid: u32) -> Option<Arc<Files>> {
        let mut agents = self.lock();
        let known = agents.entry(agent).or_default();
        match known.iter().position(|known| known.pid == pid) {
            Some(place) => {
                known.swap(0, place);
                let files = &mut known[0].files;
                *files = files.take().or_else(|| Some(Arc::new(Files::open(pid).ok()?)));
                files.clone()
            }
            // Most processes start one flow, and end.
            None => {
                known.truncate(MAX_PROCESSES - 1);
                known.push_front(Known { pid, files: None });
                None
            }
        }
    }

    fn forget_process(&self, agent: AgentId, pid: u32) {
        if let Some(known) = self.lock().get_mut(&agent) {
            known.retain(|known| known.pid != pid);
        }
    }

    // Entries are changed whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, VecDeque<Known>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most processes of one agent whose files stay open, two each: less than a hundredth of the descriptors
/// that its flows may take.
const MAX_PROCESSES: usize = 8;

/// Octets of a command line that a record keeps.
const MAX_COMMAND: usize = 512;

#[derive(Debug)]
struct Known {
    pid: u32,
    /// None until it is asked for again.
    files: Option<Arc<Files>>,
}

/// What `/proc` has of one process, whatever number others have later.
#[derive(Debug)]
struct Files {
    /// The link itself, not what it stands for.
    executable: OwnedFd,
    arguments: File,
}

impl Files {
    fn open(pid: u32) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let executable = openat(AT_FDCWD, executable(pid).as_str(), flags, Mode::empty())?;
        Ok(Self { executable, arguments: File::open(arguments(pid))? })
    }

    fn executable(&self) -> Option<String> {
        let path = readlinkat(&self.executable, "").ok()?;
        Some(path.to_string_lossy().into_owned())
    }
}

/// The begin of a command line, arguments joined by spaces; None of a process that has ended, or never had one.
fn line(arguments: &File) -> io::Result<Option<String>> {
    let mut octets = [0; MAX_COMMAND];
    let length = arguments.read_at(&mut octets, 0)?;
    let line = String::from_utf8_lossy(&octets[..length]);
    Ok((length > 0).then(|| line.trim_end_matches('\0').replace('\0', " ")))
}

fn executable(pid: u32) -> String {
    format!("/proc/{pid}/exe")
}

fn arguments(pid: u32) -> String {
    format!("/proc/{pid}/cmdline")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    #[test]
    fn a_process_that_becomes_another_program_is_told_as_that_one() {
        let processes = Processes::default();
        let mut child = Ended(child("read line; exec sleep 1000"));
        let told = |child: &Ended| processes.read(AGENT, child.0.id(), COMM.to_owned());
        let becomes = |child: &Ended, command: &str| {
            let end = Instant::now() + Duration::from_secs(30);
            while told(child).command != command {
                assert!(Instant::now() < end, "{:?}", told(child));
                std::thread::yield_now();
            }
        };
        // A process that is just becoming a program has no arguments yet.
        becomes(&child, "bash -c read line; exec sleep 1000");
        for _ in 0..3 {
            assert_eq!(told(&child), process(child.0.id(), COMM.to_owned()));
        }
        drop(child.0.stdin.take());
        becomes(&child, "sleep 1000");
        assert_eq!(told(&child), process(child.0.id(), COMM.to_owned()));
        assert!(told(&child).executable.is_some_and(|path| !path.contains("bash")));
    }

    #[test]
    fn of_a_process_that_ended_only_what_the_kernel_wrote_down_is_told() {
        let processes = Processes::default();
        let child = Ended(child("read line"));
        let pid = child.0.id();
        let told = || processes.read(AGENT, pid, COMM.to_owned());
        assert!((0..3).all(|_| told().executable.is_some()));
        drop(child);
        assert_eq!(told(), Process { pid, executable: None, command: COMM.to_owned() });
        assert!(processes.lock()[&AGENT].iter().all(|known| known.pid != pid || known.files.is_none()));
    }

    #[test]
    fn the_files_of_few_processes_of_an_agent_stay_open_and_none_of_an_agent_that_is_gone() {
        let processes = Processes::default();
        let own = std::process::id();
        for pid in (0..100).flat_map(|number| [own, own, 1_000_000_000 + number]) {
            let told = processes.read(AGENT, pid, COMM.to_owned());
            assert_eq!(told.executable.is_some(), pid == own);
            assert!(processes.lock()[&AGENT].len() <= MAX_PROCESSES);
        }
        processes.forget(AGENT);
        assert!(processes.lock().is_empty());
    }

    const AGENT: AgentId = AgentId(7);
    const COMM: &str = "comm";

    fn child(script: &str) -> Child {
        Command::new("bash").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell")
    }

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
