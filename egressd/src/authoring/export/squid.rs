//! A policy as lines of `squid.conf`.
//!
//! Squid's first line that fits decides, so denials come first. A tunnel (CONNECT) is what TLS and other bytes pass in; a
//! plain request is HTTP.

use super::plan::{Report, describe, left_out, never, resolvers_in, special};
use crate::{
    authoring::fate::quote,
    policy::{Pattern, Policy, Protocol, Rule, Subject, special_within},
};
use ipnet::IpNet;
use std::collections::BTreeSet;

pub(super) fn write(policy: &Policy, report: &mut Report) -> String {
    let mut lists = vec!["acl egressd_connect method CONNECT".to_owned()];
    lists.extend(list("egressd_special", "dst", &special()));
    lists.extend(list("egressd_never", "dst", &never()));
    let zones: BTreeSet<&str> =
        policy.allow().iter().filter_map(|rule| host(&rule.subject)).flat_map(resolvers_in).collect();
    lists.extend(zones.iter().map(|zone| format!("acl egressd_resolvers dstdomain -n .{zone}")));
    let mut access = Vec::new();
    for (index, rule) in policy.deny().iter().enumerate() {
        Writer { name: format!("egressd_deny_{}", index + 1), lists: &mut lists, access: &mut access }
            .deny(rule, report);
    }
    for (index, rule) in policy.allow().iter().enumerate() {
        Writer { name: format!("egressd_allow_{}", index + 1), lists: &mut lists, access: &mut access }
            .allow(rule, report);
    }
    access.push("http_access deny all".to_owned());
    format!("{}\n{}\n", lists.join("\n"), access.join("\n"))
}

/// What one rule is written with.
struct Writer<'w> {
    name: String,
    lists: &'w mut Vec<String>,
    access: &'w mut Vec<String>,
}

impl Writer<'_> {
    fn deny(&mut self, rule: &Rule, report: &mut Report) {
        let method = match rule.protocol {
            None => "",
            Some(Protocol::Tls | Protocol::Tcp) => " egressd_connect",
            Some(Protocol::Http) => " !egressd_connect",
            Some(Protocol::Udp | Protocol::Quic) => return report.wrote(rule, Vec::new()),
        };
        self.comment(rule);
        self.subject(&rule.subject, "dst");
        let ports = self.ports(rule);
        let line = format!("http_access deny {}{ports}{method}", self.name);
        match rule.protocol {
            Some(Protocol::Tls | Protocol::Tcp) => {
                report.narrowed(rule, vec![line.clone()], "a tunnel is denied whatever it holds");
            }
            None | Some(Protocol::Http | Protocol::Udp | Protocol::Quic) => {
                report.wrote(rule, vec![line.clone()])
            }
        }
        self.access.push(line);
    }

    fn allow(&mut self, rule: &Rule, report: &mut Report) {
        if let Some(why) = left_out(rule) {
            return report.lost(rule, why);
        }
        let method = match (rule.protocol, &rule.subject) {
            (Some(Protocol::Udp | Protocol::Quic), _) => return report.lost(rule, "only TCP passes a proxy"),
            (Some(Protocol::Tcp) | None, Subject::Network(_)) => "",
            (Some(Protocol::Http), _) => " !egressd_connect",
            (Some(Protocol::Tls | Protocol::Tcp) | None, _) => " egressd_connect",
        };
        self.comment(rule);
        // Without a lookup, so that a name is not let through for its addresses.
        self.subject(&rule.subject, "dst -n");
        let ports = self.ports(rule);
        let except = self.except(rule);
        let line = format!("http_access allow {}{ports}{method}{except}", self.name);
        report.wrote(rule, vec![line.clone()]);
        report.terms(rule);
        self.access.push(line);
    }

    fn comment(&mut self, rule: &Rule) {
        self.lists.push(format!("# {}: {}", quote(&rule.source.to_string()), quote(&describe(rule))));
    }

    fn subject(&mut self, subject: &Subject, networks: &str) {
        let name = &self.name;
        self.lists.push(match subject {
            Subject::Network(network) => format!("acl {name} {networks} {network}"),
            Subject::Host(Pattern::Exact(host)) => format!("acl {name} dstdomain -n {host}"),
            Subject::Host(Pattern::OneLabel(zone)) => {
                format!(r"acl {name} dstdom_regex -n -i ^[^.]+\.{}$", escaped(zone.as_str()))
            }
            Subject::Host(Pattern::AnyLabels(zone)) => {
                format!(r"acl {name} dstdom_regex -n -i ^([^.]+\.)+{}$", escaped(zone.as_str()))
            }
        });
    }

    fn ports(&mut self, rule: &Rule) -> String {
        if rule.ports.is_empty() {
            return String::new();
        }
        let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
        self.lists.push(format!("acl {}_port port {}", self.name, ports.join(" ")));
        format!(" {}_port", self.name)
    }

    /// What the rule does not open, though its names or its network cover it.
    fn except(&mut self, rule: &Rule) -> String {
        match &rule.subject {
            Subject::Network(network) => {
                let name = format!("{}_not", self.name);
                let holes = special_within(*network);
                self.lists.extend(list(&name, "dst -n", &holes));
                if holes.is_empty() { String::new() } else { format!(" !{name}") }
            }
            Subject::Host(pattern) => {
                let addresses = if rule.private { " !egressd_never" } else { " !egressd_special" };
                let resolvers = if resolvers_in(pattern).is_empty() { "" } else { " !egressd_resolvers" };
                format!("{addresses}{resolvers}")
            }
        }
    }
}

fn host(subject: &Subject) -> Option<&Pattern> {
    match subject {
        Subject::Host(pattern) => Some(pattern),
        Subject::Network(_) => None,
    }
}

/// Lines of some networks each, for a line of Squid's may not be endless.
fn list(name: &str, kind: &str, networks: &[IpNet]) -> Vec<String> {
    let line = |some: &[IpNet]| {
        let some: Vec<String> = some.iter().map(IpNet::to_string).collect();
        format!("acl {name} {kind} {}", some.join(" "))
    };
    networks.chunks(16).map(line).collect()
}

fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}
