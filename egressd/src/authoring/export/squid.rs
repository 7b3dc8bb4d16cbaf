//! A policy as lines of `squid.conf`.
//!
//! Squid's first line that fits decides, so denials come first. A tunnel (CONNECT) is what TLS and other bytes pass in; a
//! plain request is HTTP.

use super::plan::{Report, describe, exported, left_out, never, resolvers_in, special, without};
use crate::{
    authoring::fate::quote,
    policy::{Pattern, Policy, Protocol, Rule, Subject, special_within},
};
use ipnet::{IpNet, Ipv6Net};
use std::{collections::BTreeSet, net::Ipv6Addr};

pub(super) fn write(policy: &Policy, report: &mut Report) -> String {
    let mut lists = vec!["acl egressd_connect method CONNECT".to_owned()];
    for (name, networks) in [("egressd_special", special()), ("egressd_never", never())] {
        let (v4, v6): (Vec<IpNet>, Vec<IpNet>) =
            networks.into_iter().partition(|network| matches!(network, IpNet::V4(_)));
        lists.extend(list(name, "dst", &v4));
        lists.extend(list(&format!("{name}_6"), "dst", &v6));
    }
    let zones: BTreeSet<&str> =
        exported(policy).filter_map(|rule| host(&rule.subject)).flat_map(resolvers_in).collect();
    lists.extend(zones.iter().map(|zone| format!("acl egressd_resolvers dstdomain -n .{zone}")));
    let mut access = Vec::new();
    for (index, rule) in policy.deny().iter().enumerate() {
        Writer { name: format!("egressd_deny_{}", index + 1), lists: &mut lists, access: &mut access }
            .deny(rule, report);
    }
    for (index, rule) in policy.allow().iter().enumerate() {
        Writer { name: format!("egressd_allow_{}", index + 1), lists: &mut lists, access: &mut access }
            .allow(policy, rule, report);
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

    fn allow(&mut self, policy: &Policy, rule: &Rule, report: &mut Report) {
        if let Some(why) = left_out(policy, rule) {
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
            Subject::Network(network) => return self.lists.extend(list(name, networks, &[*network])),
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
                let addresses = match rule.private {
                    true => " !egressd_never !egressd_never_6",
                    false => " !egressd_special !egressd_special_6",
                };
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
    let networks: Vec<IpNet> = networks.iter().copied().flat_map(spelt).collect();
    networks.chunks(16).map(line).collect()
}

/// A network in parts that Squid reads as it is meant. IPv4 is a part of IPv6 to it, `::ffff:0:0/96`: it ignores
/// one of two networks of which one holds the other, and has `::/3` match every IPv4 address. `0.0.0.0/0` is every
/// address of both.
fn spelt(network: IpNet) -> Vec<IpNet> {
    match network {
        IpNet::V4(all) if all.prefix_len() == 0 => network.subnets(1).into_iter().flatten().collect(),
        IpNet::V4(_) => vec![network],
        IpNet::V6(_) => without(network, &[MAPPED]),
    }
}

const MAPPED: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96));

fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}
