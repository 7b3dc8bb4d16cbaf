//! The policy file that an import writes.

use super::{
    ASSUMPTIONS, Kind,
    draft::{Allow, Deny, Line, Section, Written},
    parts,
};
use crate::{
    authoring::fate::{Fate, Translated, comments},
    policy::{AgentName, Approval, Protocol, Subject},
};
use std::fmt::Write;

/// How much of the file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Without what depends on the machine: allowlists and package tools.
    OwnRules,
}

/// The policy file of `agent`, with what is not exact as comments at its place.
pub(super) fn render(kind: Kind, agent: &AgentName, lines: &[Line], part: Part) -> String {
    let mut text = format!("# Translated from {kind}.\n");
    for assumption in ASSUMPTIONS {
        text.push_str(&format!("# - {assumption}\n"));
    }
    text.push_str(&format!("version: 1\nagents:\n  {}:\n", scalar(agent.as_str())));
    for (section, key) in SECTIONS {
        let mut lines: Vec<&Line> = lines.iter().filter(|line| line.section == section).collect();
        lines.sort_by_key(|line| parts::is_part(line));
        let is_own = matches!(section, Section::Rules | Section::Deny) || part == Part::Whole;
        if is_own {
            text.push_str(&block(key, section, &lines));
        }
    }
    text
}

const SECTIONS: [(Section, &str); 4] = [
    (Section::Include, "include"),
    (Section::Packages, "packages"),
    (Section::Rules, "rules"),
    (Section::Deny, "deny"),
];

/// How deep an item stands.
const ITEM: &str = "      ";

fn block(key: &str, section: Section, lines: &[&Line]) -> String {
    let is_empty = lines.iter().all(|line| line.written.is_empty());
    let mut text = String::new();
    // Rules are always there: a policy without any says that it allows nothing.
    match (is_empty, section) {
        (false, _) => text.push_str(&format!("    {key}:\n")),
        (true, Section::Rules) => text.push_str(&format!("    {key}: []\n")),
        (true, Section::Include | Section::Packages | Section::Deny) => {}
    }
    // What is to be said stands before the next item.
    let mut said = Vec::new();
    for line in lines {
        let Translated { fate, why, .. } = &line.translated;
        if *fate != Fate::Exact || (why.is_some() && line.written.is_empty()) {
            said.push(&line.translated);
        }
        if !line.written.is_empty() {
            text.push_str(&comments(said.drain(..), ITEM));
        }
        for written in &line.written {
            text.push_str(&format!("{ITEM}- {}\n", item(written)));
        }
    }
    text.push_str(&comments(said.drain(..), ITEM));
    text
}

/// An item of a list as one line of YAML.
pub(super) fn item(written: &Written) -> String {
    match written {
        Written::Include(name) | Written::Packages(name) => scalar(name),
        Written::Allow(allow) => allow_item(allow),
        Written::Deny(deny) => deny_item(deny),
    }
}

fn allow_item(allow: &Allow) -> String {
    let Allow { subject, protocol, ports, requests, approval } = allow;
    let mut keys = subject_keys(subject);
    let usual: &[u16] = match protocol {
        Protocol::Tls | Protocol::Quic => &[443],
        Protocol::Http => &[80],
        Protocol::Tcp | Protocol::Udp => &[],
    };
    if *protocol != Protocol::Tls {
        keys.push(format!("protocol: {protocol}"));
    }
    if ports.as_slice() != usual {
        keys.push(format!("ports: [{}]", joined(ports)));
    }
    if let Subject::Host(pattern) = subject
        && pattern.is_public_suffix()
    {
        keys.push("danger_public_suffix: true".to_owned());
    }
    if !requests.is_empty() {
        let requests: Vec<String> = requests.iter().map(|request| quoted(request)).collect();
        keys.push(format!("inspect: true, allow: [{}]", requests.join(", ")));
    }
    if *approval == Approval::Required {
        keys.push("approval: required".to_owned());
    }
    flow(&keys)
}

fn deny_item(deny: &Deny) -> String {
    let mut keys = subject_keys(&deny.subject);
    keys.extend(deny.protocol.map(|protocol| format!("protocol: {protocol}")));
    if !deny.ports.is_empty() {
        keys.push(format!("ports: [{}]", joined(&deny.ports)));
    }
    flow(&keys)
}

fn subject_keys(subject: &Subject) -> Vec<String> {
    vec![match subject {
        Subject::Host(pattern) => format!("host: {}", scalar(&pattern.to_string())),
        Subject::Network(network) => format!("cidr: {}", scalar(&network.to_string())),
    }]
}

/// One key stands in the block style, several in one line.
fn flow(keys: &[String]) -> String {
    match keys {
        [key] => key.clone(),
        keys => format!("{{{}}}", keys.join(", ")),
    }
}

fn joined(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// Plain where YAML can take it for nothing but text.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_'))
        && !WORDS.contains(&text);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// What YAML readers take for something else than text.
const WORDS: [&str; 8] = ["true", "false", "yes", "no", "on", "off", "null", "y"];

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            ' '..='~' => quoted.push(character),
            // Writing to a String does not fail.
            other => drop(write!(quoted, "\\U{:08X}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_nothing_else_stands_without_quotes() {
        for plain in ["github.com", "xn--a.test", "a_b"] {
            assert_eq!(scalar(plain), plain);
        }
        for text in ["*.a.test", "on", "1.e5", "192.0.2.0/24", "_a.test", ""] {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\U0000000A\"");
    }
}
