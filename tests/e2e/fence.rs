//! The real daemon, and agents that the real `egressctl run` starts.

use crate::{
    lab::Lab,
    places,
    program::{self, Outcome, Program, poll_for},
    traces,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The two programs under test.
#[derive(Debug, Clone)]
pub struct Programs {
    pub egressd: PathBuf,
    pub egressctl: PathBuf,
}

/// A lab whose host runs egressd.
pub struct Fence {
    daemon: Program,
    programs: Programs,
    policy: PathBuf,
    flags: &'static [&'static str],
    // Last, so that the daemon ends before the namespaces go.
    lab: Lab,
}

impl Fence {
    /// Starts the daemon with `policy` and returns when it answers.
    ///
    /// # Panics
    /// With all that the daemon said, when it does not answer within [`READY`].
    pub fn start(lab: Lab, programs: Programs, policy: &str) -> Self {
        Self::start_with(lab, programs, policy, &[])
    }

    /// The same, with flags of the daemon's own.
    pub fn start_with(lab: Lab, programs: Programs, policy: &str, flags: &'static [&'static str]) -> Self {
        let path = lab.folder().join("policy.yaml");
        fs::write(&path, policy).expect("the policy can be written");
        let daemon = launch(&lab, &programs, &path, flags);
        let mut fence = Self { daemon, programs, policy: path, flags, lab };
        fence.wait_until_ready();
        fence
    }

    /// Starts the daemon with these flags and no policy file.
    ///
    /// # Panics
    /// See [`Fence::start`].
    pub fn start_without_policy(lab: Lab, programs: Programs, flags: &'static [&'static str]) -> Self {
        let path = lab.folder().join("no-policy.yaml");
        let daemon = launch(&lab, &programs, &path, flags);
        let mut fence = Self { daemon, programs, policy: path, flags, lab };
        fence.wait_until_ready();
        fence
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The agent called `name`. It is served by the policy of that name, or by the default.
    pub fn agent<'a>(&'a self, name: &'a str) -> Agent<'a> {
        Agent { fence: self, name, flags: &[], stage: "" }
    }

    /// Runs `egressctl` beside the agents.
    pub fn ctl(&self, arguments: &[&str]) -> Outcome {
        program::run(self.ctl_command(arguments))
    }

    /// `egressctl` beside the agents, not started yet.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.bare_command(&text(&self.programs.egressctl));
        command.arg("--socket").arg(self.socket()).args(arguments);
        command
    }

    /// Replaces the policy file and asks the daemon to read it.
    pub fn reload(&self, policy: &str) -> Outcome {
        self.write_policy(policy);
        self.ctl(&["reload"])
    }

    /// Replaces the policy file, and tells nobody.
    pub fn write_policy(&self, policy: &str) {
        fs::write(&self.policy, policy).expect("the policy can be written");
    }

    /// Kills the daemon with no chance to clean up.
    pub fn kill(&mut self) {
        self.daemon.signal(Signal::SIGKILL);
        self.wait_until_gone();
    }

    /// Asks the daemon to end, and waits until it has.
    pub fn shut_down(&mut self) {
        self.daemon.signal(Signal::SIGTERM);
        self.wait_until_gone();
    }

    /// Starts the daemon again after [`Self::kill`] or [`Self::shut_down`].
    pub fn restart(&mut self) {
        self.launch();
        self.wait_until_ready();
    }

    /// The same, with other flags.
    pub fn restart_with(&mut self, flags: &'static [&'static str]) {
        self.flags = flags;
        self.restart();
    }

    /// Starts the daemon again, and does not wait for it.
    pub fn launch(&mut self) {
        self.daemon = launch(&self.lab, &self.programs, &self.policy, self.flags);
    }

    /// Starts the daemon again, where it should not come up, and returns how it ended.
    pub fn restart_in_vain(&mut self) -> Outcome {
        launch(&self.lab, &self.programs, &self.policy, self.flags).finish()
    }

    /// Another daemon on this host, not started yet.
    pub fn another_daemon(&self) -> Command {
        let mut command = self.lab.bare_command(&text(&self.programs.egressd));
        let folder = self.lab.folder().join("another");
        command.arg("--policy").arg(&self.policy).arg("--run-dir").arg(folder.join("run"));
        command.arg("--audit-log").arg(folder.join(AUDIT_LOG));
        command.args(["--upstream", &places::DNS.v4.to_string()]);
        command.args(["--instance", &format!("{}-another", self.lab.name())]);
        command
    }

    pub fn daemon(&self) -> &Program {
        &self.daemon
    }

    pub fn daemon_mut(&mut self) -> &mut Program {
        &mut self.daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.lab.folder().join("run/control.sock")
    }

    pub fn audit_log(&self) -> PathBuf {
        self.lab.folder().join(AUDIT_LOG)
    }

    /// The cgroup above the agents.
    pub fn cgroup(&self) -> PathBuf {
        let name = format!("egressd-{}", self.lab.name());
        traces::cgroups().into_iter().find(|path| path.ends_with(&name)).expect("the daemon made it")
    }

    /// Those right below it, but the canary's.
    pub fn agent_cgroups(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.cgroup()).expect("the cgroup is there").flatten();
        let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        folders.filter(|path| !path.ends_with(".canary")).collect()
    }

    pub fn egressctl(&self) -> &Path {
        &self.programs.egressctl
    }

    fn wait_until_ready(&mut self) {
        let ready = poll_for(READY, || {
            let answers = self.ctl(&["status", "-q"]).succeeded();
            (answers || self.daemon.has_ended()).then_some(answers)
        });
        assert_eq!(
            ready,
            Some(true),
            "egressd is not ready: {}{}",
            self.daemon.stdout(),
            self.daemon.stderr()
        );
    }

    fn wait_until_gone(&mut self) {
        program::poll("the end of egressd", || self.daemon.has_ended().then_some(()));
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        // It leaves the fence closed, however it ends: what it left is removed below.
        let _ = nix::sys::signal::kill(self.daemon.pid(), Signal::SIGKILL);
        let _ = poll_for(READY, || self.daemon.has_ended().then_some(()));
        traces::remove(self.lab.name());
    }
}

/// Starts programs as one agent, each in a fresh cgroup.
#[derive(Clone, Copy)]
pub struct Agent<'a> {
    fence: &'a Fence,
    name: &'a str,
    flags: &'a [&'a str],
    stage: &'a str,
}

impl<'a> Agent<'a> {
    /// The same agent, started with these flags of `egressctl run`.
    pub fn with(self, flags: &'a [&'a str]) -> Self {
        Self { flags, ..self }
    }

    /// The same agent, started by a shell that runs this script first, outside the fence but in
    /// the agent's mount namespace.
    pub fn staged(self, stage: &'a str) -> Self {
        Self { stage, ..self }
    }

    pub fn fence(&self) -> &'a Fence {
        self.fence
    }

    /// Runs a shell script to its end.
    pub fn run(&self, script: &str) -> Outcome {
        program::run(self.command(&["bash", "-c", script]))
    }

    /// Starts a program, with a pipe as its input.
    pub fn spawn(&self, arguments: &[&str]) -> Program {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        Program::start(command)
    }

    /// `egressctl run` of a program, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let (egressctl, socket) = (text(&self.fence.programs.egressctl), text(&self.fence.socket()));
        let run = [egressctl.as_str(), "--socket", &socket, "run", "--agent", self.name];
        self.fence.lab.staged_command(self.stage, &[&run[..], self.flags, &["--"], arguments].concat())
    }

    /// The records of this agent's denials so far, oldest first.
    pub fn denials(&self) -> Vec<Value> {
        let mut records = self.records();
        records.retain(|record| record["verdict"] == "deny");
        records
    }

    /// The records of this agent so far, oldest first.
    pub fn records(&self) -> Vec<Value> {
        let outcome = self.fence.ctl(&["tail", "-n", "1000", "--agent", self.name, "-o", "json"]);
        // Of an agent that does not run yet, and of one that has ended and was denied nothing, there is none.
        if outcome.stderr.contains("no record is of one") {
            return Vec::new();
        }
        assert!(outcome.succeeded(), "the tail should work: {outcome:#?}");
        let records = outcome.stdout.lines().map(serde_json::from_str::<Value>);
        records.map(|record| record.expect("the tail prints a JSON object a line")).collect()
    }

    /// The first record that `is_meant`, which has to show within a second.
    pub fn record(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let found = poll_for(Duration::from_secs(1), || self.records().into_iter().find(|r| is_meant(r)));
        found.unwrap_or_else(|| panic!("no record of {what} among {:#?}", self.records()))
    }

    /// The first denial that `is_meant`, which has to show within a second.
    pub fn denial(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let found = poll_for(Duration::from_secs(1), || self.denials().into_iter().find(|r| is_meant(r)));
        found.unwrap_or_else(|| panic!("no record of {what} among {:#?}", self.denials()))
    }
}

fn launch(lab: &Lab, programs: &Programs, policy: &Path, flags: &[&str]) -> Program {
    let mut command = lab.bare_command(&text(&programs.egressd));
    command.args(flags);
    if policy.exists() {
        command.arg("--policy").arg(policy);
    }
    command.arg("--run-dir").arg(lab.folder().join("run"));
    command.arg("--audit-log").arg(lab.folder().join(AUDIT_LOG));
    if !flags.contains(&"--upstream") {
        command.args(["--upstream", &places::DNS.v4.to_string()]);
    }
    command.args(["--instance", lab.name()]);
    Program::start(command)
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths of the build are UTF-8").to_owned()
}

/// How long the daemon may take to answer, even on a busy machine.
const READY: Duration = Duration::from_secs(60);
const AUDIT_LOG: &str = "audit.jsonl";
