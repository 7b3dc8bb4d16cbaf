//! The ports of a rule: numbers, and ranges of them.

use super::{diagnostic::Diagnostic, document::Document};
use serde::{Deserialize, Deserializer, de::Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// `443`, or `8000-8010`: from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (range.first <= range.last).then_some(range)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PortVisitor)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = PortRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PortRange, E> {
        PortRange::parse(text).ok_or_else(|| E::custom(EXPECTED))
    }
}

const EXPECTED: &str = "expected a port, 1 to 65535, or a range of them, as in 8000-8010";

/// The most ports that one rule may name: each costs a kernel entry for every address of the
/// name, and 64 of both still fit an agent's bound on grants.
const MAX_PORTS: usize = 64;

/// The DNS port, which the kernel hands to the agent's own resolver whatever server was asked.
const DNS_PORT: u16 = 53;

/// The ports of a rule that allows, sorted.
pub(super) fn allowed(
    document: &Document,
    ports: &Spanned<Vec<Spanned<PortRange>>>,
) -> Result<Vec<u16>, Diagnostic> {
    let holds = |range: &PortRange| (range.first..=range.last).contains(&DNS_PORT);
    if let Some(port) = ports.value.iter().find(|port| holds(&port.value)) {
        return Err(document
            .error(port.referenced, "port 53 cannot be opened")
            .label("it always reaches the resolver of egressd")
            .help("names are looked up without a rule for port 53"));
    }
    sorted(document, ports)
}

/// The ports of any rule, sorted.
pub(super) fn sorted(
    document: &Document,
    ports: &Spanned<Vec<Spanned<PortRange>>>,
) -> Result<Vec<u16>, Diagnostic> {
    if ports.value.is_empty() {
        return Err(document
            .error(ports.referenced, "`ports` is empty")
            .help("leave the key out for the default, or name at least one port"));
    }
    if let Some(port) = ports.value.iter().find(|port| port.value.first == 0) {
        return Err(document.error(port.referenced, EXPECTED));
    }
    let count: usize =
        ports.value.iter().map(|port| usize::from(port.value.last - port.value.first) + 1).sum();
    if count > MAX_PORTS {
        return Err(document.error(
            ports.referenced,
            format!("`ports` names {count} ports, at most {MAX_PORTS} are allowed"),
        ));
    }
    let mut sorted: Vec<u16> =
        ports.value.iter().flat_map(|port| port.value.first..=port.value.last).collect();
    sorted.sort_unstable();
    sorted.dedup();
    Ok(sorted)
}
