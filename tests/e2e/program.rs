//! Programs under a deadline, and waiting without sleeping for a fixed time.

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    fs::File,
    os::unix::{
        fs::FileExt,
        process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// A program that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// As a shell says it: 128 and the signal where one killed the program.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    /// Whether either stream says `text`.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it lasts longer than [`DEADLINE`].
pub fn run(command: Command) -> Outcome {
    Program::start(command).finish()
}

/// A program that runs. It is killed, with the group that it leads, when it is dropped.
pub struct Program {
    child: Child,
    shown: String,
    started: Instant,
    // Files, not pipes: a grandchild that lives on must not hold us up.
    stdout: File,
    stderr: File,
    ended: bool,
}

impl Program {
    /// Starts `command` with its output kept in files, and with no input unless one was set.
    pub fn start(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        let file = || tempfile::tempfile().expect("a temporary file can be made");
        let (stdout, stderr) = (file(), file());
        let copy = |file: &File| file.try_clone().expect("a file can be cloned");
        command.stdout(copy(&stdout)).stderr(copy(&stderr)).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("failed to start {shown}: {error}"));
        Self { child, shown, started: Instant::now(), stdout, stderr, ended: false }
    }

    /// Whether `command` succeeds. Its output is the test's own.
    pub fn status(command: &mut Command) -> bool {
        command.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the program lasts longer than [`DEADLINE`].
    pub fn finish(self) -> Outcome {
        let shown = self.shown.clone();
        self.finish_in_time().unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for the end of {shown}"))
    }

    /// Waits for the end; None when the program had to be killed after [`DEADLINE`].
    pub fn finish_in_time(mut self) -> Option<Outcome> {
        let status = poll_for(DEADLINE, || self.try_wait())?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        let took = self.started.elapsed();
        Some(Outcome { code, took, stdout: self.stdout(), stderr: self.stderr() })
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// What it has complained about so far.
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    pub fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("the program was started with a pipe as its input")
    }

    /// The end of its input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub fn has_ended(&mut self) -> bool {
        self.try_wait().is_some()
    }

    /// Sends `signal` to the program alone, not to what it started.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).expect("the program runs");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("pids are positive"))
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the child can be waited for");
        self.ended |= status.is_some();
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.ended {
            let _ = killpg(self.pid(), Signal::SIGKILL);
            let _ = self.child.wait();
            // What it started may hold an address that the next one needs.
            let _ = poll_for(Duration::from_secs(1), || killpg(self.pid(), None).is_err().then_some(()));
        }
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// Says `what` did not come about within [`DEADLINE`].
pub fn poll<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll_for(DEADLINE, ask).unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Asks until there is an answer, or `time` is over.
pub fn poll_for<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// # Panics
/// Names the Debian packages whose tools are missing.
pub fn require_tools() {
    let missing: Vec<String> = TOOLS
        .iter()
        .filter(|(tool, _)| !FOLDERS.iter().any(|folder| std::path::Path::new(folder).join(tool).exists()))
        .map(|(tool, package)| format!("`{tool}` (Debian package {package})"))
        .collect();
    assert!(missing.is_empty(), "the lab needs {}", missing.join(", "));
}

fn contents(file: &File) -> String {
    // Read at an offset of our own: the program writes at the one that the handles share.
    let length = file.metadata().expect("a file has metadata").len();
    let mut bytes = vec![0; usize::try_from(length).expect("output fits into memory")];
    file.read_exact_at(&mut bytes, 0).expect("output can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// No program of a scenario, and nothing that it waits for, takes longer, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

const TOOLS: [(&str, &str); 30] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("nsd", "nsd"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
    ("socat", "socat"),
    ("dns2tcpc", "dns2tcp"),
    ("iodine", "iodine"),
    ("python3", "python3"),
    ("ping", "iputils-ping"),
    ("setpriv", "util-linux"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("hping3", "hping3"),
    ("ncat", "ncat"),
    ("nping", "nmap"),
    ("arpspoof", "dsniff"),
    ("mptcpize", "mptcpize"),
    ("scapy", "python3-scapy"),
    ("kdig", "knot-dnsutils"),
    ("tmux", "tmux"),
    ("dbus-daemon", "dbus-daemon"),
    ("dbus-send", "dbus-bin"),
    ("git", "git"),
    ("ssh", "openssh-client"),
    ("fcgiwrap", "fcgiwrap"),
    ("dropbear", "dropbear-bin"),
];
