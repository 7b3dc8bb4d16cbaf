//! What is found in policies that compile. Every lint has a case that finds it and one that does not.

use crate::{file, policies};
use egressd::{
    authoring::{Lint, lint},
    config::load,
};
use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

/// The lint, agents in which it is found, and such in which it is not.
const CASES: &[(Lint, &[&str], &[&str])] = &[
    (
        Lint::DeniedRule,
        &[
            "rules: [{host: a.test}]\ndeny: [{host: \"*.test\"}]",
            "rules: [{cidr: 10.1.0.0/16, protocol: tcp, ports: [22]}]\ndeny: [{cidr: 10.0.0.0/8}]",
            "rules: [{host: \"*.a.test\"}]\ndeny: [{host: \"**.a.test\", ports: [443], protocol: tls}]",
        ],
        &[
            "rules: [{host: a.test, ports: [443, 444]}]\ndeny: [{host: a.test, ports: [444]}]",
            "rules: [{host: \"*.a.test\"}]\ndeny: [{host: b.a.test}]",
            "rules: [{host: a.test}]\ndeny: [{host: a.test, protocol: tcp}]",
        ],
    ),
    (
        Lint::ResolverWildcard,
        &["rules: [{host: \"*.dns.google\"}]"],
        &["rules: [{host: dns.google}]", "rules: [{host: \"*.quad9.net\"}]"],
    ),
    (
        Lint::ShadowedRule,
        &[
            "rules: [{host: \"**.a.test\"}, {host: \"*.a.test\"}]",
            "rules: [{host: a.test, ports: [443, 444]}, {host: a.test}]",
            "rules: [{host: \"*.a.test\", ports: [443]}, {host: \"*.a.test\", ports: [444]}, {host: \"*.a.test\", ports: [443, 444]}]",
            "rules: [{cidr: 10.0.0.0/8, protocol: tcp, ports: [22]}, {cidr: 10.1.0.0/16, protocol: tcp, ports: [22]}]",
        ],
        &[
            // A name that is spelt out costs nothing of the budget of the wildcard.
            "rules: [{host: \"*.a.test\"}, {host: b.a.test}]",
            "rules: [{host: \"*.a.test\"}, {host: \"**.a.test\"}]",
            "rules: [{host: a.test, protocol: http}, {host: a.test, ports: [80]}]",
            "rules: [{host: \"**.a.test\"}, {host: \"*.a.test\", types: [TXT]}]",
            "rules: [{host: a.test, for: 1h}, {host: a.test}]",
        ],
    ),
    (
        Lint::ShadowedTerms,
        &["rules: [{host: \"*.a.test\"}, {host: b.a.test, inspect: true, allow: [GET /]}]"],
        &["rules: [{host: b.a.test, inspect: true, allow: [GET /]}, {host: \"*.a.test\"}]"],
    ),
    (
        Lint::IdleDeny,
        &[
            "rules: [{host: a.test}]\ndeny: [{host: b.test}]",
            "rules: [{host: a.test}]\ndeny: [{host: a.test, ports: [80]}]",
            "rules: [{host: \"*.a.test\"}]\ndeny: [{host: b.a.test}, {host: \"*.a.test\", ports: [443]}, {host: c.a.test}]",
            "rules: []\ndeny: [{cidr: 10.0.0.0/8}]",
        ],
        &[
            "rules: [{host: \"*.a.test\"}]\ndeny: [{host: b.a.test}]",
            "rules: [{host: a.test}]\ndeny: [{cidr: 192.0.2.0/24}]",
        ],
    ),
    (
        Lint::ExpiredRule,
        &["rules: [{host: a.test, expires: 2026-11-20}]"],
        &["rules: [{host: a.test, expires: 2026-11-21}]"],
    ),
    (
        Lint::PublicSuffix,
        &[
            "rules: [{host: \"*.github.io\", danger_public_suffix: true}]",
            "rules: [{host: \"**.co.uk\", danger_public_suffix: true}]",
            "rules: [{host: \"*.amazonaws.com\", danger_public_suffix: true}]",
        ],
        &["rules: [{host: \"*.me.github.io\"}]", "rules: [{host: me.github.io}]"],
    ),
    (
        Lint::WholeDomain,
        &["rules: [{host: \"**.example.com\"}]"],
        &["rules: [{host: \"*.example.com\"}]", "rules: [{host: \"**.cdn.example.com\"}]"],
    ),
    (
        Lint::UncheckedWildcard,
        &["rules: [{host: \"*.a.test\", protocol: tcp, ports: [22]}]"],
        &[
            "rules: [{host: a.test, protocol: tcp, ports: [22]}]",
            "rules: [{host: \"*.a.test\", protocol: http}]",
        ],
    ),
    (
        Lint::WideNetwork,
        &[
            "rules: [{cidr: 8.0.0.0/8, protocol: tcp, ports: [22]}]",
            "rules: [{cidr: 2600::/31, protocol: udp, ports: [123]}]",
        ],
        &["rules: [{cidr: 10.1.0.0/16, protocol: tcp, ports: [22]}]"],
    ),
    (
        Lint::PrivateName,
        &["rules: [{host: db.internal}]", "rules: [{host: nas.home.arpa}]"],
        &["rules: [{host: db.internal, private: true}]", "rules: [{host: notinternal.test}]"],
    ),
    (
        Lint::NameNeverAnswered,
        &["rules: [{host: localhost, private: true}]"],
        &["rules: [{host: localhost.test}]"],
    ),
    (
        Lint::RiskyName,
        &[
            "rules: [{host: gist.github.com}]",
            "rules: [{host: \"*.sentry.io\"}]",
            "rules: [{host: bucket.s3.amazonaws.com}]",
            "rules: [{host: dl.bintray.com}]",
            "rules: [{host: github.com, risk: modify}]",
        ],
        &[
            "rules: [{host: docs.github.com}]",
            "rules: [{host: github.com, reason: \"code; risk: push under any account\"}]",
            "rules: [{host: github.com, risk: external}]",
            "rules: [{host: camo.githubusercontent.com, risk: read}]",
            "rules: [{host: github.com, inspect: true, allow: [GET /ours/**]}]",
        ],
    ),
    (
        Lint::ObserveMode,
        &[
            "mode: observe\nrules: []",
            "rules: [{host: a.test, mode: observe}]",
            "rules: [{host: a.test}]\ndeny: [{host: a.test, mode: observe}]",
        ],
        &["mode: enforce\nrules: [{host: a.test, mode: enforce}]"],
    ),
];

#[test]
fn each_lint_finds_what_it_is_for_and_nothing_else() {
    for (lint, found, not_found) in CASES {
        for section in *found {
            assert!(lints(section).contains(lint), "{lint} is not found in {section}");
        }
        for section in *not_found {
            assert!(!lints(section).contains(lint), "{lint} is found in {section}");
        }
    }
}

#[test]
fn every_lint_has_its_cases() {
    let tried: BTreeSet<Lint> = CASES.iter().map(|(lint, _, _)| *lint).chain([Lint::DeadInclude]).collect();
    assert_eq!(tried, Lint::ALL.iter().copied().collect());
}

#[test]
fn an_include_that_adds_nothing_is_dead() {
    for (section, is_dead) in [
        ("include: [one]\nrules: [{host: a.test}, {host: b.test}]", true),
        ("include: [one]\nrules: [{host: a.test}]\ndeny: [{host: b.test}]", true),
        ("include: [one, two]", true),
        ("include: [one]\nrules: [{host: a.test}]", false),
        ("include: [one]", false),
        ("include: [two]\nrules: [{host: c.test}]", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        allowlist(folder.path(), "one", &["a.test", "b.test"]);
        allowlist(folder.path(), "two", &["b.test", "a.test"]);
        let path = folder.path().join("policy.yaml");
        fs::write(&path, file(section)).unwrap();
        let found = lint(&load(&[path], &[]).unwrap(), now());
        let dead: Vec<u32> = found
            .iter()
            .filter(|finding| finding.lint == Lint::DeadInclude)
            .map(|finding| finding.place.line)
            .collect();
        assert_eq!(!dead.is_empty(), is_dead, "{section}: {found:#?}");
        assert!(dead.iter().all(|line| *line == 4), "{dead:?}");
    }
}

#[test]
fn an_allowlist_that_two_agents_include_is_told_of_once() {
    let text =
        "version: 1\nagents:\n  a: {rules: [{host: github.com}]}\n  b: {rules: [{host: github.com}]}\n";
    assert_eq!(lint(&policies(text), now()).len(), 2);
    let folder = tempfile::tempdir().unwrap();
    allowlist(folder.path(), "one", &["github.com"]);
    let path = folder.path().join("policy.yaml");
    fs::write(&path, "version: 1\nagents:\n  a: {include: [one]}\n  b: {include: [one]}\n").unwrap();
    assert_eq!(lint(&load(&[path], &[]).unwrap(), now()).len(), 1);
}

/// `INSTA_UPDATE=always` writes what is found.
#[test]
fn every_finding_reads_as_it_is_written_down() {
    let mut text = String::new();
    for (lint_word, found, _) in CASES {
        for section in *found {
            writeln!(text, "{}", section.trim()).unwrap();
            for finding in
                lint(&policies(&file(section)), now()).iter().filter(|finding| finding.lint == *lint_word)
            {
                let egressd::authoring::Finding { severity, lint, place, text: says, help } = finding;
                writeln!(text, "  {place}: {severity}: {says} [{lint}]\n    help: {help}").unwrap();
            }
        }
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/authoring/findings.txt");
    if std::env::var_os("INSTA_UPDATE").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&golden).unwrap());
}

fn lints(section: &str) -> BTreeSet<Lint> {
    lint(&policies(&file(section)), now()).iter().map(|finding| finding.lint).collect()
}

/// A moment of the day on which this was written.
pub fn now() -> jiff::Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn allowlist(folder: &Path, name: &str, hosts: &[&str]) {
    let rules: String = hosts.iter().map(|host| format!("  - host: {host}\n")).collect();
    fs::write(folder.join(format!("{name}.yaml")), format!("version: 1\nname: {name}\nrules:\n{rules}"))
        .unwrap();
}
