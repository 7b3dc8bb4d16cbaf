//! Network policies of Docker sandboxes: command lines, rules of the governance API in JSON, and kits.
//!
//! Read in docker/docs (`content/manuals/ai/sandboxes`: `governance/concepts.md`, `cli/access/network-local.md`,
//! `network-policies.md`). Of `sbx`, `*.example.com` is one label, `**.example.com` any number of them, and a denial wins.
//! Of `docker sandbox network proxy`, the most specific entry wins, and it is not said how deep `*.example.com` goes.
//! No port means every port.

mod commands;
mod proxy;
mod shell;

use super::{
    ImportError,
    claude::AnyPort,
    draft::{At, Draft, Remark, Section, worse},
    names::{Dialect, Numbers, Opening, Reach, Reading, read as read_host, split_port, tcp, udp, web},
    tree::{self, Node},
};
use crate::{authoring::fate::Fate, policy::RequestPattern};

const SBX: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::OneLabel,
    two_stars: Some(Reach::Below),
    inner: Reach::Below,
    numbers: Numbers::Networks,
};

/// Translates command lines, or JSON, or the `network` of a kit in YAML.
pub(super) fn read(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let mut ports = AnyPort::default();
    let is_tree = text.trim_start().starts_with(['{', '[']);
    let is_kit = text.contains("allowedDomains") || text.contains("deniedDomains");
    if is_tree || is_kit {
        draft.choose(&[])?;
    }
    if is_tree {
        tree_of_rules(&tree::json(draft.file, text)?, &mut ports, draft);
    } else if is_kit {
        for document in tree::yaml(draft.file, text, 1)? {
            tree_of_rules(&document, &mut ports, draft);
        }
    } else {
        commands::read(text, &mut ports, draft)?;
    }
    if draft.is_empty() {
        return Err(ImportError::Nothing("no rule of a network", draft.file.to_owned()));
    }
    ports.report(draft);
    Ok(())
}

/// Rules wherever they stand in a tree.
fn tree_of_rules(node: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    if let (Some(resources), Some(decision)) = (node.get("resources"), node.get("decision")) {
        return rule(node, resources, decision, ports, draft);
    }
    for (key, value) in node.entries() {
        match key.as_str() {
            "allowedDomains" => each(value, &Terms::allow(), ports, draft),
            "deniedDomains" | "blockedDomains" => each(value, &Terms::deny(), ports, draft),
            _ => tree_of_rules(value, ports, draft),
        }
    }
    if node.entries().is_empty() && node.text().is_none() {
        for item in node.items() {
            tree_of_rules(item, ports, draft);
        }
    }
}

fn rule(node: &Node, resources: &Node, decision: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let actions = node.get("actions").map(Node::items).unwrap_or_default();
    let has = |word: &str| actions.is_empty() || actions.iter().any(|action| action.text() == Some(word));
    let (tcp, udp) = (has("connect:tcp"), has("connect:udp"));
    if !tcp && !udp {
        return; // A rule for files.
    }
    let act = if decision.text() == Some("allow") { Act::Allow } else { Act::Deny };
    each(resources, &Terms { act, tcp, udp, ..Terms::allow() }, ports, draft);
}

fn each(list: &Node, terms: &Terms, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    for entry in list.items() {
        let was = entry.show();
        resource(At { place: &entry.place, was: &was }, &was, terms, ports, draft);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Allow,
    Deny,
}

/// What a rule of `sbx` says besides its resources.
#[derive(Debug, Clone)]
struct Terms {
    act: Act,
    tcp: bool,
    udp: bool,
    methods: Vec<String>,
    path: Option<String>,
}

impl Terms {
    fn allow() -> Self {
        Self { act: Act::Allow, tcp: true, udp: false, methods: Vec::new(), path: None }
    }

    fn deny() -> Self {
        Self { act: Act::Deny, ..Self::allow() }
    }

    fn requests(&self) -> Vec<String> {
        let path = self.path.as_deref().unwrap_or("/**");
        let method = |word: &String| if word == "ANY" { "*".to_owned() } else { word.clone() };
        self.methods.iter().map(|word| format!("{} {path}", method(word))).collect()
    }
}

/// One resource of a rule of `sbx`.
fn resource(at: At<'_>, text: &str, terms: &Terms, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let text = if text == "all" { "**" } else { text };
    let (host, port) = split_port(text);
    let port = match port.transpose() {
        Ok(port) => port,
        Err(why) if terms.act == Act::Deny => return draft.cut(at, &why),
        Err(why) => return draft.lose(at, Section::Rules, &why),
    };
    let reading = read_host(host, SBX);
    match terms.act {
        Act::Deny => {
            let whole = "requests cannot be denied one by one, so the host is".to_owned();
            let remark = (!terms.methods.is_empty()).then_some((Fate::Narrowed, whole));
            draft.deny(at, reading, port.as_slice(), &[], remark);
        }
        Act::Allow => allow(at, reading, port, terms, ports, draft),
    }
}

fn allow(
    at: At<'_>,
    reading: Reading,
    port: Option<u16>,
    terms: &Terms,
    ports: &mut AnyPort,
    draft: &mut Draft<'_>,
) {
    let requests = terms.requests();
    if !requests.is_empty() {
        if let Some(why) = requests.iter().find_map(|request| RequestPattern::parse(request).err()) {
            return draft.lose(at, Section::Rules, &why.to_string());
        }
        if port.is_some_and(|port| port != 443) {
            return draft.lose(at, Section::Rules, "requests are read only in TLS on port 443");
        }
        let why = "the proxy ends TLS to read requests; patterns of paths are read as ours".to_owned();
        return draft.allow(at, reading, &tcp(&[443]), &requests, Some((Fate::Narrowed, why)));
    }
    let mut openings: Vec<Opening> = Vec::new();
    let mut remark: Remark = None;
    match port {
        Some(port) => {
            openings.extend(if terms.tcp { tcp(&[port]) } else { Vec::new() });
            openings.extend(if terms.udp { udp(&[port]) } else { Vec::new() });
        }
        None if terms.tcp => {
            ports.seen(at);
            openings = web();
            let without = (Fate::Narrowed, "a rule for UDP names its ports".to_owned());
            remark = worse(remark, terms.udp.then_some(without));
        }
        None => return draft.lose(at, Section::Rules, "a rule for UDP names its ports"),
    }
    draft.allow(at, reading, &openings, &[], remark);
}
