//! Cases beside a policy.

use crate::{file, lint::now, policies};
use egressd::{
    authoring::{CaseFile, uncovered},
    config::load_dir,
};
use std::fs;

const POLICY: &str = "rules:
  - host: \"*.a.test\"
    ports: [443, 8443]
  - {host: db.test, protocol: tcp, ports: [5432]}
  - {host: idle.test}
  - {host: old.test, expires: 2020-01-01}
deny:
  - host: no.a.test";

#[test]
fn a_case_holds_where_the_enforcing_matcher_says_so() {
    for (case, holds) in [
        ("allow: [x.a.test, \"x.a.test:8443\", \"https://x.a.test/path\"]", true),
        ("allow: [db.test:5432, \"db.test:5432/tcp\"]", true),
        ("allow: [db.test]", false),
        ("allow: [no.a.test]", false),
        ("deny: [no.a.test, other.test, 192.0.2.1]", true),
        ("deny: [{host: no.a.test, reason: denied-by-rule}]", true),
        ("deny: [{host: other.test, reason: denied-by-rule}]", false),
        ("deny: [{host: \"db.test:5432/udp\", reason: protocol-not-allowed}]", true),
        ("deny: [{host: old.test, reason: rule-expired}]", true),
        ("deny: [x.a.test]", false),
    ] {
        let outcomes = cases(case).run(&policies(&file(POLICY)), now()).unwrap();
        assert!(!outcomes.is_empty());
        assert_eq!(outcomes.iter().all(|outcome| outcome.passed), holds, "{case}: {outcomes:#?}");
    }
}

#[test]
fn what_is_only_observed_is_neither_allowed_nor_denied() {
    let tried = policies(&file(
        "rules: [{host: a.test, mode: observe}, {host: b.test}, {host: c.test}]\ndeny: [{host: b.test, mode: observe}]",
    ));
    let observed = policies(&file("mode: observe\nrules: [{host: c.test}]"));
    for (policies, case, holds) in [
        (&tried, "observe: [a.test, b.test]", true),
        (
            &tried,
            "observe: [{host: a.test, reason: host-not-allowed}, {host: b.test, reason: denied-by-rule}]",
            true,
        ),
        (&tried, "observe: [{host: a.test, reason: denied-by-rule}]", false),
        (&tried, "observe: [c.test]", false),
        (&tried, "observe: [d.test]", false),
        (&tried, "allow: [a.test]", false),
        (&tried, "deny: [a.test]", false),
        (&tried, "deny: [b.test]", false),
        (
            &observed,
            "{deny: [\"169.254.169.254:80\"], allow: [c.test], observe: [d.test, \"9.9.9.9:22\"]}",
            true,
        ),
        (&observed, "deny: [d.test]", false),
    ] {
        let outcomes = cases(case).run(policies, now()).unwrap();
        assert_eq!(outcomes.iter().all(|outcome| outcome.passed), holds, "{case}: {outcomes:#?}");
    }
    let outcome = cases("deny: [b.test]").run(&tried, now()).unwrap().remove(0);
    assert_eq!((outcome.expected.as_str(), outcome.decided.as_str()), ("deny", "observe (denied-by-rule)"));
    assert_eq!(outcome.rule.as_deref(), Some("policy.yaml:5"));
}

#[test]
fn a_url_is_judged_as_the_request_that_gets_it() {
    let policies = policies(&file(
        "rules: [{host: a.test, inspect: true, allow: [GET /public/**]}, {host: b.test}, {host: c.test, inspect: true}]",
    ));
    for (case, holds) in [
        (
            "allow: [\"https://a.test/public/x?y\", \"https://a.test/private/../public/x\", a.test, \"https://a.test\"]",
            true,
        ),
        ("allow: [\"https://a.test/private\"]", false),
        ("allow: [\"https://a.test/\"]", false),
        ("allow: [\"wss://a.test/public/x\"]", false),
        ("deny: [{host: \"https://a.test/public/../x\", reason: request-not-allowed}]", true),
        ("deny: [{host: \"https://a.test/public/%2e%2e%2fx\", reason: request-malformed}]", true),
        ("allow: [\"https://b.test/private\", \"https://c.test/private\"]", true),
    ] {
        let outcomes = cases(case).run(&policies, now()).unwrap();
        assert_eq!(outcomes.iter().all(|outcome| outcome.passed), holds, "{case}: {outcomes:#?}");
    }
    let outcome = cases("allow: [\"https://a.test/private\"]").run(&policies, now()).unwrap().remove(0);
    assert_eq!(outcome.flow, "a.test:443/tls GET /private");
    assert_eq!(outcome.rule.as_deref(), Some("policy.yaml:4"));
}

#[test]
fn a_case_may_be_about_an_agent_that_a_section_selects() {
    let policies = policies(
        "version: 1\nagents:\n  default: {rules: [{host: d.test}]}\n  \
         ci: {select: {cgroup: /system.slice/ci-*.service, labels: {team: \"web-*\"}}, rules: [{host: a.test}]}\n  \
         ml: {select: {name: \"ml-*\", uid: 1001}, rules: [{host: b.test}]}\n",
    );
    let run = |case: &str| cases(case).run(&policies, now());
    for case in [
        "{cgroup: /system.slice/ci-1.service, labels: {team: web-7}, allow: [a.test], deny: [b.test, d.test]}",
        "{agent: ml-3, uid: 1001, allow: [b.test], deny: [d.test]}",
        "{agent: default, uid: 1001, allow: [d.test]}",
    ] {
        assert!(run(case).unwrap().iter().all(|outcome| outcome.passed), "{case}");
    }
    let named = run("{cgroup: /system.slice/ci-1.service, labels: {team: web-7}, allow: [a.test]}").unwrap();
    assert_eq!(named[0].agent, "ci-1");
    for (case, says) in [
        ("{labels: {team: web-7}, deny: [a.test]}", "no agent `agent`: the policy names ci, default, ml"),
        ("{agent: ml-3, uid: 7, deny: [a.test]}", "no agent `ml-3`: the policy names ci, default, ml"),
    ] {
        assert!(run(case).unwrap_err().to_string().ends_with(says), "{case}");
    }
    let text = "version: 1\ncases:\n  - cgroup: system.slice\n    deny: [a.test]\n";
    let wrong = CaseFile::parse("p.test.yaml", text).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "p.test.yaml:3: `system.slice` is no path of a cgroup: write it as in `/proc/PID/cgroup`"
    );
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_which_rule_decided() {
    let outcome = cases("deny: [{host: x.a.test, reason: host-not-allowed}]")
        .run(&policies(&file(POLICY)), now())
        .unwrap()
        .remove(0);
    assert_eq!((outcome.place.as_str(), outcome.flow.as_str()), ("p.test.yaml:3", "x.a.test:443/tls"));
    assert_eq!((outcome.expected.as_str(), outcome.decided.as_str()), ("deny (host-not-allowed)", "allow"));
    assert_eq!(outcome.rule.as_deref(), Some("policy.yaml:5"));
}

#[test]
fn a_rule_that_decided_no_case_is_listed() {
    let policies = policies(&file(POLICY));
    let outcomes = cases("{allow: [x.a.test], deny: [no.a.test, db.test]}").run(&policies, now()).unwrap();
    let rules: Vec<String> = uncovered(&policies, &outcomes)
        .iter()
        .map(|(source, subject)| format!("{source} {subject}"))
        .collect();
    assert_eq!(rules, ["policy.yaml:7 db.test", "policy.yaml:8 idle.test", "policy.yaml:9 old.test"]);
}

#[test]
fn what_is_no_case_is_told_with_its_place() {
    for (text, says) in [
        ("version: 2\ncases: []", "p.test.yaml: version 2 is not known: write `version: 1`"),
        (
            "version: 1\ncases: []",
            "p.test.yaml: there is no case in it: write `cases: [{allow: [api.example.com]}]`",
        ),
        (
            "version: 1\ncases:\n  - allow: [\"*.a.test\"]",
            "p.test.yaml:3: `*.a.test` is no destination: host is not valid: octet 0x2a is not allowed in a host name \
             (letters, digits, `-`, `_`)",
        ),
        (
            "version: 1\ncases:\n  - deny: [{host: a.test, reason: because}]",
            "p.test.yaml:3: `because` is no reason: they are listed in docs/audit-schema.md, such as `host-not-allowed`",
        ),
    ] {
        assert_eq!(CaseFile::parse("p.test.yaml", text).unwrap_err().to_string(), says);
    }
    for text in [
        "",
        "version: 1",
        "version: 1\ncases: [{allow: [a.test], x: y}]",
        "version: 1\ncases: [{deny: [[]]}]",
    ] {
        assert!(CaseFile::parse("p.test.yaml", text).is_err(), "{text}");
    }
}

#[test]
fn a_file_of_cases_is_no_policy() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "a.test.yaml", ".b.yaml", "test.yaml", "c.yml"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let found = load_dir(folder.path()).unwrap();
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.yaml", "test.yaml"]);
}

fn cases(case: &str) -> CaseFile {
    let case = if case.starts_with('{') { case.to_owned() } else { format!("{{{case}}}") };
    CaseFile::parse("p.test.yaml", &format!("version: 1\ncases:\n  - {case}\n")).unwrap()
}

#[test]
fn a_case_of_an_agent_that_no_section_is_for_is_wrong() {
    let policies = policies(
        "version: 1\nagents:\n  default: {rules: []}\n  build: {rules: [{host: a.test}]}\n  ci: {select: {name: \"ci-*\"}}\n",
    );
    let run = |agent: &str| cases(&format!("{{agent: {agent}, deny: [b.test]}}")).run(&policies, now());
    for known in ["default", "build", "ci", "ci-7"] {
        assert!(run(known).unwrap()[0].passed, "{known}");
    }
    let wrong = run("buidl").unwrap_err().to_string();
    assert!(wrong.ends_with(": no agent `buidl`: the policy names build, ci, default"), "{wrong}");
}
