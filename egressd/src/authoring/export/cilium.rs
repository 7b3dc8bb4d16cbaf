//! A policy as a `CiliumNetworkPolicy`.
//!
//! Cilium denies by network, never by name: what a denial takes from a rule for names is left out of it.

use super::plan::{Report, exported, is_special, left_out, never, remaining, resolvers_in, special};
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
            }
        }
    }
    let mut deny: Vec<String> = policy.deny().iter().filter_map(|rule| deny_rule(rule, report)).collect();
    let closed = if opens_private { never() } else { special() };
    deny.extend(closed_to_names(policy, &closed));
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

/// Denials that keep names from `closed` addresses, but for what rules for networks open there.
fn closed_to_names(policy: &Policy, closed: &[IpNet]) -> Vec<String> {
    let opened: Vec<IpNet> = exported(policy)
        .filter_map(|rule| match rule.subject {
            Subject::Network(network) if is_special(network) => Some(network),
            Subject::Network(_) | Subject::Host(_) => None,
        })
        .collect();
    let mut entries = String::new();
    for network in closed {
        let except: Vec<String> = opened
            .iter()
            .filter(|inner| network.contains(*inner))
            .map(|inner| format!("\"{inner}\""))
            .collect();
        let _ = writeln!(entries, "        - cidr: \"{network}\"");
        if !except.is_empty() {
            let _ = writeln!(entries, "          except: [{}]", except.join(", "));
        }
    }
    let mut denials = vec![format!("    # Addresses that names must not have.\n    - toCIDRSet:\n{entries}")];
    denials
        .extend(opened.iter().map(|network| other_ports(policy, *network)).filter(|text| !text.is_empty()));
    denials
}

/// Denies `network` at the ports at which no rule opens it, lest a name that has its addresses opens them.
fn other_ports(policy: &Policy, network: IpNet) -> String {
    let open = |wanted: Protocol| {
        let rules = exported(policy)
            .filter(move |rule| rule.subject == Subject::Network(network) && rule.protocol == Some(wanted));
        let mut ports: Vec<u16> = rules.flat_map(|rule| rule.ports.iter().copied()).collect();
        ports.sort_unstable();
        ports
    };
    let mut entries = String::new();
    for (protocol, word) in [(Protocol::Tcp, "TCP"), (Protocol::Udp, "UDP")] {
        for (first, last) in gaps(&open(protocol)) {
            let _ =
                writeln!(entries, "            - {{port: \"{first}\", endPort: {last}, protocol: {word}}}");
        }
    }
    if entries.is_empty() {
        return entries;
    }
    format!("    - toCIDRSet:\n        - cidr: \"{network}\"\n      toPorts:\n        - ports:\n{entries}")
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

fn ports(ports: &[u16], protocol: Option<Protocol>) -> String {
    let transport = match protocol {
        None => "ANY",
        Some(Protocol::Tls | Protocol::Http | Protocol::Tcp) => "TCP",
        Some(Protocol::Udp | Protocol::Quic) => "UDP",
    };
    let mut text = String::from("      toPorts:\n        - ports:\n");
    match (ports, protocol) {
        ([], None) => return String::new(),
        // Port 0 is every port.
        ([], Some(_)) => {
            let _ = writeln!(text, "            - {{port: \"0\", protocol: {transport}}}");
        }
        (ports, _) => {
            for port in ports {
                let _ = writeln!(text, "            - {{port: \"{port}\", protocol: {transport}}}");
            }
        }
    }
    text
}

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
