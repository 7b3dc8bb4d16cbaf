//! Every verb, where it cannot do what it is asked: its exit code, and the words on stderr.

use crate::{fake::Server, program::run, socket};
use std::fs;

#[test]
fn every_verb_says_that_no_daemon_answers() {
    let (_folder, socket) = socket();
    for (verb, code) in [
        ("agents", 2),
        ("tail", 2),
        ("tail -f", 2),
        ("explain ok.test", 2),
        ("allow ok.test --agent build --for 1h --reason why", 2),
        ("grants", 2),
        ("revoke 1", 2),
        ("revoke --all --agent build", 2),
        ("approvals", 2),
        ("approvals list", 2),
        ("approvals approve 1-kxwb", 2),
        ("approvals deny 1-kxwb", 2),
        ("suggest", 2),
        ("policy history", 2),
        ("policy rollback", 2),
        ("policy follow", 2),
        ("leaks", 2),
        ("leaks approve build", 2),
        ("budgets", 2),
        ("adopt /sys/fs/cgroup/job", 2),
        ("release job --yes", 2),
        ("reload", 2),
        ("status", 1),
    ] {
        let outcome = run(&socket, &words(verb));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{verb}: {outcome:?}");
        assert!(outcome.stderr.starts_with("egressctl: no daemon answers at `"), "{verb}: {outcome:?}");
        is_in_shape(verb, &outcome.stderr);
    }
}

#[test]
fn every_verb_says_what_is_wrong_with_its_arguments() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    for (verb, code) in [
        ("", 2),
        ("nothing", 2),
        ("agents more", 2),
        ("tail --since yesterday", 2),
        ("tail --reason because", 2),
        ("explain", 2),
        ("allow", 2),
        ("allow ok.test --agent build --for ever --reason why", 2),
        ("allow ok.test:99999 --agent build --for 1h --reason why", 2),
        ("grants --agent", 2),
        ("revoke", 2),
        ("revoke all", 2),
        ("approvals approve all", 2),
        ("approvals approve 3-kxwb --once --for 1h", 2),
        ("approvals deny", 2),
        ("approvals watch more", 2),
        ("suggest --since yesterday", 2),
        ("suggest --patch p.yaml", 2),
        ("leaks approve", 2),
        ("budgets --agent", 2),
        ("adopt", 2),
        ("adopt /a --refuse --kill-sockets", 2),
        ("release", 2),
        ("reload now", 2),
        ("status --loud", 2),
        ("doctor --loud", 2),
        ("completions cmd", 2),
        ("man", 2),
        ("policy", 2),
        ("policy check --deny all", 2),
        ("policy diff a", 2),
        ("policy test --all", 2),
        ("policy fmt --all", 2),
        ("policy import --from nobody", 2),
        ("policy export --to nobody", 2),
        ("policy schema nothing", 2),
        ("policy history -n many", 2),
        ("policy rollback a b", 2),
        ("policy follow me", 2),
        ("run", 125),
        ("run --mode open -- true", 125),
        ("run --label team -- true", 125),
        ("run --uid nobody-is-called-so -- true", 125),
    ] {
        let outcome = run(&socket, &words(verb));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (code, ""), "{verb}: {outcome:?}");
        is_in_shape(verb, &outcome.stderr);
    }
}

#[test]
fn every_verb_names_the_file_that_it_cannot_read() {
    let (folder, socket) = socket();
    let _server = Server::start(&socket);
    let broken = folder.path().join("broken.yaml");
    fs::write(&broken, "version: 1\nagents: [\n").unwrap();
    let missing = folder.path().join("missing.yaml");
    for (verb, code) in [
        ("explain ok.test --policy FILE", 2),
        ("suggest --log FILE", 2),
        ("approvals approve 3-kxwb --always --patch FILE", 2),
        ("policy check FILE", 2),
        ("policy diff FILE FILE", 2),
        ("policy test FILE", 2),
        ("policy fmt FILE", 2),
        ("policy import --from squid FILE", 2),
        ("policy export --to squid FILE", 2),
        ("run --policy FILE -- true", 125),
    ] {
        for file in [&missing, &broken] {
            // What is read as something else has no mistake of YAML.
            if file == &broken && ["policy import", "run "].iter().any(|other| verb.starts_with(other)) {
                continue;
            }
            let outcome = run(&socket, &words(&verb.replace("FILE", file.to_str().unwrap())));
            assert_eq!(outcome.code, code, "{verb}: {outcome:?}");
            let name = file.file_name().unwrap().to_str().unwrap();
            let names_it = outcome.stderr.contains(name) || verb.starts_with("suggest");
            assert!(names_it, "{verb}: {outcome:?}");
            is_in_shape(verb, &outcome.stderr);
        }
    }
}

fn words(verb: &str) -> Vec<&str> {
    verb.split_whitespace().collect()
}

/// Whether it says who speaks, in lower case and without a full stop, or is what the parser of arguments says.
fn is_in_shape(verb: &str, stderr: &str) {
    let first = stderr.lines().next().unwrap_or_default();
    let said = first.strip_prefix("egressctl: ").or_else(|| first.strip_prefix("error: "));
    // Without a verb there is help.
    let said = said.or_else(|| stderr.contains("Usage: egressctl").then_some("usage"));
    let said = said.unwrap_or_else(|| panic!("{verb}: {stderr}"));
    assert!(!said.starts_with(char::is_uppercase) && !said.ends_with('.'), "{verb}: {stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{verb}: {stderr}");
}
