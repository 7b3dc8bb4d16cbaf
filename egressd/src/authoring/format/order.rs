//! The order of keys, which is that of docs/policy.md. A key that is not known here stays behind those that are.

use super::tree::{Block, Entry, Kind};

/// Orders the keys of a file.
pub(super) fn sort(file: Block) -> Block {
    block(file, Place::File)
}

/// What a block is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    /// Agents or roles by their names.
    Names,
    Section,
    Rules,
    Rule,
    /// What keeps its order.
    Other,
}

impl Place {
    /// What stands below `key`.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::File, "agents" | "roles") => Self::Names,
            (Self::File | Self::Section, "rules") | (Self::Section, "deny") => Self::Rules,
            (Self::Names, _) => Self::Section,
            (Self::Rules, _) => Self::Rule,
            (Self::File | Self::Section | Self::Rule | Self::Other, _) => Self::Other,
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::File => &FILE,
            Self::Section => &SECTION,
            Self::Rule => &RULE,
            Self::Names | Self::Rules | Self::Other => &[],
        }
    }
}

const FILE: [&str; 5] = ["version", "name", "roles", "agents", "rules"];

const SECTION: [&str; 17] = [
    "select",
    "extends",
    "include",
    "packages",
    "mode",
    "rules",
    "deny",
    "capabilities",
    "host_sockets",
    "approve_unknown",
    "max_bytes",
    "max_connections",
    "rate",
    "leak_budget",
    "leak_actions",
    "secrets",
    "honeytokens",
];

const RULE: [&str; 25] = [
    "host",
    "hosts",
    "cidr",
    "protocol",
    "ports",
    "gate",
    "ech",
    "inspect",
    "allow",
    "max_body",
    "max_bodies",
    "inject",
    "private",
    "danger_public_suffix",
    "types",
    "leak_budget",
    "approval",
    "max_bytes",
    "max_connections",
    "rate",
    "expires",
    "for",
    "risk",
    "mode",
    "reason",
];

fn block(own: Block, place: Place) -> Block {
    let Block { kind, entries, tail } = own;
    let mut entries: Vec<Entry> = entries.into_iter().map(|held| entry(held, place)).collect();
    // What stands above the first line is about the file, whichever line comes to be first.
    let is_file = place == Place::File;
    let head = entries.first_mut().filter(|_| is_file).map(|first| {
        let is_apart = std::mem::take(&mut first.is_apart);
        (std::mem::take(&mut first.lead), is_apart)
    });
    if kind == Kind::Mapping && !place.keys().is_empty() {
        entries.sort_by_key(|entry| {
            place.keys().iter().position(|key| *key == plain(&entry.key)).unwrap_or(place.keys().len())
        });
    }
    if let (Some((mut head, is_apart)), Some(first)) = (head, entries.first_mut()) {
        first.is_apart |= is_apart;
        head.append(&mut first.lead);
        first.lead = head;
    }
    Block { kind, entries, tail }
}

fn entry(own: Entry, place: Place) -> Entry {
    let below = place.below(plain(&own.key));
    Entry { block: own.block.map(|held| block(held, below)), ..own }
}

/// A key without quotes.
fn plain(key: &str) -> &str {
    key.trim_matches(['"', '\''])
}
