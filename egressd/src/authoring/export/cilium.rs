//! A policy as a `CiliumNetworkPolicy`.
//!
//! Cilium denies by network, never by name: what a denial takes from a rule for names is left out of it.

use super::plan::{Report, exported, left_out, never, remaining, resolvers_in, special};
use crate::{
    authoring::fate::quote,
    policy::{AgentName, Pattern, Policy, Protocol, Rule, Subject, special_within},
};
use ipnet::IpNet;
use std::fmt::Write;

pub(super) fn write(policy: &Policy, agent: &AgentName, report: &mut Report) -> String {
    let mut egress = Vec::new();
    let mut names = Vec::new();
    // Only a denial keeps names from private addresses, and it would hold for all of them.
    let opens_private = exported(policy).any(|rule| rule.private && matches!(rule.subject, Subject::Host(_)));
    for rule in policy.allow() {
        if let Some(why) = left_out(policy, rule) {
            report.lost(rule, why);
            continue;
        }
        match &rule.subject {
            Subject::Host(_) if opens_private && !rule.private => {
                report
                    .lost(rule, "a rule with `private: true` would open private addresses to this name, too");
            }
            Subject::Host(pattern) => host_rule(policy, rule, pattern, &mut names, &mut egress, report),
            Subject::Network(network) => {
                egress.push(network_rule(rule, *network));
                report.wrote(rule, vec![format!("toCIDRSet: {network}")]);
                report.terms(rule);
            }
        }
    }
    let mut deny: Vec<String> = policy.deny().iter().filter_map(|rule| deny_rule(rule, report)).collect();
    let closed = if opens_private { never() } else { special() };
    deny.extend(Closed { policy, networks: &closed }.denials());
    document(agent, &names, &egress, &deny)
}

fn host_rule(
    policy: &Policy,
    rule: &Rule,
    pattern: &Pattern,
    names: &mut Vec<String>,
    egress: &mut Vec<String>,
    report: &mut Report,
) {
    if let Some(zone) = resolvers_in(pattern).first() {
        let why = format!("the resolver `{zone}` would be open, which no denial can name");
        return report.lost(rule, &why);
    }
    let left = remaining(policy, rule, pattern);
    if left.ports.is_empty() {
        return match left.denied_in_part {
            Some(deny) => report.lost(rule, &format!("{deny} denies a part of it, which no denial can name")),
            None => report.wrote(rule, Vec::new()),
        };
    }
    let selector = match pattern {
        Pattern::Exact(name) => format!("matchName: \"{name}\""),
        Pattern::OneLabel(_) | Pattern::AnyLabels(_) => format!("matchPattern: \"{pattern}\""),
    };
    names.push(selector.clone());
    egress.push(format!(
        "{}    - toFQDNs:\n        - {selector}\n{}",
        comment(rule),
        ports(&left.ports, rule.protocol)
    ));
    let became = vec![format!("toFQDNs: {selector}")];
    match left.denied_in_part {
        Some(deny) => {
            report.narrowed(rule, became, &format!("{deny} denies a part of it at ports that were left out"))
        }
        None => report.wrote(rule, became),
    }
    report.terms(rule);
}

fn network_rule(rule: &Rule, network: IpNet) -> String {
    let holes = special_within(network);
    let mut text = format!("{}    - toCIDRSet:\n        - cidr: \"{network}\"\n", comment(rule));
    if !holes.is_empty() {
        let holes: Vec<String> = holes.iter().map(|hole| format!("\"{hole}\"")).collect();
        // Writing to a String does not fail.
        let _ = writeln!(text, "          except: [{}]", holes.join(", "));
    }
    text + &ports(&rule.ports, rule.protocol)
}

fn deny_rule(rule: &Rule, report: &mut Report) -> Option<String> {
    let Subject::Network(network) = &rule.subject else {
        report.wrote(rule, Vec::new());
        return None;
    };
    let text = format!(
        "{}    - toCIDRSet:\n        - cidr: \"{network}\"\n{}",
        comment(rule),
        ports(&rule.ports, rule.protocol)
    );
    let became = vec![format!("egressDeny: {network}")];
    match rule.protocol {
        None => report.wrote(rule, became),
        Some(_) => report.narrowed(rule, became, "it is denied whatever is spoken over its transport"),
    }
    Some(text)
}

/// What no name that is exported may have as its address, but for what rules for networks open there.
struct Closed<'p> {
    policy: &'p Policy,
    networks: &'p [IpNet],
}

impl Closed<'_> {
    /// One denial of what is closed whole, and one of the other ports of each part that is open at some.
    fn denials(&self) -> Vec<String> {
        let parts = self.parts();
        let (mut whole, mut in_part) = (String::new(), Vec::new());
        for part in &parts {
            let entry = entry(*part, &parts);
            match [Transport::Tcp, Transport::Udp].map(|transport| self.closed_ports(*part, transport)) {
                [tcp, udp] if tcp == EVERY_PORT && udp == EVERY_PORT => whole.push_str(&entry),
                [tcp, udp] if tcp.is_empty() && udp.is_empty() => {}
                [tcp, udp] => {
                    let ports = [ranges(&tcp, Transport::Tcp), ranges(&udp, Transport::Udp)].concat();
                    in_part.push(format!("    - toCIDRSet:\n{entry}{}", to_ports(&ports)));
                }
            }
        }
        if !whole.is_empty() {
            whole.insert_str(0, "    # Addresses that names must not have.\n    - toCIDRSet:\n");
            in_part.insert(0, whole);
        }
        in_part
    }

    /// The networks that are closed, those in them that rules open, and those in these that they do not. Of two,
    /// one holds the other, or they have nothing in common.
    fn parts(&self) -> Vec<IpNet> {
        let is_closed = |part: &IpNet| self.networks.iter().any(|network| network.contains(part));
        let opened =
            self.opened().flat_map(|(network, _)| special_within(network).into_iter().chain([network]));
        let mut parts: Vec<IpNet> = opened.filter(is_closed).chain(self.networks.iter().copied()).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// Rules for networks that are exported.
    fn opened(&self) -> impl Iterator<Item = (IpNet, &Rule)> {
        exported(self.policy).filter_map(|rule| match rule.subject {
            Subject::Network(network) => Some((network, rule)),
            Subject::Host(_) => None,
        })
    }

    /// The ports at which no rule opens `part`, lest a name that has its addresses opens them.
    fn closed_ports(&self, part: IpNet, transport: Transport) -> Vec<(u16, u16)> {
        let mut open = Vec::new();
        for (network, rule) in self.opened() {
            let is_hole = || special_within(network).iter().any(|hole| hole.contains(&part));
            if !network.contains(&part) || is_hole() || !transport.carries(rule.protocol) {
                continue;
            }
            if rule.ports.is_empty() {
                return Vec::new();
            }
            open.extend(&rule.ports);
        }
        open.sort_unstable();
        gaps(&open)
    }
}

/// `part` without the largest of the `parts` in it, which have entries of their own.
fn entry(part: IpNet, parts: &[IpNet]) -> String {
    let inner: Vec<IpNet> =
        parts.iter().copied().filter(|inner| part.contains(inner) && part != *inner).collect();
    let is_largest =
        |network: &&IpNet| !inner.iter().any(|other| other != *network && other.contains(*network));
    let except: Vec<String> = inner.iter().filter(is_largest).map(|inner| format!("\"{inner}\"")).collect();
    let mut entry = format!("        - cidr: \"{part}\"\n");
    if !except.is_empty() {
        let _ = writeln!(entry, "          except: [{}]", except.join(", "));
    }
    entry
}

/// The ranges between sorted ports.
fn gaps(ports: &[u16]) -> Vec<(u16, u16)> {
    let mut gaps = Vec::new();
    let mut next = 1_u16;
    for port in ports {
        if next < *port {
            gaps.push((next, port - 1));
        }
        match port.checked_add(1) {
            Some(after) => next = after,
            None => return gaps,
        }
    }
    gaps.push((next, u16::MAX));
    gaps
}

const EVERY_PORT: [(u16, u16); 1] = [(1, u16::MAX)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tls | Protocol::Http | Protocol::Tcp => Self::Tcp,
            Protocol::Udp | Protocol::Quic => Self::Udp,
        }
    }

    fn carries(self, protocol: Option<Protocol>) -> bool {
        protocol.is_none_or(|protocol| Self::of(protocol) == self)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

fn ports(ports: &[u16], protocol: Option<Protocol>) -> String {
    let transport = protocol.map_or("ANY", |protocol| Transport::of(protocol).word());
    let entry = |port: &u16| format!("            - {{port: \"{port}\", protocol: {transport}}}\n");
    match (ports, protocol) {
        ([], None) => String::new(),
        // Port 0 is every port.
        ([], Some(_)) => to_ports(&[entry(&0)]),
        (ports, _) => to_ports(&ports.iter().map(entry).collect::<Vec<_>>()),
    }
}

fn ranges(ranges: &[(u16, u16)], transport: Transport) -> Vec<String> {
    let word = transport.word();
    let entry = |(first, last): &(u16, u16)| {
        format!("            - {{port: \"{first}\", endPort: {last}, protocol: {word}}}\n")
    };
    ranges.iter().map(entry).collect()
}

/// Entries of ports, in lists that are not too long for Cilium.
fn to_ports(entries: &[String]) -> String {
    let lists = entries.chunks(MAX_PORTS).map(|list| format!("        - ports:\n{}", list.concat()));
    format!("      toPorts:\n{}", lists.collect::<String>())
}

/// Cilium refuses a longer list (`maxPorts` in its `pkg/policy/api`).
const MAX_PORTS: usize = 40;

fn comment(rule: &Rule) -> String {
    format!("    # {}\n", quote(&rule.source.to_string()))
}

fn document(agent: &AgentName, names: &[String], egress: &[String], deny: &[String]) -> String {
    let mut text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: {}\nspec:\n  endpointSelector:\n    \
         matchLabels:\n      egressd/agent: \"{agent}\"\n  egress:\n",
        object_name(agent)
    );
    if !names.is_empty() {
        text.push_str(LOOKUPS);
        for name in names {
            let _ = writeln!(text, "              - {name}");
        }
    }
    egress.iter().for_each(|rule| text.push_str(rule));
    if names.is_empty() && egress.is_empty() {
        text.push_str("    - {}\n");
    }
    if !deny.is_empty() {
        text.push_str("  egressDeny:\n");
        deny.iter().for_each(|rule| text.push_str(rule));
    }
    text
}

/// Without lookups that it sees, Cilium knows no addresses of names.
const LOOKUPS: &str = "    \
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s:k8s-app: kube-dns
      toPorts:
        - ports:
            - {port: \"53\", protocol: ANY}
          rules:
            dns:
";

/// A name of an object in Kubernetes: lower case letters, digits and dashes (RFC 1123).
fn object_name(agent: &AgentName) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = agent.as_str().chars().map(letter).collect();
    format!("egressd-{}", name.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_the_ports_between() {
        assert_eq!(gaps(&[]), [(1, 65535)]);
        assert_eq!(gaps(&[1, 443, 443, 65535]), [(2, 442), (444, 65534)]);
    }
}
