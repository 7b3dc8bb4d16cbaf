//! Packet filters that others wrote, which hold one agent's 1,000 grants: address, protocol and port. They
//! know one agent only, which favours them.

use super::SINK;
use crate::{lab::Lab, program::Program};
use std::{
    fmt::Write as _,
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// A filter that is in force while somebody is measured by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Nft,
    NftTimed,
    NftConntrack,
    IptablesLegacy,
    IptablesNft,
}

impl Filter {
    pub const ALL: [Self; 5] =
        [Self::Nft, Self::NftTimed, Self::NftConntrack, Self::IptablesLegacy, Self::IptablesNft];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft, cgroup and set",
            Self::NftTimed => "nft, cgroup and set with time-outs",
            Self::NftConntrack => "nft, the same and conntrack",
            Self::IptablesLegacy => "iptables (legacy), owner and ipset",
            Self::IptablesNft => "iptables (nft), owner and ipset",
        }
    }

    /// Writes the sets of all filters, and no rule yet.
    pub fn prepare(lab: &Lab) {
        let mut elements = vec![format!("{} . udp . {p}, {} . tcp . {p}", SINK.v4, SINK.v4, p = super::PORT)];
        let mut members = String::new();
        let _ = writeln!(members, "create {SET} hash:ip,port timeout 3600");
        for transport in ["udp", "tcp"] {
            let _ = writeln!(members, "add {SET} {},{transport}:{}", SINK.v4, super::PORT);
        }
        for number in 0..GRANTS {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 112, 0)) + number);
            elements.push(format!("{address} . tcp . 443"));
            let _ = writeln!(members, "add {SET} {address},tcp:443");
        }
        let elements = elements.join(", ");
        let kind = "type ipv4_addr . inet_proto . inet_service;";
        nft(
            lab,
            &format!(
                "table inet {TABLE} {{\nset plain {{ {kind} elements = {{ {elements} }}; }}\n\
                 set timed {{ {kind} flags timeout; timeout 1h; elements = {{ {elements} }}; }}\n}}\n"
            ),
        );
        feed(lab.bare_command("ipset"), &["restore"], &members);
    }

    /// Judges what the processes of `cgroup` send, a folder at the top of the hierarchy.
    pub fn enter_into_force(self, lab: &Lab, cgroup: &str) {
        match self {
            Self::Nft => nft(lab, &chain(cgroup, "plain", "")),
            Self::NftTimed => nft(lab, &chain(cgroup, "timed", "")),
            Self::NftConntrack => nft(lab, &chain(cgroup, "timed", "ct state established,related accept\n")),
            Self::IptablesLegacy => iptables(lab, "iptables-legacy-restore", RULES),
            Self::IptablesNft => iptables(lab, "iptables-nft-restore", RULES),
        }
    }

    pub fn leave(self, lab: &Lab) {
        match self {
            Self::Nft | Self::NftTimed | Self::NftConntrack => {
                nft(lab, &format!("delete chain inet {TABLE} out\n"));
            }
            Self::IptablesLegacy => iptables(lab, "iptables-legacy-restore", NO_RULES),
            Self::IptablesNft => nft(lab, "delete table ip filter\n"),
        }
    }
}

/// Grants of the agent that are not used meanwhile.
const GRANTS: u32 = 1000;
const TABLE: &str = "bench";
const SET: &str = "bench";
const RULES: &str = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n\
    -A OUTPUT -m owner --uid-owner 0 -m set --match-set bench dst,dst -j ACCEPT\n\
    -A OUTPUT -m owner --uid-owner 0 -j DROP\nCOMMIT\n";
const NO_RULES: &str = "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n";

fn chain(cgroup: &str, set: &str, first: &str) -> String {
    let agent = format!("socket cgroupv2 level 1 \"{cgroup}\"");
    format!(
        "table inet {TABLE} {{\nchain out {{\ntype filter hook output priority 0; policy accept;\n{first}\
         {agent} ip daddr . meta l4proto . th dport @{set} accept\n{agent} drop\n}}\n}}\n"
    )
}

fn nft(lab: &Lab, text: &str) {
    feed(lab.bare_command("nft"), &["-f", "-"], text);
}

fn iptables(lab: &Lab, program: &str, text: &str) {
    feed(lab.bare_command(program), &["-w"], text);
}

/// Runs a program that reads `text`.
fn feed(mut command: Command, arguments: &[&str], text: &str) {
    command.args(arguments).stdin(Stdio::piped());
    let mut program = Program::start(command);
    program.stdin().write_all(text.as_bytes()).expect("the program reads");
    program.close_stdin();
    let outcome = program.finish();
    assert!(outcome.succeeded(), "failed with {outcome:#?} to take\n{text}");
}
