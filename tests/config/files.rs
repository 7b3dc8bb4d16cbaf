//! How policy files are found and read.

use egressd::{
    config::{MAX_FILE, load, load_dir},
    policy::AgentName,
};
use nix::{sys::stat::Mode, unistd::mkfifo};
use std::{fs, path::Path};
use tempfile::tempdir;

const POLICY: &str = "version: 1\nagents:\n  default:\n    include: [mine]\n";
const ALLOWLIST: &str = "version: 1\nname: mine\nrules:\n  - host: a.example\n";

#[test]
fn an_allowlist_beside_the_policy_wins_over_the_configured_folders() {
    let (policies, shared) = (tempdir().unwrap(), tempdir().unwrap());
    let file = write(policies.path(), "policy.yaml", POLICY);
    write(shared.path(), "mine.yaml", ALLOWLIST);
    let loaded = load(std::slice::from_ref(&file), &[shared.path().to_owned()]).unwrap();
    let default = AgentName::parse("default").unwrap();
    assert_eq!(loaded.for_agent(&default).allow()[0].subject.to_string(), "a.example");

    fs::create_dir(policies.path().join("allowlists")).unwrap();
    write(policies.path(), "allowlists/mine.yaml", &ALLOWLIST.replace("a.example", "b.example"));
    let loaded = load(&[file], &[shared.path().to_owned()]).unwrap();
    assert_eq!(loaded.for_agent(&default).allow()[0].subject.to_string(), "b.example");
}

#[test]
fn a_role_of_one_file_is_extended_in_another() {
    let folder = tempdir().unwrap();
    let agents = write(folder.path(), "a.yaml", "version: 1\nagents: {build: {extends: [base]}}\n");
    let roles = write(folder.path(), "b.yaml", "version: 1\nroles: {base: {rules: [{host: a.example}]}}\n");
    let loaded = load(&[agents.clone(), roles.clone()], &[]).unwrap();
    let policy = loaded.for_agent(&AgentName::parse("build").unwrap());
    assert!(policy.allow()[0].source.to_string().ends_with("b.yaml:2"));
    assert!(load(std::slice::from_ref(&agents), &[]).unwrap_err().to_string().contains("no role `base`"));
    let again = write(folder.path(), "c.yaml", "version: 1\nroles: {base: {}}\n");
    let error = load(&[agents, roles, again], &[]).unwrap_err().to_string();
    assert!(error.contains("there is a role `base` already") && error.contains("b.yaml:2"), "{error}");
}

#[test]
fn two_files_with_a_policy_for_one_agent_are_refused() {
    let folder = tempdir().unwrap();
    let files = ["a.yaml", "b.yaml"].map(|name| write(folder.path(), name, "version: 1\nagents: {x: {}}\n"));
    let error = load(&files, &[]).unwrap_err();
    assert_eq!(error.diagnostics()[0].title(), "agent `x` has a policy already");
    assert!(error.to_string().contains("a.yaml:2") && error.to_string().contains("b.yaml:2"), "{error}");
}

#[test]
fn mistakes_in_two_files_are_shown_together() {
    let folder = tempdir().unwrap();
    let files = ["a.yaml", "b.yaml"].map(|name| write(folder.path(), name, "version: 3\nagents: {}\n"));
    let missing = folder.path().join("missing.yaml");
    let error = load(&[files[0].clone(), missing, files[1].clone()], &[]).unwrap_err();
    assert_eq!(
        error.diagnostics().iter().map(|wrong| wrong.line()).collect::<Vec<_>>(),
        [Some(1), None, Some(1)]
    );
}

#[test]
fn only_regular_files_of_bounded_size_are_read() {
    let folder = tempdir().unwrap();
    let fifo = folder.path().join("fifo.yaml");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    refuses(&fifo, "not a regular file");
    refuses(folder.path(), "not a regular file");
    refuses(Path::new("/dev/zero"), "not a regular file");
    refuses(&folder.path().join("missing.yaml"), "No such file");
    let large = write(folder.path(), "large.yaml", &" ".repeat(usize::try_from(MAX_FILE).unwrap() + 1));
    refuses(&large, "larger than");
    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    refuses(&binary, "not UTF-8");
}

#[test]
fn a_folder_lists_its_yaml_files_in_order() {
    let folder = tempdir().unwrap();
    for name in ["b.yaml", "a.yaml", "a.yaml.bak", ".hidden.yaml", "notes.txt"] {
        write(folder.path(), name, "");
    }
    let wanted = ["a.yaml", "b.yaml"].map(|name| folder.path().join(name));
    assert_eq!(load_dir(folder.path()).unwrap(), wanted);
    assert!(load_dir(&folder.path().join("missing")).is_err());
}

#[test]
fn a_secret_is_read_from_a_file_beside_the_policy_without_its_newline() {
    let folder = tempdir().unwrap();
    write(folder.path(), "key", "correct-horse\n");
    let policy = |file: &str| {
        let text =
            format!("version: 1\nagents:\n  default:\n    secrets: [{{name: deploy-key, file: {file}}}]\n");
        load(&[write(folder.path(), "policy.yaml", &text)], &[])
    };
    let loaded = policy("key").unwrap();
    let terms = loaded.for_agent(&AgentName::parse("any").unwrap()).leaks().clone();
    assert_eq!(terms.secrets.found_in("x.correct-horse.example"), Some("deploy-key"));
    assert!(!format!("{loaded:?}").contains("correct"), "nothing that is printed shows a secret");
    write(folder.path(), "key", "battery-staple\n");
    assert_ne!(policy("key").unwrap(), loaded, "a reload sees another secret");

    write(folder.path(), "short", "horse\r\n");
    write(folder.path(), "long", &"x".repeat(4099));
    mkfifo(&folder.path().join("fifo"), Mode::S_IRWXU).unwrap();
    for (file, why) in [
        ("missing", "failed to learn secret `deploy-key`"),
        ("missing", "No such file"),
        ("fifo", "not a regular file"),
        ("short", "it has 5 bytes"),
        ("long", "at most 4096 bytes"),
    ] {
        let shown = policy(file).unwrap_err().to_string();
        assert!(shown.contains(why) && shown.contains("policy.yaml:4:"), "{shown}");
        assert!(shown.contains("deploy-key"), "{shown}");
    }
    write(folder.path(), "longest", &format!("{}\r\n", "x".repeat(4096)));
    assert!(policy("longest").is_ok());
}

fn refuses(path: &Path, why: &str) {
    let shown = load(&[path.to_owned()], &[]).unwrap_err().to_string();
    assert!(shown.contains(why) && shown.contains(path.to_str().unwrap()), "{shown}");
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}
