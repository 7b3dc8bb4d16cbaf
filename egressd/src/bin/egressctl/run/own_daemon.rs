//! A daemon for the life of one command, where none answers.

use anyhow::{Context, bail};
use egressd::control::{Client, ClientError};
use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Ends the daemon when dropped. It leaves nothing behind but its log.
#[derive(Debug)]
pub struct OwnDaemon {
    pub client: Client,
    daemon: Child,
}

/// How long a daemon may take to load its programs and compile its policies.
const START: Duration = Duration::from_secs(30);

impl OwnDaemon {
    /// Starts a daemon, unless one answers `client`.
    pub fn unless_one_answers(client: &Client, upstream: &[String]) -> anyhow::Result<Option<Self>> {
        match client.status() {
            Ok(_) => Ok(None),
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
        let mut command = Command::new(&program);
        command
            .arg("--for-command")
            .args(["--instance", &instance])
            .arg("--run-dir")
            .arg(&run_dir)
            .arg("--audit-log")
            .arg(format!("{LOGS}/{instance}.jsonl"))
            .args(upstream.iter().flat_map(|address| ["--upstream", address]))
            .env("EGRESSD_LOG", std::env::var("EGRESSD_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Signals of the terminal are for the program; we end the daemon after it.
            .process_group(0);
        let daemon = command.spawn().with_context(|| format!("failed to start `{}`", program.display()))?;
        let client = Client::new(run_dir.join("control.sock"))?;
        let mut own = Self { client, daemon };
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
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.daemon.id()).map(nix::unistd::Pid::from_raw);
        let asked =
            pid.is_ok_and(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).is_ok());
        if asked {
            // It removes what it made; if it cannot be waited for, there is nothing to wait for.
            let _ = self.daemon.wait();
        }
    }
}

/// Where a daemon for one command leaves its log.
const LOGS: &str = "/var/log/egressd";

/// The logs of earlier commands that are kept.
const KEPT_LOGS: usize = 50;

fn forget_old_logs() {
    let Ok(entries) = std::fs::read_dir(LOGS) else { return };
    let is_ours = |name: &str| name.starts_with("run-") && name.ends_with(".jsonl");
    let mut logs: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    logs.sort();
    let surplus = logs.len().saturating_sub(KEPT_LOGS);
    for (_, path) in logs.into_iter().take(surplus) {
        // It may be gone already: another command forgets at the same time.
        let _ = std::fs::remove_file(path);
    }
}

/// The program `name` in our own folder, else wherever PATH has it.
fn beside_us(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}
