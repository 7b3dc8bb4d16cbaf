//! Rules that allow more, or less, than whoever wrote them can have meant.

use super::{Finding, Lint};
use crate::policy::{HostName, Pattern, Protocol, Rule, Subject};
use ipnet::IpNet;

pub(super) fn find(rule: &Rule) -> Vec<Finding> {
    match &rule.subject {
        Subject::Host(pattern) => {
            let found = [public_suffix(rule, pattern), whole_domain(rule, pattern), unchecked(rule, pattern)];
            found.into_iter().flatten().chain(special_zone(rule, pattern)).collect()
        }
        Subject::Network(network) => wide_network(rule, network).into_iter().collect(),
    }
}

fn public_suffix(rule: &Rule, pattern: &Pattern) -> Option<Finding> {
    let text = || format!("strangers can register names that `{pattern}` allows (publicsuffix.org)");
    pattern
        .is_public_suffix()
        .then(|| Finding::of(Lint::PublicSuffix, rule, text(), "name the hosts one by one"))
}

fn whole_domain(rule: &Rule, pattern: &Pattern) -> Option<Finding> {
    let is_whole = match pattern {
        Pattern::AnyLabels(name) => psl::domain_str(name.as_str()) == Some(name.as_str()),
        Pattern::Exact(_) | Pattern::OneLabel(_) => false,
    };
    let text = || format!("`{pattern}` allows every name below `{}`, at any depth", pattern.name());
    let help = "name the hosts, or a wildcard further down; each name that is made up lets something out";
    (is_whole && !pattern.is_public_suffix()).then(|| Finding::of(Lint::WholeDomain, rule, text(), help))
}

fn unchecked(rule: &Rule, pattern: &Pattern) -> Option<Finding> {
    let is_unchecked = pattern.is_wildcard()
        && match rule.protocol? {
            Protocol::Tcp | Protocol::Udp => true,
            Protocol::Tls | Protocol::Http | Protocol::Quic => false,
        };
    let text =
        || format!("any bytes may go to whatever address a name of `{pattern}` has, without a server name");
    is_unchecked.then(|| Finding::of(Lint::UncheckedWildcard, rule, text(), "name the hosts one by one"))
}

/// The widest networks that pass for one operator's, by the length of their prefix.
const WIDEST_V4: u8 = 16;
const WIDEST_V6: u8 = 32;

fn wide_network(rule: &Rule, network: &IpNet) -> Option<Finding> {
    let bound = match network {
        IpNet::V4(_) => WIDEST_V4,
        IpNet::V6(_) => WIDEST_V6,
    };
    let text = || format!("`{network}` is wider than /{bound}, and no name is asked of its flows");
    let help = "name the hosts, or the networks of the one operator that is meant";
    (network.prefix_len() < bound).then(|| Finding::of(Lint::WideNetwork, rule, text(), help))
}

fn special_zone(rule: &Rule, pattern: &Pattern) -> Option<Finding> {
    let name = pattern.name();
    if let Some(zone) = NEVER.iter().find(|zone| is_within(name, zone)) {
        let text = format!("no name below `{zone}` has an address that a rule with `host` can open");
        return Some(Finding::of(Lint::NameNeverAnswered, rule, text, "leave the rule out"));
    }
    let zone = PRIVATE.iter().find(|zone| is_within(name, zone)).filter(|_| !rule.private)?;
    let text = format!("names below `{zone}` have private addresses, which are denied here");
    Some(Finding::of(Lint::PrivateName, rule, text, "add `private: true`"))
}

fn is_within(name: &HostName, zone: &str) -> bool {
    name.as_str().strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Zones that only closed networks answer for: RFC 6762, RFC 8375, and what ICANN reserved for private use in
/// 2024 (board resolution 2024.07.29.06).
const PRIVATE: [&str; 3] = ["home.arpa", "internal", "local"];

/// Zones whose names are this host's, or nobody's: RFC 6761, RFC 7686.
const NEVER: [&str; 3] = ["invalid", "localhost", "onion"];
