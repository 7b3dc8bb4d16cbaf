//! What all exports ask of a policy before they write it.

use crate::{
    authoring::{
        fate::{Fate, Translated, quote},
        patterns,
    },
    policy::{
        AgentName, Approval, Ech, HostName, LeakActions, LeakBudget, Mode, NameTerms, Pattern, Policy,
        Protocol, RESOLVER_ZONES, Rule, SpecialPurpose, Subject, TlsTerms, special_purpose, special_within,
    },
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What is told of each rule.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) lines: Vec<Translated>,
}

impl Report {
    pub(super) fn wrote(&mut self, rule: &Rule, became: Vec<String>) {
        self.push(rule, describe(rule), became, Fate::Exact, None);
    }

    pub(super) fn narrowed(&mut self, rule: &Rule, became: Vec<String>, why: &str) {
        self.push(rule, describe(rule), became, Fate::Narrowed, Some(why));
    }

    pub(super) fn lost(&mut self, rule: &Rule, why: &str) {
        self.push(rule, describe(rule), Vec::new(), Fate::Lost, Some(why));
    }

    /// Tells what a rule says besides its destinations, which no target knows.
    pub(super) fn terms(&mut self, rule: &Rule) {
        if rule.names.leak_budget.is_some() {
            self.push(
                rule,
                "leak_budget".to_owned(),
                Vec::new(),
                Fate::Lost,
                Some("what names leak is not bounded"),
            );
        }
        if !rule.names.types.is_empty() {
            self.push(
                rule,
                "types".to_owned(),
                Vec::new(),
                Fate::Lost,
                Some("lookups are not told apart by their type"),
            );
        }
        if rule.mode == Mode::Observe {
            self.push(
                rule,
                "mode: observe".to_owned(),
                Vec::new(),
                Fate::Lost,
                Some("what it lets through is not told from what is allowed"),
            );
        }
        if rule.tls.ech == Ech::Refuse {
            self.push(
                rule,
                "ech: refuse".to_owned(),
                Vec::new(),
                Fate::Lost,
                Some("a hidden server name is not noticed"),
            );
        }
    }

    /// Tells what is said of the agent as a whole, and which of it no target knows.
    pub(super) fn agent(&mut self, agent: &AgentName, policy: &Policy) {
        let leaks = policy.leaks();
        let has_terms = leaks.budget != LeakBudget::AGENT || leaks.actions != LeakActions::default();
        let observes = policy.mode() == Mode::Observe;
        for (is_said, was, fate, why) in [
            (policy.budget().is_bounded(), "budget", Fate::Lost, "nothing keeps to it there"),
            (has_terms, "leak_budget, leak_actions", Fate::Lost, "what names leak is not bounded"),
            (!leaks.secrets.is_empty(), "secrets", Fate::Lost, "no name is searched for them"),
            (observes, "mode: observe", Fate::Narrowed, "what no rule allows is denied there"),
            (policy.asks_about_unknown(), "approve_unknown", Fate::Narrowed, "nobody is asked there"),
            (!policy.capabilities().is_empty(), "capabilities", Fate::Narrowed, "they are not given there"),
            (policy.host_sockets(), "host_sockets", Fate::Narrowed, "they are not given there"),
        ] {
            if is_said {
                self.lines.push(Translated {
                    place: format!("agent {agent}"),
                    was: was.to_owned(),
                    became: Vec::new(),
                    fate,
                    why: Some(why.to_owned()),
                });
            }
        }
    }

    fn push(&mut self, rule: &Rule, was: String, became: Vec<String>, fate: Fate, why: Option<&str>) {
        let place = quote(&rule.source.to_string());
        self.lines.push(Translated { place, was, became, fate, why: why.map(quote) });
    }
}

/// The rules that allow, less those that are in no export.
pub(super) fn exported(policy: &Policy) -> impl Iterator<Item = &Rule> {
    policy.allow().iter().filter(|rule| left_out(policy, rule).is_none())
}

/// Why a rule that allows is in no export: without what else is asked, more would pass. Every field is named,
/// so that one which is added is thought of here.
pub(super) fn left_out(policy: &Policy, rule: &Rule) -> Option<&'static str> {
    let Rule {
        id: _,
        source: _,
        subject: _,
        ports: _,
        protocol: _,
        private: _,
        reason: _,
        names: NameTerms { leak_budget: _, types: _, approval },
        tls: TlsTerms { inspection, gate: _, ech: _ },
        term,
        budget,
        // Of a rule that allows, flows pass in both.
        mode: _,
        risk: _,
    } = rule;
    let bounded_by_agent = policy.budget().is_bounded();
    [
        (inspection.is_some(), "requests are not judged there, so that more of them would pass"),
        (*approval == Approval::Required, "nobody is asked there, so that it would be open"),
        (term.is_bounded(), "it counts for a while, and there it would for ever"),
        (budget.is_bounded(), "nothing keeps to its budget there"),
        (bounded_by_agent, "nothing keeps to the budget of its agent there"),
    ]
    .into_iter()
    .find_map(|(is_said, why)| is_said.then_some(why))
}

/// The ports of `rule` that no rule denies it whole; None for a port at which a part of it is denied.
#[derive(Debug, Default)]
pub(super) struct Remaining {
    pub(super) ports: Vec<u16>,
    /// The first rule that denies a part, and so the port.
    pub(super) denied_in_part: Option<String>,
}

/// What is left of a rule for names where the target knows no denial of names.
pub(super) fn remaining(policy: &Policy, rule: &Rule, pattern: &Pattern) -> Remaining {
    let mut remaining = Remaining::default();
    for port in &rule.ports {
        let denies = policy.deny().iter().filter(|deny| {
            deny.covers_port(*port) && rule.protocol.is_none_or(|protocol| deny.covers_protocol(protocol))
        });
        let mut is_open = true;
        for deny in denies {
            let Subject::Host(denied) = &deny.subject else { continue };
            if patterns::covers(denied, pattern) {
                is_open = false;
            } else if patterns::overlap(denied, pattern) {
                is_open = false;
                remaining.denied_in_part.get_or_insert_with(|| deny.source.to_string());
            }
        }
        if is_open {
            remaining.ports.push(*port);
        }
    }
    remaining
}

/// The zones of resolvers that a wildcard is not about, though it covers names in them.
pub(super) fn resolvers_in(pattern: &Pattern) -> Vec<&'static str> {
    let is_in = |zone: &&&str| {
        HostName::parse(zone).is_ok_and(|name| {
            patterns::overlap(pattern, &Pattern::Exact(name.clone()))
                || patterns::overlap(pattern, &Pattern::AnyLabels(name))
        })
    };
    match pattern.is_wildcard() {
        true => RESOLVER_ZONES.iter().filter(is_in).copied().collect(),
        false => Vec::new(),
    }
}

/// Networks that no name opens, whatever its rule says, merged.
pub(super) fn never() -> Vec<IpNet> {
    IpNet::aggregate(&special().into_iter().flat_map(never_in).collect::<Vec<_>>())
}

/// The part of a special network that is never opened: blocks within it are judged by themselves.
fn never_in(network: IpNet) -> Vec<IpNet> {
    let holes = special_within(network);
    let own = match special_purpose(network.network()) {
        Some(SpecialPurpose::Never) => without(network, &holes),
        Some(SpecialPurpose::Private) | None => Vec::new(),
    };
    own.into_iter().chain(holes.into_iter().flat_map(never_in)).collect()
}

/// What is left of `network` beside `holes`.
pub(super) fn without(network: IpNet, holes: &[IpNet]) -> Vec<IpNet> {
    if holes.iter().any(|hole| hole.contains(&network)) {
        return Vec::new();
    }
    if !holes.iter().any(|hole| network.contains(hole)) {
        return vec![network];
    }
    let halves = network.subnets(network.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| without(half, holes)).collect()
}

/// Networks that no name opens unless its rule says `private: true`, merged.
pub(super) fn special() -> Vec<IpNet> {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
        .into_iter()
        .flat_map(special_within)
        .collect()
}

/// A rule in one line, as a policy file would say it.
pub(super) fn describe(rule: &Rule) -> String {
    let ports: Vec<String> = rule.ports.iter().map(u16::to_string).collect();
    let ports = if ports.is_empty() { String::new() } else { format!(" {}", ports.join(",")) };
    let protocol = rule.protocol.map_or("", Protocol::as_str);
    let slash = if protocol.is_empty() { "" } else { "/" };
    format!("{}{ports}{slash}{protocol}", rule.subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn what_is_never_opened_is_special_and_private_networks_are_not_in_it() {
        let holds = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            (
                never().iter().any(|network| network.contains(&address)),
                special().iter().any(|network| network.contains(&address)),
            )
        };
        for address in ["127.0.0.1", "169.254.169.254", "100.100.100.200", "::1", "fe80::1", "fd00:ec2::254"]
        {
            assert_eq!(holds(address), (true, true), "{address}");
        }
        for address in ["10.0.0.1", "100.64.0.1", "fd12::1", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(holds(address), (false, true), "{address}");
        }
        for address in ["1.1.1.1", "2606:4700::1111"] {
            assert_eq!(holds(address), (false, false), "{address}");
        }
    }
}
