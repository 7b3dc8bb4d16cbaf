//! Policies from a repository with signed commits, while agents live.

use crate::{
    AGENT, fence::Fence, lab::Lab, policies::with, program, program::poll, programs, reload::cut,
    talker::Talker,
};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

#[test]
fn a_signed_commit_is_in_force_and_cuts_what_it_no_longer_allows() {
    let (fence, repository) = fence(&[OK, DB], "interval: 1s");
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("say before");
    talker.fails("fetch https://alt.test/");
    let commit = repository.commit(&with(&[OK, ALT]), Some("ada"));
    poll("the commit", || (revision(&fence) == commit).then_some(()));
    cut(&mut talker, "say after");
    talker.does("fetch https://alt.test/");
    talker.fails("keep db.test 5432");
    assert!(fence.ctl(&["status", "-q"]).succeeded());
}

#[test]
fn every_record_bears_the_revision_that_judged() {
    let (fence, repository) = fence(&[OK], "interval: never");
    let agent = fence.agent(AGENT);
    let mut talker = Talker::start(&agent);
    talker.fails("fetch https://alt.test/");
    let first = repository.head();
    let denial = agent.denial("the first denial", |record| record["reason"] == "host-not-allowed");
    assert_eq!(denial["revision"], short(&first), "{denial:#}");
    let second = repository.commit(&with(&[OK, ALT]), Some("ada"));
    assert!(fence.ctl(&["reload"]).succeeded(), "a hook of the repository asks for it");
    talker.does("fetch https://alt.test/");
    let records = fence.ctl(&["tail", "-n", "1000", "--agent", AGENT, "--all", "-o", "json"]);
    let mut records = records.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let rule = format!("p/policy.yaml:6@{}", short(&second));
    let is_by_it = |record: &Value| record["rule"] == rule.as_str() && record["revision"] == short(&second);
    assert!(records.any(|record| is_by_it(&record)), "a flow by {rule}");
    let explained = fence.ctl(&["explain", "alt.test", "--agent", AGENT]);
    assert!(explained.says(&rule), "{explained:#?}");
}

#[test]
fn a_commit_that_is_not_signed_or_rewritten_changes_nothing_and_is_in_the_status() {
    let (fence, repository) = fence(&[OK], "interval: 1s");
    let first = repository.head();
    let mut talker = Talker::start(&fence.agent(AGENT));
    for (signer, why) in [(None, "is not signed"), (Some("eve"), "is not signed by an allowed key")] {
        let commit = repository.commit(&with(&[OK, ALT]), signer);
        let status = poll("the failure", || failure(&fence, &commit));
        assert!(status.contains(why), "{status}");
        let asked = fence.ctl(&["reload"]);
        assert!(!asked.succeeded() && asked.says(why), "{asked:#?}");
        let history = fence.ctl(&["policy", "history"]);
        assert!(history.says("refused") && history.says(short(&commit)), "{history:#?}");
        assert_eq!(revision(&fence), first);
        figures(&fence, &["egressd_policy_refused 1", &in_force(&first)]);
        talker.does("fetch https://ok.test/");
        talker.fails("fetch https://alt.test/");
    }
    let told = format!("{}{}", fence.daemon().stdout(), fence.daemon().stderr());
    assert!(told.contains("is not signed"), "it is in the log: {told}");
    repository.git(&["reset", "--quiet", "--hard", &first]);
    let second = repository.commit(&with(&[OK, ALT]), Some("ada"));
    poll("the good commit", || (revision(&fence) == second).then_some(()));
    poll("a good status", || fence.ctl(&["status", "-q"]).succeeded().then_some(()));
    figures(&fence, &["egressd_policy_refused 0", &in_force(&second)]);
    talker.does("fetch https://alt.test/");
    repository.git(&["reset", "--quiet", "--hard", &first]);
    let status = poll("the failure", || failure(&fence, &first));
    assert!(status.contains("went back, or was rewritten"), "{status}");
    talker.does("fetch https://alt.test/");
}

#[test]
fn a_broken_commit_changes_nothing_and_is_in_the_status_with_its_place() {
    let (fence, repository) = fence(&[OK], "interval: 1s");
    let mut talker = Talker::start(&fence.agent(AGENT));
    let commit = repository.commit(&with(&[OK, "{host: alt.test, privat: true}"]), Some("ada"));
    let status = poll("the failure", || failure(&fence, &commit));
    assert!(status.contains("p/policy.yaml:6") && status.contains("privat"), "file, line and word: {status}");
    assert!(fence.ctl(&["policy", "history"]).says("unknown key"));
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
}

#[test]
fn a_rollback_is_one_command_and_lasts_until_the_next_one_says_otherwise() {
    let (mut fence, repository) = fence(&[OK], "interval: 1s");
    let first = repository.head();
    let second = repository.commit(&with(&[OK, ALT]), Some("ada"));
    poll("the commit", || (revision(&fence) == second).then_some(()));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("fetch https://alt.test/");
    let rolled_back = fence.ctl(&["policy", "rollback"]);
    assert!(rolled_back.succeeded(), "{rolled_back:#?}");
    assert_eq!(revision(&fence), first);
    talker.fails("fetch https://alt.test/");
    let third = repository.commit(&with(&[OK, ALT, DB]), Some("ada"));
    poll("the commit that waits", || (source(&fence)["waiting"] == third.as_str()).then_some(()));
    fence.kill();
    fence.restart();
    assert_eq!(revision(&fence), first, "also for the next daemon");
    talker.fails("fetch https://alt.test/");
    assert!(!fence.ctl(&["policy", "rollback", "0123456789"]).succeeded(), "it was never in force");
    assert!(fence.ctl(&["policy", "follow"]).succeeded());
    assert_eq!(revision(&fence), third);
    talker.does("fetch https://alt.test/");
}

/// A fence whose policies come from the repository, and the repository.
fn fence(rules: &[&str], option: &str) -> (Fence, Repository) {
    let lab = Lab::new();
    // git is somebody else.
    fs::set_permissions(lab.folder(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let folder = lab.folder().join("git");
    let repository = Repository::new(folder.clone());
    repository.commit(&with(rules), Some("ada"));
    let config = lab.folder().join("egressd.yaml");
    let text = format!(
        "version: 1\nstate_dir: {}\nsource:\n  git: {}\n  path: p\n  verify: signed\n  keys: {}\n  {option}\n",
        lab.folder().join("state").display(),
        folder.join("repository").display(),
        folder.join("signers").display()
    );
    fs::write(&config, text).expect("a file of the lab");
    let flags: &'static [&'static str] = vec!["--config", &*config.display().to_string().leak()].leak();
    (Fence::start_without_policy(lab, programs(), flags), repository)
}

/// What the status says of the repository.
pub fn source(fence: &Fence) -> Value {
    let status = fence.ctl(&["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    status["source"].clone()
}

/// The commit in force.
pub fn revision(fence: &Fence) -> String {
    source(fence)["revision"].as_str().unwrap_or_default().to_owned()
}

/// Each of `lines` is told to monitors.
fn figures(fence: &Fence, lines: &[&str]) {
    let metrics = fence.ctl(&["metrics"]).stdout;
    for wanted in lines {
        assert!(metrics.lines().any(|line| line == *wanted), "{wanted}: {metrics}");
    }
}

fn in_force(commit: &str) -> String {
    format!("egressd_policy_info{{revision=\"{commit}\",source=\"git\"}} 1")
}

/// The status, if it is not healthy because of `commit`.
fn failure(fence: &Fence, commit: &str) -> Option<String> {
    let status = fence.ctl(&["status"]);
    (!status.succeeded() && status.says(&format!("{} is not in force", short(commit))))
        .then_some(status.stdout)
}

/// As records have it.
pub fn short(commit: &str) -> &str {
    &commit[..12]
}

/// A repository with a folder `p` of policies, and keys of `ada`, who is allowed, and `eve`, who is not.
pub struct Repository(PathBuf);

impl Repository {
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(folder.join("repository/p")).expect("a folder of the lab");
        let repository = Self(folder);
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        for name in ["ada", "eve"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(repository.0.join(name));
            assert!(program::run(keygen).succeeded(), "ssh-keygen makes a key");
        }
        let ada = fs::read_to_string(repository.0.join("ada.pub")).expect("a key");
        fs::write(repository.0.join("signers"), format!("ada@example.com namespaces=\"git\" {ada}"))
            .expect("a file of the lab");
        repository
    }

    /// Commits this policy, signed with the key of somebody, and returns the commit.
    pub fn commit(&self, policy: &str, signer: Option<&str>) -> String {
        fs::write(self.0.join("repository/p/policy.yaml"), policy).expect("a file of the lab");
        self.git(&["add", "--all"]);
        let key = format!("user.signingkey={}", self.0.join(signer.unwrap_or("none")).display());
        let commit = ["-c", &key, "commit", "--quiet", "--allow-empty", "-m", "a change"];
        match signer {
            Some(_) => self.git(&[&commit[..], &["-S"]].concat()),
            None => self.git(&commit),
        };
        self.head()
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir(self.0.join("repository"));
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "gpg.format=ssh"]);
        git.args(arguments);
        let outcome = program::run(git);
        assert!(outcome.succeeded(), "{arguments:?}: {outcome:#?}");
        outcome.stdout
    }
}

pub const OK: &str = "{host: ok.test, private: true}";
pub const ALT: &str = "{host: alt.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
