//! A daemon for the life of one command, where none answers.

use crate::output::complain;
use anyhow::{Context, anyhow, bail};
use egressd::control::{Client, ClientError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

/// Ends the daemon when dropped. It leaves nothing behind but its log.
#[derive(Debug)]
pub struct OwnDaemon {
    pub client: Client,
    /// Where its log is left.
    pub log: PathBuf,
    daemon: Child,
}

/// How long a daemon may take to load its programs and compile its policies.
const START: Duration = Duration::from_secs(30);

impl OwnDaemon {
    /// Starts a daemon, unless one answers `client`.
    pub fn unless_one_answers(client: &Client, upstream: &[String]) -> anyhow::Result<Option<Self>> {
        // Not its status, for which it looks at everything that it has put in force.
        match client.agents() {
            Ok(_) => {
                if !upstream.is_empty() {
                    complain(&anyhow!(
                        "a daemon answers already and has its own resolvers: `--upstream` is not used"
                    ));
                }
                Ok(None)
            }
            Err(ClientError::NoDaemon { .. }) => Self::start(upstream).map(Some),
            Err(error) => Err(error.into()),
        }
    }

    fn start(upstream: &[String]) -> anyhow::Result<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            bail!("no daemon answers, and only root can start one: try again with `sudo`");
        }
        let instance = format!("run-{}", std::process::id());
        forget_old_logs();
        // Below the folder that no agent of any daemon sees.
        let run_dir = PathBuf::from("/run/egressd").join(&instance);
        let program = beside_us("egressd");
        let log = Path::new(LOGS).join(format!("{instance}.jsonl"));
        let mut command = Command::new(&program);
        command
            .arg("--for-command")
            .args(["--instance", &instance])
            .arg("--run-dir")
            .arg(&run_dir)
            .arg("--audit-log")
            .arg(&log)
            .args(upstream.iter().flat_map(|address| ["--upstream", address]))
            .env("EGRESSD_LOG", std::env::var("EGRESSD_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Signals of the terminal are for the program; we end the daemon after it.
            .process_group(0);
        let client = Client::new(run_dir.join("control.sock"))?;
        let daemon = command.spawn().with_context(|| format!("failed to start `{}`", program.display()))?;
        let mut own = Self { client, log, daemon };
        own.wait_until_ready()?;
        Ok(own)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            if self.client.status().is_ok() {
                return Ok(());
            }
            if let Some(status) = self.daemon.try_wait()? {
                bail!("the daemon for this command ended at once ({status})");
            }
            if Instant::now() > deadline {
                bail!("the daemon for this command was not ready within {} seconds", START.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks the daemon to end and waits for it; false if it does not end in time.
    fn ends_when_asked(&mut self) -> bool {
        let Ok(pid) = i32::try_from(self.daemon.id()).map(Pid::from_raw) else { return false };
        let deadline = Instant::now() + STOP;
        // Looked at first: who has been waited for has lost its number, maybe to another process.
        let mut ended = self.daemon.try_wait();
        if matches!(ended, Ok(None)) && kill(pid, Signal::SIGTERM).is_err() {
            return false;
        }
        while matches!(ended, Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
            ended = self.daemon.try_wait();
        }
        matches!(ended, Ok(Some(_)))
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        if !self.ends_when_asked() {
            complain(&anyhow!("the daemon for this command did not end by itself: it is killed"));
            // It may end meanwhile. What its programs pinned stays closed.
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

/// How long a daemon may take to end its agents and to remove what it made.
const STOP: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(5);

/// Where a daemon for one command leaves its log.
const LOGS: &str = "/var/log/egressd";

/// The logs of earlier commands that are kept.
const KEPT_LOGS: usize = 50;

fn forget_old_logs() {
    for path in surplus_logs(Path::new(LOGS)) {
        // It may be gone already: another command forgets at the same time.
        let _ = std::fs::remove_file(path);
    }
}

/// The logs of commands before the last [`KEPT_LOGS`], with what was rotated away from them.
fn surplus_logs(folder: &Path) -> Vec<PathBuf> {
    let mut commands: BTreeMap<String, (SystemTime, Vec<PathBuf>)> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(command) = entry.file_name().to_str().and_then(command_of) else { continue };
        let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        let (latest, paths) = commands.entry(command).or_insert((modified, Vec::new()));
        *latest = modified.max(*latest);
        paths.push(entry.path());
    }
    let mut commands: Vec<_> = commands.into_values().collect();
    commands.sort();
    let surplus = commands.len().saturating_sub(KEPT_LOGS);
    commands.into_iter().take(surplus).flat_map(|(_, paths)| paths).collect()
}

/// The command whose log a file is: `run-42` of `run-42.jsonl` and `run-42.jsonl.1`.
fn command_of(file: &str) -> Option<String> {
    let (command, rest) = file.split_once(".jsonl")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    let is_log = rest.is_empty() || rest.strip_prefix('.').is_some_and(is_number);
    (is_log && command.strip_prefix("run-").is_some_and(is_number)).then(|| command.to_owned())
}

/// The program `name` in our own folder, else wherever PATH has it.
fn beside_us(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, write};

    #[test]
    fn logs_are_forgotten_by_the_command_with_what_was_rotated_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for number in 0..=KEPT_LOGS as u64 {
            for name in [format!("run-{number}.jsonl"), format!("run-{number}.jsonl.1")] {
                File::create(path(&name)).unwrap().set_modified(at(1000 + number)).unwrap();
            }
        }
        for other in ["audit.jsonl", "run-.jsonl", "run-1.jsonl.next", "run-x.jsonl"] {
            write(path(other), "").unwrap();
        }
        let mut surplus = surplus_logs(folder.path());
        surplus.sort();
        assert_eq!(surplus, [path("run-0.jsonl"), path("run-0.jsonl.1")]);
        // A file that was rotated away is as old as its last record; the command is not.
        File::options().write(true).open(path("run-0.jsonl")).unwrap().set_modified(at(5000)).unwrap();
        assert!(surplus_logs(folder.path()).contains(&path("run-1.jsonl")));
        assert!(!surplus_logs(folder.path()).contains(&path("run-0.jsonl.1")));
    }
}
