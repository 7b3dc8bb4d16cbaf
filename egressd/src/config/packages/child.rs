//! Package tools as child processes, with bounds on time and output.

use super::ask::home;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Gid, Pid, Uid, User, geteuid},
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{self, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// Runs a tool. Implemented by [`Child`], and by tests.
pub trait Run: Send + Sync {
    /// What the tool printed.
    ///
    /// # Errors
    /// See [`ToolError`].
    fn run(&self, ask: &Ask<'_>) -> Result<String, ToolError>;
}

/// One question to a tool.
#[derive(Debug)]
pub struct Ask<'a> {
    pub program: &'a str,
    pub arguments: &'a [&'a str],
    /// Set on top of what the tool is given anyway.
    pub environment: &'a [(&'a str, OsString)],
}

/// Why a tool gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("`{0}` is not installed")]
    Missing(String),
    #[error("failed to run `{0}`: {1}")]
    Run(String, io::Error),
    #[error("`{0}` gave no answer within {DEADLINE_SECONDS} seconds")]
    Deadline(String),
    #[error("`{0}` printed more than {MAX_OUTPUT} octets")]
    Output(String),
    #[error("`{program}` failed: {message}")]
    Failed { program: String, message: String },
    #[error("`{0}` names no registry that can be reached over http or https")]
    NoRegistry(String),
}

/// Runs tools as children of this process, in the root folder, so that no configuration of a
/// folder that others can write to is picked up; for root, as the user whom HOME belongs to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Child;

impl Run for Child {
    fn run(&self, ask: &Ask<'_>) -> Result<String, ToolError> {
        let name = || ask.program.to_owned();
        let spawned = command(ask).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ToolError::Missing(name())),
            Err(error) => return Err(ToolError::Run(name(), error)),
        };
        let result = wait(ask.program, &mut child);
        // The whole group: tools are often scripts, and must not leave their children behind.
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        if result.is_err()
            && let Ok(group) = group
        {
            // ESRCH means that it has ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
        }
        result
    }
}

/// How long a tool may take, in seconds: it may have to ask a registry on a slow link.
const DEADLINE_SECONDS: u64 = 20;

/// The most that a tool may print, in octets: a hundred times what any of them does.
const MAX_OUTPUT: u64 = 4 << 20;

/// What tools read of the environment, besides HOME and PATH: their own settings, proxies and
/// certificates.
const KEPT: [&str; 16] = [
    "PIP_",
    "PYENV",
    "VIRTUAL_ENV",
    "NPM_CONFIG_",
    "npm_config_",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_",
    "RUSTUP_",
    "APT_CONFIG",
    "XDG_CONFIG_",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
];

/// The variables of this process's environment that tools are given.
pub(super) fn kept_environment() -> Vec<(OsString, OsString)> {
    let is_kept = |name: &OsString| {
        name == "HOME"
            || name == "PATH"
            || name.to_str().is_some_and(|name| KEPT.iter().any(|kept| name.starts_with(kept)))
    };
    let mut kept: Vec<_> = std::env::vars_os().filter(|(name, _)| is_kept(name)).collect();
    kept.sort();
    kept
}

/// Whom tools run as, where that is not who we are: PATH and HOME of a user may lead to programs
/// and settings that the user's agents wrote, which root must not run.
pub(super) fn user() -> Option<(Uid, Gid)> {
    if geteuid().is_root() { owner(&home()) } else { None }
}

/// Who owns `folder`, unless root does.
fn owner(folder: &Path) -> Option<(Uid, Gid)> {
    let uid = Uid::from_raw(fs::metadata(folder).ok()?.uid());
    if uid.is_root() {
        return None;
    }
    // Who has no entry in the list of users is in a group of the same number at most.
    let known = User::from_uid(uid).ok().flatten();
    Some((uid, known.map_or(Gid::from_raw(uid.as_raw()), |user| user.gid)))
}

fn command(ask: &Ask<'_>) -> Command {
    let mut command = Command::new(ask.program);
    if let Some((uid, gid)) = user() {
        // Command gives up every further group as it changes the user.
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command
        .args(ask.arguments)
        .env_clear()
        .envs(kept_environment())
        // One locale, and lines wide enough that no URL is broken.
        .env("LC_ALL", "C.UTF-8")
        .env("COLUMNS", "500")
        .envs(ask.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn wait(program: &str, child: &mut process::Child) -> Result<String, ToolError> {
    let until = Instant::now() + Duration::from_secs(DEADLINE_SECONDS);
    let output = child.stdout.take().map(collect);
    let errors = child.stderr.take().map(collect);
    let received = |pipe: Option<Receiver<Vec<u8>>>| {
        let left = until.saturating_duration_since(Instant::now());
        let octets = pipe.map_or(Ok(Vec::new()), |pipe| pipe.recv_timeout(left));
        octets.map_err(|_| ToolError::Deadline(program.to_owned()))
    };
    let output = received(output)?;
    if output.len() as u64 > MAX_OUTPUT {
        return Err(ToolError::Output(program.to_owned()));
    }
    let errors = received(errors)?;
    let status = loop {
        match child.try_wait().map_err(|error| ToolError::Run(program.to_owned(), error))? {
            Some(status) => break status,
            None if Instant::now() > until => return Err(ToolError::Deadline(program.to_owned())),
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    if status.success() {
        return Ok(String::from_utf8_lossy(&output).into_owned());
    }
    let message = last_line(&errors).unwrap_or_else(|| status.to_string());
    Err(ToolError::Failed { program: program.to_owned(), message })
}

/// Reads all of `pipe` in a thread of its own, up to one octet above the bound.
fn collect(pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut octets = Vec::new();
        // What came before an error still counts; nobody may be left to hear of it.
        let _ = pipe.take(MAX_OUTPUT + 1).read_to_end(&mut octets);
        let _ = sender.send(octets);
    });
    receiver
}

/// The last line that says something, without control characters, 200 characters of it.
fn last_line(errors: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(errors);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().filter(|letter| !letter.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_told_from_one_that_fails() {
        assert!(matches!(sh("no-such-tool-here", &[]), Err(ToolError::Missing(_))));
        let failed = sh("sh", &["-c", "echo first >&2; echo why >&2; exit 3"]).unwrap_err();
        assert_eq!(failed.to_string(), "`sh` failed: why");
        assert_eq!(sh("sh", &["-c", "echo out"]).unwrap(), "out\n");
    }

    #[test]
    fn a_tool_that_prints_without_end_is_ended() {
        assert!(matches!(
            sh("sh", &["-c", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done"]),
            Err(ToolError::Output(_))
        ));
    }

    #[test]
    fn a_tool_sees_little_of_the_environment() {
        let seen = sh("env", &[]).unwrap();
        assert!(seen.lines().any(|line| line.starts_with("PATH=")), "{seen}");
        // `cargo test` sets this one, so it would be seen if it were handed on.
        assert!(!seen.contains("LD_LIBRARY_PATH="), "{seen}");
    }

    #[test]
    fn a_home_of_another_user_is_not_asked_as_root() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give a folder away");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        assert_eq!(owner(home.path()), None);
        std::os::unix::fs::chown(home.path(), Some(64_321), Some(0)).unwrap();
        let (uid, gid) = owner(home.path()).unwrap();
        assert_eq!((uid.as_raw(), gid.as_raw()), (64_321, 64_321));
        let mut id = Command::new("id");
        id.arg("-G").uid(uid.as_raw()).gid(gid.as_raw());
        assert_eq!(id.output().unwrap().stdout, b"64321\n", "no further group is kept");
    }

    fn sh(program: &str, arguments: &[&str]) -> Result<String, ToolError> {
        Child.run(&Ask { program, arguments, environment: &[] })
    }
}
