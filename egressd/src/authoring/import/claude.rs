//! Claude Code's `settings.json`, and the settings of the sandbox runtime below it.
//!
//! Read in anthropic-experimental/sandbox-runtime (`src/sandbox/domain-pattern.ts`, `sandbox-config.ts`):
//! `example.com` is this name, `*.example.com` all below it, on every port unless one is named; `*` may be denied
//! only; what is denied wins, then what is asked about; numbers are addresses, never networks. Claude Code adds the
//! domains of its rules `WebFetch(domain:...)` to the lists.

use super::{
    ImportError,
    draft::{At, Draft, Section},
    names::{Dialect, Numbers, Opening, Reach, read, split_port, tcp, web},
    tree::{self, Node},
};
use crate::authoring::fate::Fate;

const DIALECT: Dialect = Dialect {
    plain: Reach::Only,
    star: Reach::Below,
    two_stars: None,
    inner: Reach::Below,
    numbers: Numbers::Addresses,
};

/// Translates `settings.json` of Claude Code.
pub(super) fn settings(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let root = tree::json(draft.file, text)?;
    let mut ports = AnyPort::default();
    if let Some(network) = root.at(&["sandbox", "network"]) {
        lists(network, &mut ports, draft);
    }
    for (list, act) in [("allow", Act::Allow), ("ask", Act::Ask), ("deny", Act::Deny)] {
        for rule in root.at(&["permissions", list]).map(Node::items).unwrap_or_default() {
            web_fetch(rule, act, &mut ports, draft);
        }
    }
    if draft.is_empty() {
        let what = "neither `sandbox.network` nor `WebFetch(domain:...)`";
        return Err(ImportError::Nothing(what, draft.file.to_owned()));
    }
    ports.report(draft);
    Ok(())
}

/// Translates the settings of the sandbox runtime.
pub(super) fn runtime(text: &str, draft: &mut Draft<'_>) -> Result<(), ImportError> {
    let root = tree::json(draft.file, text)?;
    let Some(network) = root.get("network") else {
        return Err(ImportError::Nothing("no `network`", draft.file.to_owned()));
    };
    let mut ports = AnyPort::default();
    lists(network, &mut ports, draft);
    ports.report(draft);
    Ok(())
}

fn lists(network: &Node, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    for entry in network.get("allowedDomains").map(Node::items).unwrap_or_default() {
        allow(At { place: &entry.place, was: &entry.show() }, &entry.show(), ports, draft);
    }
    for entry in network.get("deniedDomains").map(Node::items).unwrap_or_default() {
        deny(At { place: &entry.place, was: &entry.show() }, &entry.show(), draft);
    }
    for key in ["allowUnixSockets", "allowAllUnixSockets", "allowLocalBinding"] {
        let Some(node) =
            network.get(key).filter(|node| !matches!(node.show().as_str(), "false" | "[]" | "null"))
        else {
            continue;
        };
        let was = format!("{key}: {}", node.show());
        draft.lose(
            At { place: &node.place, was: &was },
            Section::Rules,
            "of sockets on this host, `host_sockets` opens all or none",
        );
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Allow,
    Ask,
    Deny,
}

fn web_fetch(rule: &Node, act: Act, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let was = rule.show();
    let at = At { place: &rule.place, was: &was };
    let Some(inner) = was.strip_prefix("WebFetch") else { return };
    let domain = inner.strip_prefix("(domain:").and_then(|rest| rest.strip_suffix(')'));
    match (act, domain) {
        (Act::Allow, Some(domain)) => allow(at, domain, ports, draft),
        (Act::Deny, Some(domain)) => deny(at, domain, draft),
        (Act::Ask, Some(domain)) => ask(at, domain, ports, draft),
        (Act::Ask, None) => {
            draft.cut(at, "people are asked about the whole tool: `approve_unknown: true` does so here")
        }
        (Act::Deny, None) => draft.cut(at, "the whole tool is denied, and no rule of ours knows tools"),
        (Act::Allow, None) => {
            draft.lose(
                at,
                Section::Rules,
                "a tool without a domain may fetch from every host: name those that are needed",
            );
        }
    }
}

fn allow(at: At<'_>, text: &str, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let (host, port) = split_port(text);
    match port.transpose() {
        Ok(port) => draft.allow(at, read(host, DIALECT), &openings(at, port, ports), &[], None),
        Err(why) => draft.lose(at, Section::Rules, &why),
    }
}

/// Of what is asked about, nothing may pass without a question.
fn ask(at: At<'_>, text: &str, ports: &mut AnyPort, draft: &mut Draft<'_>) {
    let (host, port) = split_port(text);
    match port.transpose() {
        Ok(port) => draft.ask(at, read(host, DIALECT), port.as_slice(), &openings(at, port, ports)),
        Err(why) => draft.cut(at, &why),
    }
}

fn deny(at: At<'_>, text: &str, draft: &mut Draft<'_>) {
    let (host, port) = split_port(text);
    match port.transpose() {
        Ok(port) => draft.deny(at, read(host, DIALECT), port.as_slice(), &[], None),
        Err(why) => draft.cut(at, &why),
    }
}

fn openings(at: At<'_>, port: Option<u16>, ports: &mut AnyPort) -> Vec<Opening> {
    match port {
        Some(port) => tcp(&[port]),
        None => {
            ports.seen(at);
            web()
        }
    }
}

/// Whether an entry that allows names no port, of which it is enough to speak once.
#[derive(Debug, Default)]
pub(super) struct AnyPort(Option<String>);

impl AnyPort {
    pub(super) fn seen(&mut self, at: At<'_>) {
        self.0.get_or_insert_with(|| at.place.to_owned());
    }

    pub(super) fn report(self, draft: &mut Draft<'_>) {
        let Some(place) = self.0 else { return };
        let at = At { place: &place, was: "names without a port" };
        draft.note(
            at,
            Fate::Narrowed,
            "they mean every port; TLS on 443 and HTTP on 80 are written for each",
        );
    }
}
