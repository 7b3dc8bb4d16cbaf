//! Real repositories, real signatures, and commits that mean harm.

use super::*;
use crate::config::DaemonConfig;
use std::{
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
};

#[test]
fn a_commit_that_an_allowed_key_signed_is_a_candidate_and_no_other() {
    let lab = Lab::new("verify: signed");
    lab.commit("p/a.yaml", POLICY, Some("ada"));
    let source = lab.source();
    let first = enter(&source);
    assert_eq!(source.history()[0].signer.as_deref(), Some("ada@example.com"));
    assert_eq!(source.history()[0].subject, "change p/a.yaml");
    lab.commit("p/a.yaml", OTHER, None);
    is_refused(&source, "is not signed");
    lab.commit("p/a.yaml", OTHER, Some("eve"));
    is_refused(&source, "is not signed by an allowed key");
    assert_eq!(source.files().unwrap().tree.revision, first);
    lab.commit("p/a.yaml", OTHER, Some("ada"));
    assert_ne!(enter(&source), first);
}

#[test]
fn keys_of_the_repository_allow_nobody() {
    let lab = Lab::new("verify: signed");
    let keys = fs::read_to_string(lab.at("signers")).unwrap();
    let eve = fs::read_to_string(lab.at("eve.pub")).unwrap();
    lab.commit("signers", &format!("{keys}eve@example.com {eve}"), None);
    lab.git(&["config", "gpg.ssh.allowedSignersFile", &lab.at("repository/signers").display().to_string()]);
    lab.commit("p/a.yaml", POLICY, Some("eve"));
    is_refused(&lab.source(), "is not signed by an allowed key");
}

#[test]
fn a_key_that_was_taken_away_counts_no_more() {
    let lab = Lab::new("verify: signed");
    lab.commit("p/a.yaml", POLICY, Some("ada"));
    let source = lab.source();
    enter(&source);
    fs::write(lab.at("signers"), "").unwrap();
    drop(source);
    let refused = lab.source().remembered().unwrap().unwrap_err();
    assert!(refused.why.contains("is not signed by an allowed key"), "{refused:?}");
}

#[test]
fn a_key_whose_time_is_over_signs_nothing_more_whatever_date_it_writes() {
    let lab = Lab::new("verify: signed");
    let keys = fs::read_to_string(lab.at("signers")).unwrap();
    let eve = fs::read_to_string(lab.at("eve.pub")).unwrap();
    let eve_until = |end: &str| {
        let eve = format!("eve@example.com namespaces=\"git\",valid-before=\"{end}\" {eve}");
        fs::write(lab.at("signers"), format!("{keys}{eve}")).unwrap();
    };
    lab.commit("p/a.yaml", POLICY, Some("ada"));
    let source = lab.source();
    let first = enter(&source);
    eve_until("20250101");
    lab.commit("p/a.yaml", OTHER, Some("eve"));
    is_refused(&source, "is not signed by an allowed key");
    lab.commit_at("2024-06-01T00:00:00Z", "p/a.yaml", "version: 1\nagents: {}\n", "eve");
    let commit = lab.git(&["rev-parse", "HEAD"]);
    let signers = format!("gpg.ssh.allowedSignersFile={}", lab.at("signers").display());
    lab.git(&["-c", &signers, "verify-commit", commit.trim()]);
    is_refused(&source, "`eve@example.com`, whose key may not sign today");
    assert_eq!(source.files().unwrap().tree.revision, first);
    eve_until("29990101");
    let second = enter(&source);
    assert_ne!(second, first, "as long as it may sign it does");
    eve_until("20250101");
    drop(source);
    let source = lab.source();
    let remembered = source.remembered().unwrap().unwrap();
    assert_eq!(remembered.files.tree.revision, second, "what it signed in its time stays in force");
    source.stays(remembered);
    source.rolled_back(source.past(Some(first.as_str())).unwrap());
    source.unpin().unwrap();
    assert_eq!(enter(&source), second, "and is found again after a rollback");
}

#[test]
fn keys_that_others_may_write_allow_nobody() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give files to others");
        return;
    }
    let lab = Lab::new("verify: signed");
    lab.commit("p/a.yaml", POLICY, Some("ada"));
    let source = lab.source();
    enter(&source);
    lab.commit("p/a.yaml", OTHER, Some("ada"));
    fs::set_permissions(lab.at("signers"), fs::Permissions::from_mode(0o666)).unwrap();
    is_refused(&source, "which others than root may write");
    fs::set_permissions(lab.at("signers"), fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(lab.at("signers"), Some(64_321), None).unwrap();
    is_refused(&source, "which others than root may write");
    assert!(lab.source().remembered().unwrap().is_err(), "also where a daemon starts");
    std::os::unix::fs::chown(lab.at("signers"), Some(0), None).unwrap();
    enter(&source);
}

#[test]
fn whoever_pushes_without_a_key_does_not_fill_the_repository_for_those_who_have_one() {
    let lab = Lab::new("verify: signed");
    lab.commit("p/a.yaml", POLICY, Some("ada"));
    let mut source = lab.source();
    let first = enter(&source);
    lab.commit("p/a.yaml", OTHER, Some("ada"));
    enter(&source);
    let good = lab.git(&["rev-parse", "HEAD"]);
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    fs::write(lab.at("repository/junk"), noise.take(3 << 20).collect::<Vec<u8>>()).unwrap();
    lab.commit_all();
    is_refused(&source, "is not signed");
    let store = lab.at("state/source/default/store");
    fs::write(store.join("objects/pack/tmp_pack_cut"), vec![1; 1 << 20]).unwrap();
    source.store.bound = 1 << 20;
    lab.git(&["reset", "--quiet", "--hard", good.trim()]);
    lab.commit("p/a.yaml", "version: 1\nagents: {}\n", Some("ada"));
    enter(&source);
    assert!(!store.join("objects/pack/tmp_pack_cut").exists(), "what is left of a fetch that was cut goes");
    assert_eq!(
        source.past(Some(first.as_str())).unwrap().files.tree.revision,
        first,
        "what was in force stays"
    );
    assert!(source.newest().unwrap().is_none(), "there is room");
}

#[test]
fn a_ref_that_goes_back_or_was_rewritten_is_refused() {
    let lab = Lab::new("verify: none");
    lab.commit("p/a.yaml", POLICY, None);
    lab.commit("p/a.yaml", OTHER, None);
    let source = lab.source();
    let newest = enter(&source);
    lab.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    is_refused(&source, "went back, or was rewritten");
    lab.commit("p/a.yaml", "version: 1\nagents: {}\n", None);
    is_refused(&source, "went back, or was rewritten");
    drop(source);
    is_refused(&lab.source(), "went back, or was rewritten");
    let free = Lab { options: "verify: none, allow_rewrite: true".to_owned(), ..lab };
    assert_ne!(enter(&free.source()), newest);
}

#[test]
fn a_rollback_finds_what_was_in_force_and_newer_commits_wait() {
    let lab = Lab::new("verify: none");
    let source = lab.source();
    lab.commit("p/a.yaml", POLICY, None);
    let first = enter(&source);
    lab.commit("p/a.yaml", OTHER, None);
    let second = enter(&source);
    let candidate = source.past(None).unwrap();
    assert_eq!(candidate.files.tree.revision, first);
    assert_eq!(fs::read_to_string(&candidate.files.files[0]).unwrap(), POLICY);
    source.rolled_back(candidate);
    assert!(source.newest().unwrap().is_none());
    assert_eq!(source.status().waiting.as_deref(), Some(second.as_str()));
    drop(source);
    let source = lab.source();
    assert_eq!(source.remembered().unwrap().unwrap().files.tree.revision, first, "also for the next daemon");
    assert!(source.newest().unwrap().is_none());
    source.unpin().unwrap();
    assert_eq!(enter(&source), second);
}

#[test]
fn what_is_no_file_of_the_repository_is_refused() {
    let lab = Lab::new("verify: none");
    lab.commit("p/a.yaml", POLICY, None);
    let source = lab.source();
    enter(&source);
    symlink("/etc/shadow", lab.at("repository/p/b.yaml")).unwrap();
    lab.commit_all();
    is_refused(&source, "`p/b.yaml` is no file but a link");
    fs::remove_file(lab.at("repository/p/b.yaml")).unwrap();
    lab.commit("p/b.yaml", &"#".repeat(2 << 20), None);
    is_refused(&source, "larger than");
    lab.git(&["rm", "--quiet", "p/b.yaml"]);
    let commit = lab.git(&["rev-parse", "HEAD"]);
    lab.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},p/sub.yaml", commit.trim())]);
    lab.git(&["commit", "--quiet", "-m", "a submodule"]);
    is_refused(&source, "submodule");
    lab.git(&["rm", "--quiet", "--cached", "p/sub.yaml"]);
    fs::create_dir_all(lab.at("repository/p/allowlists")).unwrap();
    symlink("/etc", lab.at("repository/p/allowlists/etc.yaml")).unwrap();
    lab.commit_all();
    is_refused(&source, "`p/allowlists/etc.yaml` is no file but a link");
    lab.git(&["rm", "--quiet", "-r", "p"]);
    lab.commit("elsewhere", "1", None);
    is_refused(&source, "there is no folder `p`");
    lab.commit("p/none.txt", "1", None);
    is_refused(&source, "holds no policy file");
}

#[test]
fn nothing_of_a_repository_is_run() {
    let lab = Lab::new("verify: none");
    let ran = lab.at("ran");
    fs::write(&ran, "").unwrap();
    fs::set_permissions(&ran, fs::Permissions::from_mode(0o666)).unwrap();
    let program = lab.at("program");
    fs::write(&program, format!("#!/bin/sh\necho \"$0 $@\" >> {}\ncat\n", ran.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = program.display().to_string();
    fs::create_dir_all(lab.at("repository/.git/hooks")).unwrap();
    for hook in ["post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-update"] {
        symlink(&program, lab.at("repository/.git/hooks").join(hook)).unwrap();
    }
    lab.commit(".gitattributes", "*.yaml filter=evil diff=evil text eol=crlf\n", None);
    lab.commit("p/a.yaml", POLICY, None);
    for (key, value) in [
        ("filter.evil.smudge", path.as_str()),
        ("diff.evil.textconv", &path),
        ("uploadpack.packObjectsHook", &path),
        ("core.fsmonitor", &path),
        ("core.alternateRefsCommand", &path),
    ] {
        lab.git(&["config", key, value]);
    }
    fs::write(&ran, "").unwrap();
    let source = lab.source();
    enter(&source);
    let files = source.files().unwrap();
    assert_eq!(fs::read_to_string(&files.files[0]).unwrap(), POLICY, "as it was committed, octet by octet");
    assert_eq!(fs::read_to_string(&ran).unwrap(), "", "nothing was run");
    lab.git(&["checkout", "--quiet", "-b", "twin"]);
    assert_ne!(fs::read_to_string(&ran).unwrap(), "", "who works in the repository runs it");
}

#[test]
fn a_remote_that_cannot_be_asked_changes_nothing() {
    let lab = Lab::new("verify: none");
    lab.commit("p/a.yaml", POLICY, None);
    let source = lab.source();
    let first = enter(&source);
    fs::rename(lab.at("repository"), lab.at("away")).unwrap();
    let refused = source.newest().unwrap_err();
    assert!(refused.commit.is_none(), "{refused:?}");
    source.refused(&refused);
    assert!(source.status().failure.is_some());
    fs::rename(lab.at("away"), lab.at("repository")).unwrap();
    assert!(source.newest().unwrap().is_none());
    source.is_well();
    let status = source.status();
    assert_eq!((status.failure, status.revision.as_deref()), (None, Some(first.as_str())));
}

/// Puts the newest commit in force, as a daemon does that compiled it.
fn enter(source: &Source) -> Revision {
    let candidate = source.newest().unwrap().expect("there is a newer commit");
    let revision = candidate.files.tree.revision.clone();
    source.entered(candidate);
    revision
}

fn is_refused(source: &Source, why: &str) {
    let refused = source.newest().expect_err(why);
    assert!(refused.why.contains(why), "{why}: {refused:?}");
    assert!(refused.commit.is_some());
}

const POLICY: &str = "version: 1\nagents:\n  default:\n    rules: []\n";
const OTHER: &str = "version: 1\nagents:\n  other:\n    rules: []\n";

/// A folder with a repository, keys of `ada` and `eve`, and what a daemon keeps.
struct Lab {
    folder: tempfile::TempDir,
    options: String,
}

impl Lab {
    fn new(options: &str) -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap(), options: options.to_owned() };
        // git is somebody else.
        fs::set_permissions(lab.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(lab.at("repository")).unwrap();
        lab.git(&["init", "--quiet", "--initial-branch=main"]);
        for name in ["ada", "eve"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(lab.at(name));
            assert!(keygen.status().unwrap().success());
        }
        let ada = fs::read_to_string(lab.at("ada.pub")).unwrap();
        fs::write(lab.at("signers"), format!("ada@example.com namespaces=\"git\" {ada}")).unwrap();
        lab
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn source(&self) -> Source {
        let keys = match self.options.contains("signed") {
            true => format!(", keys: {}", self.at("signers").display()),
            false => String::new(),
        };
        let repository = self.at("repository");
        let text = format!(
            "version: 1\nsource: {{git: {}, path: p, {}{keys}}}\n",
            repository.display(),
            self.options
        );
        fs::write(self.at("egressd.yaml"), text).unwrap();
        let config = DaemonConfig::load(&self.at("egressd.yaml")).unwrap();
        Source::at(config.source.unwrap(), &self.at("state/source/default")).unwrap()
    }

    /// Commits a file with this text, signed with the key of somebody.
    fn commit(&self, path: &str, text: &str, signer: Option<&str>) {
        let file = self.at("repository").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self.git(&["add", "--all"]);
        let key = signer.map(|signer| format!("user.signingkey={}", self.at(signer).display()));
        let message = format!("change {path}");
        match &key {
            Some(key) => self.git(&["-c", key, "commit", "--quiet", "--allow-empty", "-S", "-m", &message]),
            None => self.git(&["commit", "--quiet", "--allow-empty", "-m", &message]),
        };
    }

    /// The same, dated as whoever signs likes.
    fn commit_at(&self, date: &str, path: &str, text: &str, signer: &str) {
        fs::write(self.at("repository").join(path), text).unwrap();
        let key = format!("user.signingkey={}", self.at(signer).display());
        let mut git = self.git_command(&["-c", &key, "commit", "--quiet", "--all", "-S", "-m", "long ago"]);
        assert!(git.env("GIT_COMMITTER_DATE", date).status().unwrap().success());
    }

    fn commit_all(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "-m", "everything"]);
    }

    /// git, as somebody who works in the repository.
    fn git(&self, arguments: &[&str]) -> String {
        let output = self.git_command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn git_command(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir(self.at("repository"));
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "gpg.format=ssh"]);
        git.args(arguments);
        git
    }
}
