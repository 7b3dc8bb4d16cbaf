//! The nftables ruleset, as text: what the agents may do should the programs ever be missing.

use super::tables::NetworkEntry;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The ports of the listeners that serve one agent, on 127.0.0.1 and on `::1`; 0 where there is
/// none.
pub type Listeners = egress_common::AgentConfig;

/// What one agent may reach, in nft's terms.
#[derive(Debug, Clone, Default)]
pub struct Share {
    pub agent: u32,
    /// Path of the agent's cgroup below `/sys/fs/cgroup`, and its depth in the hierarchy.
    pub cgroup: String,
    pub level: usize,
    pub listeners: Listeners,
    pub networks: Vec<NetworkEntry>,
    /// Addresses that names earned directly: IANA protocol number, address, port.
    pub direct: BTreeSet<(u8, IpAddr, u16)>,
}

/// One transaction that makes `table` anew, with `root` (path and depth) as the cgroup above all
/// agents. Rejects rather than drops, so that a caller hears of it at once.
#[must_use]
pub fn ruleset(table: &str, root: (&str, usize), shares: &[Share]) -> String {
    let mut text = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    for share in shares {
        sets(&mut text, share);
        chain(&mut text, share);
    }
    line(&mut text, format_args!("\tchain agents {{"));
    for share in shares {
        let Share { cgroup, level, agent, .. } = share;
        line(&mut text, format_args!("\t\tsocket cgroupv2 level {level} \"{cgroup}\" goto agent_{agent}"));
    }
    line(&mut text, format_args!("{DENY}\t}}"));
    line(&mut text, format_args!("\tchain output {{"));
    line(&mut text, format_args!("\t\ttype filter hook output priority filter; policy accept;"));
    line(&mut text, format_args!("\t\tsocket cgroupv2 level {} \"{}\" goto agents", root.1, root.0));
    text.push_str("\t}\n}\n");
    text
}

/// A transaction that adds addresses to the sets of `agent`.
#[must_use]
pub fn additions(table: &str, agent: u32, direct: &[(u8, IpAddr, u16)]) -> String {
    let mut text = String::new();
    for (transport, address, port) in direct {
        let family = family(*address);
        line(
            &mut text,
            format_args!(
                "add element inet {table} direct{family}_{agent} {{ {address} . {transport} . {port} }}"
            ),
        );
    }
    text
}

/// A transaction that removes `table`.
#[must_use]
pub fn removal(table: &str) -> String {
    format!("table inet {table}\ndelete table inet {table}\n")
}

const DENY: &str =
    "\t\tmeta l4proto tcp counter reject with tcp reset\n\t\tcounter reject with icmpx admin-prohibited\n";

fn sets(text: &mut String, share: &Share) {
    for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        line(text, format_args!("\tset direct{family}_{} {{", share.agent));
        line(text, format_args!("\t\ttype {kind} . inet_proto . inet_service"));
        let elements: Vec<String> = share
            .direct
            .iter()
            .filter(|(_, address, _)| self::family(*address) == family)
            .map(|(transport, address, port)| format!("{address} . {transport} . {port}"))
            .collect();
        if !elements.is_empty() {
            line(text, format_args!("\t\telements = {{ {} }}", elements.join(", ")));
        }
        line(text, format_args!("\t}}"));
    }
}

fn chain(text: &mut String, share: &Share) {
    line(text, format_args!("\tchain agent_{} {{", share.agent));
    let ports = &share.listeners;
    listeners(text, IpAddr::V4(Ipv4Addr::LOCALHOST), ports.dns_v4, [ports.proxy_v4, ports.explicit_v4]);
    listeners(text, IpAddr::V6(Ipv6Addr::LOCALHOST), ports.dns_v6, [ports.proxy_v6, ports.explicit_v6]);
    for network in &share.networks {
        let (word, transport) = (word(network.network.addr()), transport(network.transport));
        let (net, port) = (network.network, network.port);
        let is_loopback = network.network.addr().is_loopback();
        // A socket chooses its device: what is for this host must not be put on a wire.
        let device = if is_loopback { "oif lo " } else { "" };
        line(text, format_args!("\t\t{device}{word} daddr {net} {transport} dport {port} accept"));
        if is_loopback {
            // A listener of the agent's own answers from there.
            line(text, format_args!("\t\toif lo {word} saddr {net} {transport} sport {port} accept"));
        }
    }
    let agent = share.agent;
    line(text, format_args!("\t\tip daddr . meta l4proto . th dport @direct4_{agent} accept"));
    line(text, format_args!("\t\tip6 daddr . meta l4proto . th dport @direct6_{agent} accept"));
    text.push_str(DENY);
    line(text, format_args!("\t}}"));
}

fn listeners(text: &mut String, address: IpAddr, dns: u16, tcp: [u16; 2]) {
    let word = word(address);
    if dns != 0 {
        line(text, format_args!("\t\toif lo {word} daddr {address} udp dport {dns} accept"));
    }
    for port in [dns, tcp[0], tcp[1]].into_iter().filter(|port| *port != 0) {
        line(text, format_args!("\t\toif lo {word} daddr {address} tcp dport {port} accept"));
    }
}

fn word(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

fn transport(number: u8) -> &'static str {
    if number == egress_common::UDP { "udp" } else { "tcp" }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{arguments}");
}
