//! What every allowlist that is shipped must be.

#![allow(clippy::unwrap_used, reason = "tests")]

use egressd::{
    config::{Policies, load, load_str},
    policy::{AgentName, HostName, Pattern, Rule, Subject},
};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_shipped_allowlist_compiles() {
    assert!(names().len() >= 10);
    for name in names() {
        assert!(!rules(&name).is_empty(), "{name}");
    }
}

#[test]
fn the_default_policy_compiles_and_needs_no_package_tool() {
    let policies = default_policy();
    let policy = policies.for_agent(&AgentName::parse("anyone").unwrap());
    assert!(!policy.allow().is_empty());
    assert!(policy.allow().iter().all(|rule| !rule.source.file.ends_with("default.yaml")));
}

#[test]
fn every_rule_says_why_it_is_there() {
    for rule in names().iter().flat_map(|name| rules(name)) {
        let reason = rule.reason.as_deref().unwrap_or_default();
        assert!(reason.len() >= 5 && !reason.ends_with('.'), "{}: {reason:?}", rule.source);
    }
}

#[test]
fn every_rule_names_hosts_over_tls_and_no_private_address() {
    for rule in names().iter().flat_map(|name| rules(name)) {
        assert!(matches!(rule.subject, Subject::Host(_)) && !rule.private, "{}", rule.source);
        assert_eq!((rule.ports.as_slice(), rule.protocol.unwrap().as_str()), ([443].as_slice(), "tls"));
    }
}

#[test]
fn no_shipped_file_asks_for_a_wildcard_at_a_public_suffix() {
    for path in files() {
        assert!(!fs::read_to_string(&path).unwrap().contains("danger"), "{}", path.display());
    }
}

#[test]
fn no_name_stands_in_two_places() {
    let mut places: HashMap<String, String> = HashMap::new();
    for name in names() {
        // Compiling drops what a file says twice, so the lines are counted.
        let hosts =
            fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap().matches("host:").count();
        assert_eq!(hosts, rules(&name).len(), "{name} says something twice");
        for rule in rules(&name) {
            if let Some(first) = places.insert(rule.subject.to_string(), rule.source.to_string()) {
                panic!("{} stands in {first} and in {}", rule.subject, rule.source);
            }
        }
    }
}

#[test]
fn a_risky_name_is_left_out_or_marked() {
    for rule in names().iter().flat_map(|name| rules(name)) {
        let Subject::Host(pattern) = &rule.subject else { panic!("{}", rule.source) };
        let marked = rule.reason.as_deref().unwrap_or_default().contains("risk:");
        let risks: Vec<Risk> = risks().into_iter().filter(|risk| risk.is_about(pattern)).collect();
        for risk in &risks {
            assert!(!risk.never, "{}: `{pattern}` is left out: {}", rule.source, risk.why);
        }
        assert!(marked || risks.is_empty(), "{}: `{pattern}` lacks `risk:`: {}", rule.source, risks[0].why);
    }
}

#[test]
fn every_marked_rule_stands_in_the_list_of_risks() {
    for rule in names().iter().flat_map(|name| rules(name)) {
        let Subject::Host(pattern) = &rule.subject else { panic!("{}", rule.source) };
        if rule.reason.as_deref().unwrap_or_default().contains("risk:") {
            assert!(risks().iter().any(|risk| risk.is_about(pattern)), "{}: `{pattern}`", rule.source);
        }
    }
}

#[test]
fn the_list_of_risks_catches_wildcards_too() {
    for pattern in
        ["*.amazonaws.com", "**.amazonaws.com", "*.google.com", "*.s3.amazonaws.com", "gist.github.com"]
    {
        let pattern = Pattern::parse(pattern).unwrap();
        assert!(risks().iter().any(|risk| risk.never && risk.is_about(&pattern)), "{pattern}");
    }
}

struct Risk {
    never: bool,
    pattern: Pattern,
    why: String,
}

impl Risk {
    /// Whether one of them covers a name of the other.
    fn is_about(&self, rule: &Pattern) -> bool {
        self.pattern.matches(&sample(rule)) || rule.matches(&sample(&self.pattern))
    }
}

/// A name that the pattern is about.
fn sample(pattern: &Pattern) -> HostName {
    match pattern {
        Pattern::Exact(name) => name.clone(),
        Pattern::OneLabel(suffix) | Pattern::AnyLabels(suffix) => {
            HostName::parse(&format!("x.{suffix}")).unwrap()
        }
    }
}

fn risks() -> Vec<Risk> {
    let text = fs::read_to_string(folder().join("../tests/fixtures/risky-names.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [word @ ("mark" | "never"), pattern, why] => Risk {
                never: word == "never",
                pattern: Pattern::parse(pattern).unwrap(),
                why: why.to_owned(),
            },
            _ => panic!("not a risk: {line:?}"),
        })
        .collect()
}

fn default_policy() -> Policies {
    load(&[folder().join("default.yaml")], &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// The rules of one allowlist.
fn rules(name: &str) -> Vec<Rule> {
    let text = format!("version: 1\nagents:\n  default:\n    include: [{name}]\n");
    let policies = load_str("lint.yaml", &text, &folder(), &[]).unwrap_or_else(|error| panic!("{error}"));
    policies.for_agent(&AgentName::parse("default").unwrap()).allow().to_vec()
}

/// The names of the allowlists; `default` is a policy.
fn names() -> Vec<String> {
    let stems = files().into_iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    stems.filter(|name| name != "default").collect()
}

fn files() -> Vec<PathBuf> {
    egressd::config::load_dir(&folder()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../allowlists")
}
