//! The real `egressctl`, run to its end or read line by line.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

/// Time for a line to come or a program to end: generous, for the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn all(&self) -> (i32, &str, &str) {
        (self.code, &self.stdout, &self.stderr)
    }
}

/// Runs `egressctl` with `arguments` to its end.
pub fn run(socket: &Path, arguments: &[&str]) -> Outcome {
    outcome(command(socket, arguments))
}

/// The same in `folder`.
pub fn run_in(folder: &Path, socket: &Path, arguments: &[&str]) -> Outcome {
    let mut command = command(socket, arguments);
    command.current_dir(folder);
    outcome(command)
}

fn outcome(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// An `egressctl` that runs; it is killed with this value.
pub struct Program {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    stderr: Receiver<String>,
}

impl Program {
    pub fn start(socket: &Path, arguments: &[&str]) -> Self {
        let mut command = command(socket, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = lines_of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The next line of its stdout.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of its stderr.
    pub fn complaint(&mut self) -> String {
        self.stderr.recv_timeout(DEADLINE).unwrap()
    }

    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn rest_of_stderr(&mut self) -> String {
        self.stderr.iter().collect()
    }

    pub fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egressctl"));
    command.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    command
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
