//! A policy as an nftables chain: networks as rules, names as comments.

use super::plan::{Report, describe, left_out};
use crate::{
    authoring::fate::quote,
    policy::{AgentName, Policy, Protocol, Rule, Subject, special_within},
};
use ipnet::IpNet;

pub(super) fn write(policy: &Policy, agent: &AgentName, report: &mut Report) -> String {
    let mut lines = Vec::new();
    for rule in policy.deny() {
        lines.extend(deny(rule, report));
    }
    for rule in policy.allow() {
        lines.extend(allow(policy, rule, report));
    }
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let chain: String = agent.as_str().chars().map(letter).collect();
    let body: String = lines.iter().map(|line| format!("\t\t{line}\n")).collect();
    format!(
        "# To be reached by a jump from a chain with a hook, for the packets of this agent only.\n\
         table inet egressd_export {{\n\tchain agent_{chain} {{\n\t\tct state established,related accept\n{body}\t\tdrop\n\t}}\n}}\n"
    )
}

fn deny(rule: &Rule, report: &mut Report) -> Vec<String> {
    let Subject::Network(network) = rule.subject else {
        let line = format!("# deny {}: a name", quote(&describe(rule)));
        report.lost(rule, "a name has no address before it is looked up");
        return vec![line];
    };
    let lines: Vec<String> = match (rule.protocol, rule.ports.as_slice()) {
        (None, []) => vec![format!("{} drop", destination(network))],
        (None, ports) => {
            ["tcp", "udp"].map(|transport| matched(network, &[], transport, ports, "drop")).to_vec()
        }
        (Some(protocol), ports) => vec![matched(network, &[], transport(protocol), ports, "drop")],
    };
    match rule.protocol {
        None => report.wrote(rule, lines.clone()),
        Some(_) => report.narrowed(rule, lines.clone(), "it is denied whatever is spoken over its transport"),
    }
    lines
}

fn allow(policy: &Policy, rule: &Rule, report: &mut Report) -> Vec<String> {
    if let Some(why) = left_out(policy, rule) {
        report.lost(rule, why);
        return Vec::new();
    }
    match (&rule.subject, rule.protocol) {
        (Subject::Network(network), Some(protocol)) => {
            let line =
                matched(*network, &special_within(*network), transport(protocol), &rule.ports, "accept");
            report.wrote(rule, vec![line.clone()]);
            report.terms(rule);
            vec![line]
        }
        (Subject::Network(_), None) => {
            report.lost(rule, "it names no protocol");
            Vec::new()
        }
        (Subject::Host(pattern), protocol) => {
            report.lost(rule, "a name has no address before it is looked up");
            let transport = protocol.map_or("tcp", transport);
            let ports = rule.ports.iter().map(|port| format!("# {pattern} {transport}/{port}"));
            ports.map(|line| format!("{line} ({})", quote(&rule.source.to_string()))).collect()
        }
    }
}

fn matched(network: IpNet, holes: &[IpNet], transport: &str, ports: &[u16], verdict: &str) -> String {
    let holes: Vec<String> = holes.iter().map(IpNet::to_string).collect();
    let except = match holes.as_slice() {
        [] => String::new(),
        holes => format!(" {} daddr != {{ {} }}", family(network), holes.join(", ")),
    };
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let ports = match ports.as_slice() {
        [] => format!("meta l4proto {transport}"),
        ports => format!("{transport} dport {{ {} }}", ports.join(", ")),
    };
    format!("{}{except} {ports} {verdict}", destination(network))
}

fn destination(network: IpNet) -> String {
    format!("{} daddr {network}", family(network))
}

fn family(network: IpNet) -> &'static str {
    match network {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    }
}

fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tls | Protocol::Http | Protocol::Tcp => "tcp",
        Protocol::Udp | Protocol::Quic => "udp",
    }
}
