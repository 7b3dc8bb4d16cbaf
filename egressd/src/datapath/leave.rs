//! What a policy means to the kernel: networks, rules, and a mark of which policy it was.

use super::{
    budgets::Assigned,
    ruleset::Listeners,
    tables::{NetworkEntry, transport_of},
};
use crate::policy::{Mode, Policy, Rule, RuleId, Subject};
use egress_common::{MAX_NETWORKS_PER_AGENT, RULE_ENFORCED, RULE_OBSERVED, RuleValue, TCP};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{collections::BTreeMap, net::IpAddr};

/// An address that a name earned for direct flows: IANA protocol number, address, port.
pub type Direct = (u8, IpAddr, u16);

/// Whether the kernel's share of one agent holds `policy`; else how many networks it lists.
pub fn fits(policy: &Policy) -> Result<(), usize> {
    let count = networks(policy).len().max(denied_networks(policy.deny()).len());
    let bound = usize::try_from(MAX_NETWORKS_PER_AGENT).unwrap_or(usize::MAX);
    if count <= bound { Ok(()) } else { Err(count) }
}

/// The networks that the rules of `policy` allow, by port, and the holes in them. The longest network that
/// holds an address decides, so a rule that names what is a hole in another one opens it.
///
/// Where all is observed, any address at any port but for the holes: see [`EVERYWHERE`].
pub fn networks(policy: &Policy) -> Vec<NetworkEntry> {
    let mut entries: Vec<NetworkEntry> = policy.allow().iter().flat_map(allowed_entries).collect();
    if policy.mode() == Mode::Observe {
        entries.extend(EVERYWHERE);
    }
    let holes: Vec<_> = entries.iter().flat_map(NetworkEntry::holes).collect();
    let is_named =
        |hole: &NetworkEntry, entries: &[NetworkEntry]| entries.iter().any(|held| held.is_as_wide_as(hole));
    for hole in holes {
        if !is_named(&hole, &entries) {
            entries.push(hole);
        }
    }
    entries
}

/// Where an agent in observe mode is let out to: port and transport 0 are no rule's, so that the programs look
/// here last.
const EVERYWHERE: [NetworkEntry; 2] = [everywhere(IpNet::V4(V4)), everywhere(IpNet::V6(V6))];

const V4: Ipv4Net = Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0);
const V6: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0);

const fn everywhere(network: IpNet) -> NetworkEntry {
    NetworkEntry { network, port: 0, transport: 0, rule: RuleId::OBSERVED }
}

fn allowed_entries(rule: &Rule) -> Vec<NetworkEntry> {
    let Subject::Network(network) = rule.subject else { return Vec::new() };
    let transport = rule.protocol.map_or(TCP, transport_of);
    rule.ports.iter().map(|port| NetworkEntry { network, port: *port, transport, rule: rule.id }).collect()
}

/// The networks that `rules` deny, by port; 0 for every port or transport.
pub fn denied_networks(rules: &[Rule]) -> Vec<NetworkEntry> {
    let entries = |rule: &Rule| {
        let Subject::Network(network) = rule.subject else { return Vec::new() };
        let transport = rule.protocol.map_or(0, transport_of);
        let ports: &[u16] = if rule.ports.is_empty() { &[0] } else { &rule.ports };
        ports.iter().map(|port| NetworkEntry { network, port: *port, transport, rule: rule.id }).collect()
    };
    rules.iter().flat_map(entries).collect()
}

/// `listeners` with what the programs must know of `policy`, whose budgets are where `budgets` says.
pub fn with_policy(listeners: Listeners, policy: &Policy, budgets: &Assigned) -> Listeners {
    let denies_networks = u8::from(!denied_networks(policy.deny()).is_empty());
    // What it was started with it keeps, and a packet socket that it has; it gets no other one.
    let raw_frames = listeners.flags & Listeners::RAW_FRAMES;
    let keeps = raw_frames != 0 && !policy.capabilities().is_empty();
    let raw_sockets = if keeps { Listeners::RAW_SOCKETS } else { 0 };
    let host_sockets = if policy.host_sockets() { Listeners::HOST_SOCKETS } else { 0 };
    let observes = if policy.observes() { Listeners::OBSERVES } else { 0 };
    let bounded = if budgets.is_empty() { 0 } else { Listeners::BUDGETS };
    let own = listeners.flags & Listeners::OWN_NETWORK;
    let flags = own | raw_frames | raw_sockets | host_sockets | observes | bounded;
    let (generation, budget) = (generation(policy, budgets), budgets.own);
    Listeners { denies_networks, generation, flags, budget, ..listeners }
}

/// The rules that are in force, and how the programs know them.
pub fn rules(policy: &Policy, budgets: &Assigned) -> BTreeMap<RuleId, RuleValue> {
    let standing = |rule: &Rule| match rule.mode {
        Mode::Enforce => RULE_ENFORCED,
        Mode::Observe => RULE_OBSERVED,
    };
    let value = |rule: &Rule| RuleValue { budget: budgets.of(rule.id), standing: standing(rule) };
    policy.allow().iter().map(|rule| (rule.id, value(rule))).collect()
}

/// The same for the same rules with the same budgets, over reloads and restarts: flows are judged again when it
/// changes.
fn generation(policy: &Policy, budgets: &Assigned) -> u32 {
    let ids = policy.allow().iter().chain(policy.deny()).flat_map(|rule| rule.id.0.to_be_bytes());
    let mode = match policy.mode() {
        Mode::Enforce => None,
        Mode::Observe => Some(1),
    };
    let places =
        budgets.of_rules.iter().flat_map(|(rule, place)| [rule.0, *place]).flat_map(u32::to_be_bytes);
    let hash = egress_common::fnv1a(ids.chain(places).chain(mode));
    // Both halves count; 0 is what a socket without a flow has.
    ((hash ^ (hash >> 32)) as u32).max(1)
}
