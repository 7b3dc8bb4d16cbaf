//! The network section of Codex's `config.toml`.
//!
//! Read in openai/codex (`codex-rs/network-proxy/README.md` and `src/policy.rs`): `example.com` is this name,
//! `*.example.com` all below it, `**.example.com` both; what is denied wins; an empty list allows nothing; ports are
//! not told apart; numbers are addresses, never networks; in the mode `limited` only GET, HEAD and OPTIONS pass.

use super::{
    ImportError,
    claude::AnyPort,
    draft::{At, Draft, Section},
    names::{Dialect, Numbers, Reach, read as read_host, split_port, tcp, web},
    tree::{self, Node},
};
use crate::authoring::fate::Fate;

const DIALECT: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::Below,
    two_stars: Some(Reach::AndBelow),
    inner: Reach::Below,
    numbers: Numbers::Addresses,
};

/// Translates the network section of the profile that is in force, or is chosen, or is the only one.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let root = tree::toml(draft.file, text)?;
    full_access(&root, draft);
    let sections = sections(&root, draft)?;
    if sections.is_empty() && draft.is_empty() {
        return Err(ImportError::Nothing("no section of a network", draft.file.to_owned()));
    }
    let mut ports = AnyPort::default();
    for section in sections {
        network(section, &mut ports, draft);
    }
    ports.report(draft);
    Ok(())
}

/// `network_access = true` opens the network without a list.
fn full_access(root: &Node, draft: &mut Draft<'_>) {
    let Some(access) = root.at(&["sandbox_workspace_write", "network_access"]) else { return };
    if access.text() == Some("true") {
        let at = At { place: &access.place, was: "network_access = true" };
        draft.lose(at, Section::Rules, "no rule allows every host: name those that are needed");
    }
}

/// The tables that hold lists of domains.
fn sections<'n>(root: &'n Node, draft: &Draft<'_>) -> Result<Vec<&'n Node>, ImportError> {
    let mut sections: Vec<&Node> =
        ["network", "network_proxy", "experimental_network"].iter().filter_map(|key| root.get(key)).collect();
    let permissions = root.get("permissions");
    sections.extend(
        permissions.and_then(|permissions| permissions.get("network")).filter(|section| is_section(section)),
    );
    let profiles: Vec<&(String, Node)> = permissions
        .map(Node::entries)
        .unwrap_or_default()
        .iter()
        .filter(|(_, profile)| profile.get("network").is_some_and(is_section))
        .collect();
    let in_force = root.get("default_permissions").and_then(Node::text);
    let chosen = draft.options.only.as_deref().or(in_force);
    let found = profiles.iter().find(|(name, _)| Some(name.as_str()) == chosen);
    match (found, profiles.as_slice()) {
        (None, []) => drop(draft.choose(&[])?),
        (Some((_, profile)), _) => sections.extend(profile.get("network")),
        (None, [(_, profile)]) if chosen.is_none() => sections.extend(profile.get("network")),
        // Of these, none is in force, or it is not known which.
        (None, several) => {
            let names = several.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(ImportError::Several { file: draft.file.to_owned(), names });
        }
    }
    Ok(sections)
}

fn is_section(node: &Node) -> bool {
    ["domains", "allowed_domains", "denied_domains", "mode", "enabled"]
        .iter()
        .any(|key| node.get(key).is_some())
}

fn network(section: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    if let Some(enabled) = section.get("enabled").filter(|enabled| enabled.text() == Some("false")) {
        let at = At { place: &enabled.place, was: "enabled = false" };
        return draft.lose(at, Section::Rules, "the section is not in force");
    }
    let lists = section.get("policy").unwrap_or(section);
    let is_limited = section.get("mode").and_then(Node::text) == Some("limited");
    for entry in lists.get("allowed_domains").map(Node::items).unwrap_or_default() {
        allow(At { place: &entry.place, was: &entry.show() }, is_limited, ports, draft);
    }
    for entry in lists.get("denied_domains").map(Node::items).unwrap_or_default() {
        deny(At { place: &entry.place, was: &entry.show() }, draft);
    }
    for (name, word) in lists.get("domains").map(Node::entries).unwrap_or_default() {
        let at = At { place: &word.place, was: name };
        match word.text() {
            Some("allow") => allow(at, is_limited, ports, draft),
            Some("deny") => deny(at, draft),
            Some("none") => draft.note(at, Fate::Exact, "it says nothing"),
            Some(_) | None => draft.cut(at, &format!("`{}` is neither `allow` nor `deny`", word.show())),
        }
    }
    let mut tables = vec![section, lists];
    tables.dedup();
    for table in tables {
        for key in LOCAL {
            let Some(node) = table.get(key).filter(|node| !is_nothing(node)) else { continue };
            let was = format!("{key}: {}", node.show());
            let at = At { place: &node.place, was: &was };
            draft.lose(at, Section::Rules, "of sockets on this host, `host_sockets` opens all or none");
        }
    }
}

/// What opens sockets of this host.
const LOCAL: [&str; 4] =
    ["allow_unix_sockets", "dangerously_allow_all_unix_sockets", "unix_sockets", "allow_local_binding"];

fn is_nothing(node: &Node) -> bool {
    matches!(node.show().as_str(), "false" | "[]" | "{}" | "null")
}

fn allow(at: At<'_>, is_limited: bool, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    // The proxy drops a port that stands there.
    let (host, _) = split_port(at.was);
    let reading = read_host(host, DIALECT);
    if is_limited {
        let requests = ["GET /**", "HEAD /**", "OPTIONS /**"].map(str::to_owned);
        let remark = (Fate::Narrowed, "methods are read only in TLS, which the proxy ends for it".to_owned());
        return draft.allow(at, reading, &tcp(&[443]), &requests, Some(remark));
    }
    ports.seen(at);
    draft.allow(at, reading, &web(), &[], None);
}

fn deny(at: At<'_>, draft: &mut Draft<'_>) {
    let (host, _) = split_port(at.was);
    draft.deny(at, read_host(host, DIALECT), &[], &[], None);
}
