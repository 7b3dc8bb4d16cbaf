//! Which destinations a policy opens, and on which terms: by the function that decides, asked once for each
//! class of destinations that no rule tells apart.

mod cover;
mod names;
mod networks;
mod terms;

pub(super) use cover::cover;
pub(super) use names::{Depth, NameCells};
pub(super) use networks::{NetworkCell, NetworkCells};
pub(super) use terms::{Terms, changes};

use crate::policy::{
    Destination, Flow, Grants, HostName, Mode, Moment, Policy, Protocol, Rule, RuleId, Source, Subject,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// A port, and what is spoken there.
pub(super) type Opening = (u16, Protocol);

/// What a policy opens at one destination.
pub(super) type Openings = BTreeMap<Opening, Open>;

/// The rule that opens it, and on which terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) rule: RuleId,
    pub(super) source: Source,
    pub(super) terms: Terms,
}

/// What `policy` opens to `name`.
pub(super) fn open_to_name(policy: &Policy, name: &HostName) -> Openings {
    let Ok(leave) = policy.lookup(name) else { return Openings::new() };
    let open = |opening: &crate::policy::Opening| {
        let rule = policy.allow().iter().find(|rule| rule.id == opening.rule)?;
        let opens = |held: &&Rule| match &held.subject {
            Subject::Host(pattern) => pattern.matches(name) && covers(held, (opening.port, opening.protocol)),
            Subject::Network(_) => false,
        };
        let terms = Terms::of_name(rule, mode(policy, name, opening), &leave);
        let terms = terms.until(policy.allow().iter().filter(opens));
        Some(((opening.port, opening.protocol), Open { rule: rule.id, source: rule.source.clone(), terms }))
    };
    leave.openings().iter().filter_map(open).collect()
}

/// What `policy` opens to `address` itself, whatever names resolve to it.
pub(super) fn open_to_address(policy: &Policy, address: IpAddr) -> Openings {
    let holding = policy.allow().iter().filter(|rule| rule.subject.holds(address));
    let asked: BTreeSet<Opening> = holding.flat_map(openings).collect();
    let open = |(port, protocol)| {
        let flow = Flow { destination: Destination::Address(address), port, protocol, address: None };
        let permit = policy.decide(&flow, &Grants::default(), Moment::default()).ok()?;
        let rule = policy.allow().iter().find(|rule| rule.id == permit.rule())?;
        let opens = |held: &&Rule| held.subject.opens(address) && covers(held, (port, protocol));
        let terms = Terms::of_network(rule).until(policy.allow().iter().filter(opens));
        let open = Open { rule: rule.id, source: rule.source.clone(), terms };
        Some(((port, protocol), open))
    };
    asked.into_iter().filter_map(open).collect()
}

/// Whether flows to `name` by `opening` are only observed, be it for a rule that denies.
fn mode(policy: &Policy, name: &HostName, opening: &crate::policy::Opening) -> Mode {
    let destination = Destination::Name(name.clone());
    let flow = Flow { destination, port: opening.port, protocol: opening.protocol, address: None };
    match policy.decide(&flow, &Grants::default(), Moment::default()) {
        Ok(permit) if permit.observed().is_some() => Mode::Observe,
        Ok(_) | Err(_) => Mode::Enforce,
    }
}

/// Which of `openings` are denied where a name resolves to `address`, and by which rule.
pub(super) fn denied_at_address<'a>(
    policy: &'a Policy,
    address: IpAddr,
    openings: &BTreeSet<Opening>,
) -> BTreeMap<Opening, &'a Source> {
    let denying = |(port, protocol): &Opening| {
        policy
            .deny()
            .iter()
            .find(|deny| {
                deny.subject.holds(address) && deny.covers_port(*port) && deny.covers_protocol(*protocol)
            })
            .map(|deny| ((*port, *protocol), &deny.source))
    };
    openings.iter().filter_map(denying).collect()
}

/// What rules of `policy` open to any name.
pub(super) fn open_to_names(policy: &Policy) -> BTreeSet<Opening> {
    let of_names = policy.allow().iter().filter(|rule| matches!(rule.subject, Subject::Host(_)));
    of_names.flat_map(openings).collect()
}

fn covers(rule: &Rule, (port, protocol): Opening) -> bool {
    rule.covers_port(port) && rule.covers_protocol(protocol)
}

/// The ports and protocols that a rule which allows names.
pub(super) fn openings(rule: &Rule) -> impl Iterator<Item = Opening> + '_ {
    rule.ports.iter().filter_map(|port| Some((*port, rule.protocol?)))
}
