//! The nftables ruleset, as text: what the agents may do should the programs ever be missing.

use super::{seal::Link, tables::NetworkEntry};
use egress_common::{AGENT_MAC, GATEWAY_V4, GATEWAY_V6};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// The ports of the listeners that serve one agent, on 127.0.0.1 and on `::1`; 0 where there is
/// none.
pub type Listeners = egress_common::AgentConfig;

/// What one agent may reach, in nft's terms.
#[derive(Debug, Clone)]
pub struct Share {
    pub agent: u32,
    pub place: Place,
    pub listeners: Listeners,
    pub networks: Vec<NetworkEntry>,
    /// Addresses that names earned directly: IANA protocol number, address, port.
    pub direct: BTreeSet<(u8, IpAddr, u16)>,
}

/// Where the packets of an agent are met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// As they leave its sockets: path of its cgroup below `/sys/fs/cgroup`, and its depth there.
    Cgroup { path: String, level: usize },
    /// As they come out of its link.
    Link(Link),
}

/// Devices of sealed agents, as patterns of names, and the addresses behind them.
#[derive(Debug, Clone)]
pub struct Seals {
    pub devices: String,
    pub v4: IpNet,
    pub v6: IpNet,
}

/// One transaction that makes `table` say what `shares` say, and nothing else, with `root` (path and depth)
/// as the cgroup above all agents but those that were adopted elsewhere. Rejects rather than drops, so that
/// a caller hears of it at once. Without `tracking`, nothing goes to sealed agents from outside.
///
/// Sets and maps that stay are the same ones before and after: packets that are on their way while the
/// kernel goes from one to the other look into those of the rules that they met, and a map that goes with
/// its table is empty by then (net/netfilter/nf_tables_api.c, `nft_map_deactivate`).
#[must_use]
pub fn ruleset(
    table: &str,
    root: (&str, usize),
    seals: &Seals,
    tracking: Tracking,
    shares: &[Share],
    held: &Held,
) -> String {
    let mut text = match held {
        Held::Unknown => format!("table inet {table}\ndelete table inet {table}\n"),
        Held::Objects(_) => format!("add table inet {table}\nflush table inet {table}\n"),
    };
    let declared = declarations(table, root, seals, tracking, shares);
    text += &declared;
    let wanted = objects(&declared);
    for Object { kind, name } in wanted.iter().filter(|object| object.kind != CHAIN) {
        line(&mut text, format_args!("flush {kind} inet {table} {name}"));
    }
    for share in shares {
        match &share.place {
            Place::Cgroup { path, level } => {
                let verdict = format!("\"{path}\" : goto agent_{}", share.agent);
                line(&mut text, format_args!("add element inet {table} agents_{level} {{ {verdict} }}"));
                add_elements(&mut text, ("inet", table), share.agent, share);
            }
            Place::Link(_) => {}
        }
    }
    if let Held::Objects(held) = held {
        // A map that leads to a chain goes before it.
        let stale: Vec<_> = held.difference(&wanted).collect();
        for Object { kind, name } in stale.into_iter().rev() {
            line(&mut text, format_args!("delete {kind} inet {table} {name}"));
        }
    }
    text
}

/// What the table of an earlier moment holds.
#[derive(Debug)]
pub enum Held {
    /// There is none, or nothing is known of it: it is made anew.
    Unknown,
    Objects(BTreeSet<Object>),
}

/// What a table is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    kind: &'static str,
    name: String,
}

const CHAIN: &str = "chain";

/// What is declared in `text`, which is one of ours or what `nft` lists of it.
#[must_use]
pub fn objects(text: &str) -> BTreeSet<Object> {
    let declared = text.lines().filter_map(|line| {
        let (kind, name) = line.trim().strip_suffix(" {")?.split_once(' ')?;
        let kind = [CHAIN, "map", "set"].into_iter().find(|known| *known == kind)?;
        Some(Object { kind, name: name.to_owned() })
    });
    declared.collect()
}

/// The table with its rules, and with sets and maps that are empty.
fn declarations(
    table: &str,
    root: (&str, usize),
    seals: &Seals,
    tracking: Tracking,
    shares: &[Share],
) -> String {
    let mut text = format!("table inet {table} {{\n");
    let in_cgroups = || {
        shares.iter().filter_map(|share| match &share.place {
            Place::Cgroup { path, level } => Some((share, path, level)),
            Place::Link(_) => None,
        })
    };
    // By one look at each level, however many agents there are.
    let levels: BTreeSet<usize> = in_cgroups().map(|(_, _, level)| *level).collect();
    for (share, ..) in in_cgroups() {
        sets(&mut text, share);
        chain(&mut text, share);
    }
    for level in &levels {
        line(&mut text, format_args!("\tmap agents_{level} {{\n\t\ttype cgroupsv2 : verdict\n\t}}"));
    }
    line(&mut text, format_args!("\tchain agents {{"));
    for level in &levels {
        line(&mut text, format_args!("\t\tsocket cgroupv2 level {level} vmap @agents_{level}"));
    }
    line(&mut text, format_args!("{DENY}\t}}"));
    line(&mut text, format_args!("\tchain output {{"));
    line(&mut text, format_args!("\t\ttype filter hook output priority filter; policy accept;"));
    let adopted = in_cgroups().filter(|(_, path, _)| !Path::new(path).starts_with(root.0));
    let adopted = adopted.map(|(_, path, level)| (path.as_str(), *level));
    for (path, level) in std::iter::once(root).chain(adopted) {
        line(&mut text, format_args!("\t\tsocket cgroupv2 level {level} \"{path}\" goto agents"));
    }
    inbound(&mut text, &seals.devices, tracking);
    text.push_str("\t}\n");
    line(&mut text, format_args!("\tchain forward {{"));
    line(&mut text, format_args!("\t\ttype filter hook forward priority filter; policy accept;"));
    inbound(&mut text, &seals.devices, tracking);
    let Seals { devices, v4, v6 } = seals;
    // Answers to an agent that is gone have no link to go by, and would take the way to everywhere.
    for (word, network) in [("ip", v4), ("ip6", v6)] {
        line(
            &mut text,
            format_args!("\t\t{word} daddr {network} oifname != \"{EVERY_DEVICE}\" counter drop"),
        );
    }
    text.push_str("\t}\n");
    if tracking == Tracking::On {
        line(&mut text, format_args!("\tchain postrouting {{"));
        line(&mut text, format_args!("\t\ttype nat hook postrouting priority srcnat; policy accept;"));
        line(&mut text, format_args!("\t\tip saddr {v4} oifname != \"{devices}\" masquerade"));
        line(&mut text, format_args!("\t\tip6 saddr {v6} oifname != \"{devices}\" masquerade"));
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

/// Whether the kernel tracks connections, which sealed agents need whose flows are forwarded and translated.
/// It costs every packet of the host as much again as all the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    Off,
    On,
}

/// Links of every daemon on this host, as a pattern of names.
const EVERY_DEVICE: &str = "egd*";

/// Nothing new goes to a sealed agent: answers only.
fn inbound(text: &mut String, devices: &str, tracking: Tracking) {
    if tracking == Tracking::On {
        line(text, format_args!("\t\toifname \"{devices}\" ct state established,related accept"));
    }
    line(text, format_args!("\t\toifname \"{devices}\" counter drop"));
}

/// A transaction that makes the chain of a link anew, in `table` of the netdev family: it meets each
/// frame before anything reads it. `share` is None for a link that no agent has yet.
#[must_use]
pub fn frames(table: &str, link: &Link, share: Option<&Share>) -> String {
    let Link { name, number, v4, v6, .. } = link;
    let chain = format!("netdev {table} frames_{number}");
    let mut text = format!("table netdev {table}\n");
    for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        let set = format!("netdev {table} direct{family}_{number}");
        let kind = format!("{{ type {kind} . inet_proto . inet_service; }}");
        line(&mut text, format_args!("add set {set} {kind}\nflush set {set}"));
    }
    line(
        &mut text,
        format_args!(
            "add chain {chain} {{ type filter hook ingress device \"{name}\" priority -300; policy drop; }}"
        ),
    );
    line(&mut text, format_args!("flush chain {chain}"));
    let mut rule = |rule: std::fmt::Arguments<'_>| line(&mut text, format_args!("add rule {chain} {rule}"));
    let (gateway, gateway6) = (Ipv4Addr::from(GATEWAY_V4), Ipv6Addr::from(GATEWAY_V6));
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
    rule(format_args!("ether saddr != {} counter drop", mac(AGENT_MAC)));
    rule(format_args!("ether type arp arp saddr ip {v4} arp daddr ip {gateway} accept"));
    rule(format_args!(
        "ip6 saddr {v6} ip6 daddr {{ {group}, {gateway6} }} ip6 hoplimit 255 ip6 nexthdr icmpv6 \
         icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept"
    ));
    // What follows an extension header is read by nft, and by no program.
    rule(format_args!("ip6 nexthdr != {{ tcp, udp }} counter drop"));
    rule(format_args!("ip hdrlength != 5 counter drop"));
    rule(format_args!("ip frag-off & 0x3fff != 0 counter drop"));
    rule(format_args!("ip saddr {v4} ip daddr . meta l4proto . th dport @direct4_{number} accept"));
    rule(format_args!("ip6 saddr {v6} ip6 daddr . meta l4proto . th dport @direct6_{number} accept"));
    if let Some(share) = share {
        text += &frames_of(table, link, share);
    }
    text
}

/// A transaction that adds what an agent may reach to the chain of its link, which lets nothing pass
/// yet. It removes nothing: for what is removed, `nft` waits until no processor uses it.
#[must_use]
pub fn frames_of(table: &str, link: &Link, share: &Share) -> String {
    let Link { number, v4, v6, .. } = link;
    let mut text = String::new();
    add_elements(&mut text, ("netdev", table), *number, share);
    for network in share.networks.iter().filter(|network| !network.is_hole()) {
        let (source, word) = match network.network.addr() {
            IpAddr::V4(_) => (IpAddr::V4(*v4), "ip"),
            IpAddr::V6(_) => (IpAddr::V6(*v6), "ip6"),
        };
        let rule =
            format!("{word} saddr {source} {} {} accept", destination(network), at_ports(network, 'd'));
        line(&mut text, format_args!("add rule netdev {table} frames_{number} {rule}"));
    }
    text
}

/// A transaction that removes the chain of a link, which is there.
#[must_use]
pub fn frames_removal(table: &str, number: u32) -> String {
    format!(
        "delete chain netdev {table} frames_{number}\n\
         delete set netdev {table} direct4_{number}\n\
         delete set netdev {table} direct6_{number}\n"
    )
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A transaction that removes `table`.
#[must_use]
pub fn removal(table: &str) -> String {
    format!(
        "table inet {table}\ndelete table inet {table}\ntable netdev {table}\ndelete table netdev {table}\n"
    )
}

const DENY: &str =
    "\t\tmeta l4proto tcp counter reject with tcp reset\n\t\tcounter reject with icmpx admin-prohibited\n";

fn sets(text: &mut String, share: &Share) {
    for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        line(text, format_args!("\tset direct{family}_{} {{", share.agent));
        line(text, format_args!("\t\ttype {kind} . inet_proto . inet_service\n\t}}"));
    }
}

/// Adds what `share` reaches directly to its sets in `table` (family and name), which end in `number`.
fn add_elements(text: &mut String, table: (&str, &str), number: u32, share: &Share) {
    for family in [4, 6] {
        let elements = elements(share, family);
        if !elements.is_empty() {
            let set = format!("{} {} direct{family}_{number}", table.0, table.1);
            line(text, format_args!("add element {set} {{ {} }}", elements.join(", ")));
        }
    }
}

/// What is within a network and not in a hole of it.
fn destination(entry: &NetworkEntry) -> String {
    let (word, network) = (word(entry.network.addr()), entry.network);
    let holes: Vec<String> = entry.holes().map(|hole| hole.network.to_string()).collect();
    match holes.is_empty() {
        true => format!("{word} daddr {network}"),
        false => format!("{word} daddr {network} {word} daddr != {{ {} }}", holes.join(", ")),
    }
}

/// Which ports are meant, of the destination (`d`) or of the source (`s`). An agent that is observed is let out
/// to all of them, but not around our resolver.
fn at_ports(network: &NetworkEntry, side: char) -> String {
    match network.port {
        0 => format!("meta l4proto {{ tcp, udp }} th {side}port != 53"),
        port => format!("{} {side}port {port}", transport(network.transport)),
    }
}

fn elements(share: &Share, family: u8) -> Vec<String> {
    let direct = share.direct.iter().filter(|(_, address, _)| self::family(*address) == family);
    direct.map(|(transport, address, port)| format!("{address} . {transport} . {port}")).collect()
}

fn chain(text: &mut String, share: &Share) {
    let (agent, ports) = (share.agent, &share.listeners);
    line(text, format_args!("\tchain listeners_{agent} {{"));
    let v4 = [ports.dns_v4, ports.proxy_v4, ports.explicit_v4];
    let v6 = [ports.dns_v6, ports.proxy_v6, ports.explicit_v6];
    listeners(text, IpAddr::V4(Ipv4Addr::LOCALHOST), v4);
    listeners(text, IpAddr::V6(Ipv6Addr::LOCALHOST), v6);
    line(text, format_args!("\t}}"));
    line(text, format_args!("\tchain agent_{agent} {{"));
    // What most packets need comes first: all of these let pass, in any order.
    line(text, format_args!("\t\toif lo jump listeners_{agent}"));
    line(text, format_args!("\t\tip daddr . meta l4proto . th dport @direct4_{agent} accept"));
    line(text, format_args!("\t\tip6 daddr . meta l4proto . th dport @direct6_{agent} accept"));
    for network in share.networks.iter().filter(|network| !network.is_hole()) {
        let (word, net) = (word(network.network.addr()), network.network);
        let is_loopback = network.network.addr().is_loopback();
        // A socket chooses its device: what is for this host must not be put on a wire.
        let device = if is_loopback { "oif lo " } else { "" };
        let to = destination(network);
        line(text, format_args!("\t\t{device}{to} {} accept", at_ports(network, 'd')));
        if is_loopback {
            // A listener of the agent's own answers from there.
            line(text, format_args!("\t\toif lo {word} saddr {net} {} accept", at_ports(network, 's')));
        }
    }
    text.push_str(DENY);
    line(text, format_args!("\t}}"));
}

fn listeners(text: &mut String, address: IpAddr, [dns, proxy, explicit]: [u16; 3]) {
    let word = word(address);
    let mut accept = |transport: &str, port: u16| {
        if port != 0 {
            line(text, format_args!("\t\t{word} daddr {address} {transport} dport {port} accept"));
        }
    };
    // Lookups, and QUIC.
    [dns, proxy].into_iter().for_each(|port| accept("udp", port));
    [dns, proxy, explicit].into_iter().for_each(|port| accept("tcp", port));
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
