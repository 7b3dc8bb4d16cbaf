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
    if let Some(decision) = node.get("decision") {
        return match node.get("resources") {
            Some(resources) => rule(node, resources, decision, ports, draft),
            None => about_nothing(node, decision, draft),
        };
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
    let is_one_of = |known: &[&str], action: &Node| action.text().is_some_and(|word| known.contains(&word));
    if !actions.is_empty() && actions.iter().all(|action| is_one_of(&FILES, action)) {
        return;
    }
    let has = |word: &str| actions.is_empty() || actions.iter().any(|action| action.text() == Some(word));
    let stranger = actions.iter().find(|action| !is_one_of(&FILES, action) && !is_one_of(&NETWORK, action));
    let stranger = stranger.map(|action| format!("the action `{}` is not known here", action.show()));
    let unknown = node.entries().iter().find(|(key, _)| !KEYS.contains(&key.as_str()));
    let unknown = unknown.map(|(key, _)| format!("the key `{key}` is not known here"));
    let terms = match decision.text() {
        Some("allow") => Terms { tcp: has("connect:tcp"), udp: has("connect:udp"), ..Terms::allow() },
        Some("deny") => Terms::deny(),
        Some(_) | None => {
            let why = format!("its decision `{}` is not known here: it is denied", decision.show());
            Terms { remark: Some((Fate::Narrowed, why)), ..Terms::deny() }
        }
    };
    let why = stranger.or(unknown);
    let opens = terms.act == Act::Allow && (terms.tcp || terms.udp);
    match (terms.act, why) {
        // It may bound what is allowed.
        (Act::Allow, Some(why)) => lose_each(resources, &why, draft),
        (Act::Allow, None) if !opens => lose_each(resources, "it allows no connection", draft),
        (Act::Deny, Some(why)) => {
            let remark = worse(terms.remark.clone(), Some((Fate::Narrowed, format!("{why}: all is denied"))));
            each(resources, &Terms { remark, ..terms }, ports, draft);
        }
        (Act::Allow | Act::Deny, None) => each(resources, &terms, ports, draft),
    }
}

/// Actions of rules for files.
const FILES: [&str; 2] = ["read", "write"];

/// Actions of rules for networks.
const NETWORK: [&str; 2] = ["connect:tcp", "connect:udp"];

/// What rules may say.
const KEYS: [&str; 6] = ["id", "name", "description", "actions", "resources", "decision"];

fn about_nothing(node: &Node, decision: &Node, draft: &mut Draft<'_>) {
    let (was, why) = (node.show(), "it has no key `resources`");
    let at = At { place: &node.place, was: &was };
    match decision.text() {
        Some("allow") => draft.lose(at, Section::Rules, why),
        Some(_) | None => draft.cut(at, why),
    }
}

fn lose_each(list: &Node, why: &str, draft: &mut Draft<'_>) {
    for entry in list.items() {
        draft.lose(At { place: &entry.place, was: &entry.show() }, Section::Rules, why);
    }
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
    remark: Remark,
}

impl Terms {
    fn allow() -> Self {
        Self { act: Act::Allow, tcp: true, udp: false, methods: Vec::new(), path: None, remark: None }
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
            draft.deny(at, reading, port.as_slice(), &[], worse(terms.remark.clone(), remark));
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
