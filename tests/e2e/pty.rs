//! A program on a terminal of its own.

use nix::{
    pty::openpty,
    sys::termios::{Termios, tcgetattr},
    unistd::setsid,
};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// It is killed when this is dropped.
pub struct Pty {
    terminal: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// How much of it was looked at.
    seen: usize,
}

impl Pty {
    /// Starts `command` as the leader of a session on a new terminal.
    ///
    /// # Panics
    /// The kernel has no terminal, or the program does not start.
    pub fn start(mut command: Command) -> Self {
        let pair = openpty(None, None).expect("the kernel has terminals");
        let end = || Stdio::from(pair.slave.try_clone().expect("a descriptor can be cloned"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: three system calls, which allocate nothing.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let terminal = File::from(pair.master);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let mut reader = terminal.try_clone().expect("a descriptor can be cloned");
        let into = Arc::clone(&shown);
        thread::spawn(move || {
            let mut octets = [0; 4096];
            // An error is the end: nobody has the other end open.
            while let Ok(length @ 1..) = reader.read(&mut octets) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&octets[..length]);
            }
        });
        Self { terminal, child, shown, seen: 0 }
    }

    /// As from its keyboard.
    pub fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until it shows `text`, and returns what it showed up to there since the last time.
    pub fn shows(&mut self, text: &str) -> String {
        wait_for(|| {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let new = String::from_utf8_lossy(&shown[self.seen..]).into_owned();
            let end = new.find(text)? + text.len();
            self.seen += end;
            Some(new[..end].to_owned())
        })
        .unwrap_or_else(|| {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            panic!("waited in vain for `{text}`: {}", String::from_utf8_lossy(&shown))
        })
    }

    /// How the terminal is set.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.terminal).expect("a terminal has settings")
    }

    /// Waits for the end of the program: its exit code, or the signal that ended it.
    pub fn wait(&mut self) -> (Option<i32>, Option<i32>) {
        let status = wait_for(|| self.child.try_wait().expect("the child can be waited for"));
        let status = status.expect("the program ends");
        (status.code(), status.signal())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the calling process the leader of a session whose terminal is its input.
fn lead() -> io::Result<()> {
    setsid()?;
    // A shell that starts tests in the background has them ignore it.
    // SAFETY: the default action calls nothing of ours.
    unsafe { nix::libc::signal(nix::libc::SIGINT, nix::libc::SIG_DFL) };
    // SAFETY: takes a number.
    match unsafe { nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() > deadline {
            return answer;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
