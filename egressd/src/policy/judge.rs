//! The judgement by rules, of which not all count in each reading.

use super::{
    decision::{Denial, Leave, Opening, Permit, Reason},
    flow::{Destination, Flow},
    grant::Grants,
    host::HostName,
    leaks::{LeakBudget, Wildcard},
    mode::Mode,
    moment::Moment,
    resolvers::is_resolver,
    rule::{Protocol, Rule, Subject},
};
use std::net::IpAddr;

/// Which rules count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// As if nothing were on trial: a rule that only observes allows nothing where it allows, and denies where
    /// it denies.
    Strict,
    /// As they are in force: a rule that only observes allows, and denies nothing.
    InForce,
}

/// The rules of a policy in one reading.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub allow: &'a [Rule],
    pub deny: &'a [Rule],
    pub reading: Reading,
}

impl<'a> Rules<'a> {
    /// See [`super::Policy::decide`].
    pub fn decide(self, flow: &Flow, grants: &Grants, now: Moment) -> Result<Permit, Denial> {
        match &flow.destination {
            Destination::Name(name) => self.decide_name(name, flow, grants, now),
            Destination::Address(address) => self.decide_address(on_wire(*address), flow, grants, now),
        }
    }

    /// See [`super::Policy::lookup`].
    pub fn lookup(self, name: &HostName) -> Result<Leave, Denial> {
        let mut denied = None;
        let mut openings: Vec<Opening> = Vec::new();
        let mut private = false;
        let mut types: Vec<u16> = Vec::new();
        let mut wildcard = None;
        let mut is_exact = false;
        for rule in self.allowing().filter(|rule| opens_name(rule, name)) {
            for (port, protocol) in rule.ports.iter().filter_map(|port| Some((*port, rule.protocol?))) {
                if let Some(deny) = self.denying(|deny| covers_name(deny, name), port, protocol) {
                    denied = Some(Denial::by(Reason::DeniedByRule, &deny.source));
                    continue;
                }
                // What addresses a name may have is said of the name, whichever rule says it.
                private |= rule.private;
                types.extend(&rule.names.types);
                match wildcard_of(rule) {
                    Some(held) => wildcard = wildcard.or(Some(held)),
                    None => is_exact = true,
                }
                if !openings.iter().any(|held| (held.port, held.protocol) == (port, protocol)) {
                    openings.push(Opening { port, protocol, rule: rule.id });
                }
            }
        }
        if !openings.is_empty() {
            let wildcard = wildcard.filter(|_| !is_exact);
            return Ok(Leave { name: name.clone(), openings, private, types, wildcard, observed: None });
        }
        let by_name = || self.denials().find(|deny| covers_name(deny, name));
        Err(denied
            .or_else(|| by_name().map(|deny| Denial::by(Reason::DeniedByRule, &deny.source)))
            .unwrap_or_else(|| self.unnamed(name)))
    }

    /// The rule that denies what `is_subject` says of it at `port`, over `protocol`.
    pub fn denying(
        self,
        is_subject: impl Fn(&Rule) -> bool,
        port: u16,
        protocol: Protocol,
    ) -> Option<&'a Rule> {
        self.denials()
            .find(|deny| is_subject(deny) && deny.covers_port(port) && deny.covers_protocol(protocol))
    }

    /// The rule that allows `flow`, or the denial by the rule that came nearest; where none is about
    /// it, the denial is `none`.
    fn nearest(
        self,
        is_subject: impl Fn(&Rule) -> bool,
        flow: &Flow,
        none: impl FnOnce() -> Denial,
    ) -> Result<&'a Rule, Denial> {
        let mut nearest = None;
        for rule in self.allowing().filter(|rule| is_subject(rule)) {
            match (rule.covers_port(flow.port), rule.covers_protocol(flow.protocol)) {
                (true, true) => return Ok(rule),
                (true, false) => nearest = Some(Denial::by(Reason::ProtocolNotAllowed, &rule.source)),
                (false, _) => {
                    nearest = nearest.or_else(|| Some(Denial::by(Reason::PortNotAllowed, &rule.source)));
                }
            }
        }
        Err(nearest.unwrap_or_else(none))
    }

    fn decide_name(
        self,
        name: &HostName,
        flow: &Flow,
        grants: &Grants,
        now: Moment,
    ) -> Result<Permit, Denial> {
        let address = flow.address.map(on_wire);
        let is_denied = |deny: &Rule| {
            covers_name(deny, name) || address.is_some_and(|address| deny.subject.holds(address))
        };
        if let Some(deny) = self.denying(is_denied, flow.port, flow.protocol) {
            return Err(Denial::by(Reason::DeniedByRule, &deny.source));
        }
        let rule = self.nearest(|rule| opens_name(rule, name), flow, || self.unnamed(name))?;
        if let Some(address) = address {
            match grants.expiry(name, address, flow.port, flow.protocol) {
                Some(expires) if expires > now => {}
                Some(_) => return Err(Denial::by(Reason::GrantExpired, &rule.source)),
                None => return Err(Denial::by(Reason::ServerNameNotGranted, &rule.source)),
            }
        }
        Ok(Permit::by(rule, flow, address))
    }

    fn decide_address(
        self,
        address: IpAddr,
        flow: &Flow,
        grants: &Grants,
        now: Moment,
    ) -> Result<Permit, Denial> {
        if let Some(deny) = self.denying(|deny| deny.subject.holds(address), flow.port, flow.protocol) {
            return Err(Denial::by(Reason::DeniedByRule, &deny.source));
        }
        let mut none = Reason::AddressNotGranted;
        if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) {
            match grants.at(address, flow.port, flow.protocol) {
                Some((id, expires)) if expires > now => {
                    if let Some(rule) = self.allowing().find(|rule| rule.id == id) {
                        return Ok(Permit::by(rule, flow, Some(address)));
                    }
                }
                Some(_) => none = Reason::GrantExpired,
                None => {}
            }
        }
        if none == Reason::AddressNotGranted && self.allowing().any(|rule| rule.subject.holds(address)) {
            // A rule holds it without naming it.
            none = Reason::AddressSpecialPurpose;
        }
        let rule = self.nearest(|rule| rule.subject.opens(address), flow, || Denial::because(none))?;
        Ok(Permit::by(rule, flow, Some(address)))
    }

    /// The denial of a name that no rule opens.
    fn unnamed(self, name: &HostName) -> Denial {
        if !is_resolver(name) {
            return Denial::because(Reason::HostNotAllowed);
        }
        let wildcard = self.allowing().find(|rule| covers_name(rule, name));
        Denial { reason: Reason::ResolverNotAllowed, rule: wildcard.map(|rule| rule.source.clone()) }
    }

    /// The rules that allow: those that are enforced first, so that what one of them allows is no trial's.
    fn allowing(self) -> impl Iterator<Item = &'a Rule> {
        let of = |mode: Mode| self.allow.iter().filter(move |rule| rule.mode == mode);
        let on_trial = (self.reading == Reading::InForce).then(|| of(Mode::Observe));
        of(Mode::Enforce).chain(on_trial.into_iter().flatten())
    }

    /// The rules that deny.
    fn denials(self) -> impl Iterator<Item = &'a Rule> {
        let is_strict = self.reading == Reading::Strict;
        self.deny.iter().filter(move |rule| is_strict || rule.mode == Mode::Enforce)
    }
}

/// The address as a packet carries it: an IPv4-mapped one (RFC 4291, section 2.5.5.2) leaves as
/// IPv4, so it is judged as IPv4.
pub(super) fn on_wire(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

pub(super) fn covers_name(rule: &Rule, name: &HostName) -> bool {
    match &rule.subject {
        Subject::Host(pattern) => pattern.matches(name),
        Subject::Network(_) => false,
    }
}

/// Whether a rule that allows is about `name`. A wildcard is not about the resolvers below it: they
/// would answer what its policy denies.
pub(super) fn opens_name(rule: &Rule, name: &HostName) -> bool {
    covers_name(rule, name) && !(rule.subject.is_wildcard() && is_resolver(name))
}

/// The wildcard of a rule for names; None of a rule with an exact one.
fn wildcard_of(rule: &Rule) -> Option<Wildcard> {
    let Subject::Host(pattern) = &rule.subject else { return None };
    pattern.is_wildcard().then(|| Wildcard {
        zone: pattern.name().clone(),
        rule: rule.id,
        source: rule.source.clone(),
        budget: rule.names.leak_budget.unwrap_or(LeakBudget::RULE),
    })
}
