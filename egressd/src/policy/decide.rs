//! The compiled rules of one agent, and the judgement by them.

use super::{
    decision::{Denial, Leave, Opening, Permit, Reason},
    flow::{Destination, Flow},
    grant::{Grant, Grants},
    host::HostName,
    moment::Moment,
    rule::{Protocol, Rule, Subject},
};
use std::net::IpAddr;

/// The compiled rules of one agent. The default allows nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Policy {
    #[must_use]
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny }
    }

    /// The rules that allow, in the order of the file.
    #[must_use]
    pub fn allow(&self) -> &[Rule] {
        &self.allow
    }

    /// The rules that deny. They win.
    #[must_use]
    pub fn deny(&self) -> &[Rule] {
        &self.deny
    }

    /// Whether `flow` may leave at `now`.
    ///
    /// A flow to a name is judged by host rules; where its address is known, that address must
    /// hold a live grant that this very name earned. A flow to a bare address is judged by
    /// network rules, and by the grants for which no server name has to be checked.
    ///
    /// # Errors
    /// The [`Denial`] says why, and which rule denied or came nearest.
    pub fn decide(&self, flow: &Flow, grants: &Grants, now: Moment) -> Result<Permit, Denial> {
        match &flow.destination {
            Destination::Name(name) => self.decide_name(name, flow, grants, now),
            Destination::Address(address) => self.decide_address(*address, flow, grants, now),
        }
    }

    /// Whether `name` may be looked up, and what its addresses are granted for.
    ///
    /// # Errors
    /// The name is denied by a rule at every port that is open, or no rule allows it.
    pub fn lookup(&self, name: &HostName) -> Result<Leave, Denial> {
        let mut denied = None;
        let mut openings: Vec<Opening> = Vec::new();
        let mut private = false;
        for rule in self.allow.iter().filter(|rule| covers_name(rule, name)) {
            for (port, protocol) in rule.ports.iter().filter_map(|port| Some((*port, rule.protocol?))) {
                if let Some(deny) = self.denying(|deny| covers_name(deny, name), port, protocol) {
                    denied = Some(Denial::by(Reason::DeniedByRule, &deny.source));
                } else if !openings.iter().any(|held| (held.port, held.protocol) == (port, protocol)) {
                    openings.push(Opening { port, protocol, rule: rule.id });
                    private |= rule.private;
                }
            }
        }
        if !openings.is_empty() {
            return Ok(Leave { name: name.clone(), openings, private });
        }
        let by_name = || self.deny.iter().find(|deny| covers_name(deny, name));
        Err(denied
            .or_else(|| by_name().map(|deny| Denial::by(Reason::DeniedByRule, &deny.source)))
            .unwrap_or(Denial::because(Reason::HostNotAllowed)))
    }

    /// Whether a deny rule covers `address` at every port and protocol that `leave` opens, as
    /// networks in a deny list do; an answer with such an address is not handed on.
    #[must_use]
    pub fn denies_address(&self, address: IpAddr, leave: &Leave) -> Option<Denial> {
        let mut denial = None;
        for opening in &leave.openings {
            let deny = self.denying(|deny| deny.subject.holds(address), opening.port, opening.protocol)?;
            denial = Some(Denial::by(Reason::DeniedByRule, &deny.source));
        }
        denial
    }

    /// The denial by a network on the deny list that holds `address`, at this port and protocol.
    #[must_use]
    pub fn denies(&self, address: IpAddr, port: u16, protocol: Protocol) -> Option<Denial> {
        let deny = self.denying(|deny| deny.subject.holds(address), port, protocol)?;
        Some(Denial::by(Reason::DeniedByRule, &deny.source))
    }

    /// Whether `grant` is still what a lookup of its name would earn.
    #[must_use]
    pub fn opens(&self, grant: &Grant) -> bool {
        self.lookup(&grant.name).is_ok_and(|leave| {
            let held = (grant.port, grant.protocol, grant.rule);
            leave.openings.iter().any(|opening| (opening.port, opening.protocol, opening.rule) == held)
        })
    }

    fn decide_name(
        &self,
        name: &HostName,
        flow: &Flow,
        grants: &Grants,
        now: Moment,
    ) -> Result<Permit, Denial> {
        let is_denied = |deny: &Rule| {
            covers_name(deny, name) || flow.address.is_some_and(|address| deny.subject.holds(address))
        };
        if let Some(deny) = self.denying(is_denied, flow.port, flow.protocol) {
            return Err(Denial::by(Reason::DeniedByRule, &deny.source));
        }
        let rule = self.nearest(|rule| covers_name(rule, name), flow, Reason::HostNotAllowed)?;
        if let Some(address) = flow.address {
            match grants.expiry(name, address, flow.port, flow.protocol) {
                Some(expires) if expires > now => {}
                Some(_) => return Err(Denial::by(Reason::GrantExpired, &rule.source)),
                None => return Err(Denial::by(Reason::ServerNameNotGranted, &rule.source)),
            }
        }
        Ok(permit(flow, flow.address, rule))
    }

    fn decide_address(
        &self,
        address: IpAddr,
        flow: &Flow,
        grants: &Grants,
        now: Moment,
    ) -> Result<Permit, Denial> {
        if let Some(deny) = self.denying(|deny| deny.subject.holds(address), flow.port, flow.protocol) {
            return Err(Denial::by(Reason::DeniedByRule, &deny.source));
        }
        let is_ours = |grant: &Grant| {
            (grant.address, grant.port, grant.protocol) == (address, flow.port, flow.protocol)
                && matches!(flow.protocol, Protocol::Tcp | Protocol::Udp)
        };
        let granted = grants.live(now).find(is_ours);
        if let Some(rule) = granted.and_then(|grant| self.allow.iter().find(|rule| rule.id == grant.rule)) {
            return Ok(permit(flow, Some(address), rule));
        }
        let rule = self.nearest(|rule| rule.subject.holds(address), flow, Reason::AddressNotGranted)?;
        Ok(permit(flow, Some(address), rule))
    }

    fn denying(&self, is_subject: impl Fn(&Rule) -> bool, port: u16, protocol: Protocol) -> Option<&Rule> {
        self.deny
            .iter()
            .find(|deny| is_subject(deny) && deny.covers_port(port) && deny.covers_protocol(protocol))
    }

    /// The rule that allows `flow`, or the denial by the rule that came nearest.
    fn nearest(
        &self,
        is_subject: impl Fn(&Rule) -> bool,
        flow: &Flow,
        none: Reason,
    ) -> Result<&Rule, Denial> {
        let mut denial = Denial::because(none);
        for rule in self.allow.iter().filter(|rule| is_subject(rule)) {
            match (rule.covers_port(flow.port), rule.covers_protocol(flow.protocol)) {
                (true, true) => return Ok(rule),
                (true, false) => denial = Denial::by(Reason::ProtocolNotAllowed, &rule.source),
                (false, _) if denial.reason == none => {
                    denial = Denial::by(Reason::PortNotAllowed, &rule.source)
                }
                (false, _) => {}
            }
        }
        Err(denial)
    }
}

fn covers_name(rule: &Rule, name: &HostName) -> bool {
    match &rule.subject {
        Subject::Host(pattern) => pattern.matches(name),
        Subject::Network(_) => false,
    }
}

fn permit(flow: &Flow, address: Option<IpAddr>, rule: &Rule) -> Permit {
    Permit {
        destination: flow.destination.clone(),
        address,
        port: flow.port,
        protocol: flow.protocol,
        rule: rule.id,
        source: rule.source.clone(),
    }
}
