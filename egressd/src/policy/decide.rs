//! The compiled rules of one agent, and the judgement by them.

use super::{
    budget::Budget,
    capability::Capability,
    decision::{Denial, Leave, Opening, Permit, Reason},
    flow::{Destination, Flow},
    grant::{Grant, Grants},
    host::HostName,
    leaks::{LeakBudget, LeakTerms, Wildcard},
    mode::Mode,
    moment::Moment,
    pattern::Pattern,
    resolvers::is_resolver,
    rule::{Protocol, Rule, RuleId, Source, Subject},
    term::Occasion,
};
use std::{collections::BTreeSet, net::IpAddr};

/// The compiled rules of one agent. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    capabilities: Vec<Capability>,
    host_sockets: bool,
    leaks: LeakTerms,
    budget: Budget,
    mode: Mode,
}

impl Policy {
    #[must_use]
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny, ..Self::default() }
    }

    /// The same, for an agent that keeps `capabilities` over its own network namespace.
    #[must_use]
    pub fn keeping(self, capabilities: Vec<Capability>) -> Self {
        Self { capabilities, ..self }
    }

    /// The same, for an agent that may speak to Unix sockets of the host.
    #[must_use]
    pub fn with_host_sockets(self, host_sockets: bool) -> Self {
        Self { host_sockets, ..self }
    }

    /// The same, for an agent that may let out through names what `leaks` says.
    #[must_use]
    pub fn with_leaks(self, leaks: LeakTerms) -> Self {
        Self { leaks, ..self }
    }

    /// The same, for an agent all of whose flows together keep to `budget`.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// The same in `mode`.
    #[must_use]
    pub fn in_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Of all flows of the agent together.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether TLS is ended for any rule.
    #[must_use]
    pub fn inspects(&self) -> bool {
        self.allow.iter().any(|rule| rule.tls.inspection.is_some())
    }

    /// What the agent may let out through names.
    #[must_use]
    pub fn leaks(&self) -> &LeakTerms {
        &self.leaks
    }

    /// Leave for each name that a rule spells out and that may be looked up.
    pub fn exact_leaves(&self) -> impl Iterator<Item = Leave> {
        let exact = |rule: &Rule| match &rule.subject {
            Subject::Host(Pattern::Exact(name)) => Some(name.clone()),
            Subject::Host(_) | Subject::Network(_) => None,
        };
        let names: BTreeSet<HostName> = self.allow.iter().filter_map(exact).collect();
        names.into_iter().filter_map(|name| self.lookup(&name).ok())
    }

    /// Where the first rule is written whose wildcard stands above `zone`.
    #[must_use]
    pub fn wildcard_above(&self, zone: &HostName) -> Option<&Source> {
        let stands_above = |rule: &&Rule| match &rule.subject {
            Subject::Host(pattern) => pattern.is_wildcard() && pattern.name() == zone,
            Subject::Network(_) => false,
        };
        self.allow.iter().find(stands_above).map(|rule| &rule.source)
    }

    /// The same without its wildcards, for an agent in quarantine.
    #[must_use]
    pub fn exact_only(&self) -> Self {
        let allow = self.allow.iter().filter(|rule| !rule.subject.is_wildcard()).cloned().collect();
        Self { allow, ..self.clone() }
    }

    /// The same without the rules whose term is over at `occasion`; where there is none yet, without those
    /// that have a term.
    #[must_use]
    pub fn at(&self, occasion: Option<Occasion>) -> Self {
        let holds = |rule: &&Rule| rule.term.holds(occasion);
        Self { allow: self.allow.iter().filter(holds).cloned().collect(), ..self.clone() }
    }

    /// The first rule for `name`, which is denied for `reason`, that would allow it were its term not over at
    /// `occasion`. None where it is denied for anything but that no rule allows it.
    #[must_use]
    pub fn ended_rule(&self, name: &HostName, reason: Reason, occasion: Option<Occasion>) -> Option<&Rule> {
        let is_ended = |rule: &&Rule| !rule.term.holds(occasion) && opens_name(rule, name);
        self.allow.iter().filter(|_| reason == Reason::HostNotAllowed).find(is_ended)
    }

    /// Whether the term of any rule ends.
    #[must_use]
    pub fn has_terms(&self) -> bool {
        self.allow.iter().any(|rule| rule.term.is_bounded())
    }

    /// The same, as if its rules stood nowhere: what two files say is the same where these are equal.
    #[must_use]
    pub fn without_places(&self) -> Self {
        let nowhere = Source { file: "".into(), line: 0 };
        let moved = |rules: &[Rule]| {
            rules.iter().map(|rule| Rule { source: nowhere.clone(), ..rule.clone() }).collect()
        };
        Self { allow: moved(&self.allow), deny: moved(&self.deny), ..self.clone() }
    }

    /// The same with other rules: what it says of the agent as a whole.
    #[must_use]
    pub fn with_rules(&self, allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny, ..self.clone() }
    }

    /// Whether the agent may speak to Unix sockets that processes outside have bound to paths.
    #[must_use]
    pub fn host_sockets(&self) -> bool {
        self.host_sockets
    }

    /// What the agent may do to its own network namespace. None: nothing.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
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
            Destination::Address(address) => self.decide_address(on_wire(*address), flow, grants, now),
        }
    }

    /// Whether `name` may be looked up, and what its addresses are granted for.
    ///
    /// # Errors
    /// The name is denied by a rule at every port that is open, or no rule allows it; or it is a
    /// resolver's, which only a rule with this very name allows.
    pub fn lookup(&self, name: &HostName) -> Result<Leave, Denial> {
        let mut denied = None;
        let mut openings: Vec<Opening> = Vec::new();
        let mut private = false;
        let mut types: Vec<u16> = Vec::new();
        let mut wildcard = None;
        let mut is_exact = false;
        for rule in self.allow.iter().filter(|rule| opens_name(rule, name)) {
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
            return Ok(Leave { name: name.clone(), openings, private, types, wildcard });
        }
        let by_name = || self.deny.iter().find(|deny| covers_name(deny, name));
        Err(denied
            .or_else(|| by_name().map(|deny| Denial::by(Reason::DeniedByRule, &deny.source)))
            .unwrap_or_else(|| self.unnamed(name)))
    }

    /// Whether a deny rule covers `address` at every port and protocol that `leave` opens, as
    /// networks in a deny list do; an answer with such an address is not handed on.
    #[must_use]
    pub fn denies_address(&self, address: IpAddr, leave: &Leave) -> Option<Denial> {
        let mut denial = None;
        for opening in &leave.openings {
            denial = Some(Denial::by(Reason::DeniedByRule, &self.denying_at(address, opening)?.source));
        }
        denial
    }

    /// What to grant for `address` when an answer of `leave` holds it: the openings that no
    /// network of the deny list covers.
    pub fn openings_at<'a>(
        &'a self,
        address: IpAddr,
        leave: &'a Leave,
    ) -> impl Iterator<Item = &'a Opening> + 'a {
        leave.openings.iter().filter(move |opening| self.denying_at(address, opening).is_none())
    }

    /// Whether the rule that earned `grant` is still there, and no deny rule covers it.
    #[must_use]
    pub fn opens(&self, grant: &Grant) -> bool {
        let earns = |rule: &Rule| {
            rule.id == grant.rule
                && opens_name(rule, &grant.name)
                && rule.covers_port(grant.port)
                && rule.covers_protocol(grant.protocol)
        };
        let address = on_wire(grant.address);
        let is_denied = |deny: &Rule| covers_name(deny, &grant.name) || deny.subject.holds(address);
        self.allow.iter().any(earns) && self.denying(is_denied, grant.port, grant.protocol).is_none()
    }

    /// The rule that flows to `name` go by: `rule`, if it still opens it, else the first that does.
    #[must_use]
    pub fn successor(&self, name: &HostName, port: u16, protocol: Protocol, rule: RuleId) -> Option<RuleId> {
        let opens =
            |held: &&Rule| opens_name(held, name) && held.covers_port(port) && held.covers_protocol(protocol);
        let mut ids = self.allow.iter().filter(opens).map(|held| held.id).peekable();
        let first = ids.peek().copied();
        ids.find(|id| *id == rule).or(first)
    }

    fn decide_name(
        &self,
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
        Ok(permit(flow, address, rule))
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
        let mut none = Reason::AddressNotGranted;
        if matches!(flow.protocol, Protocol::Tcp | Protocol::Udp) {
            match grants.at(address, flow.port, flow.protocol) {
                Some((id, expires)) if expires > now => {
                    if let Some(rule) = self.allow.iter().find(|rule| rule.id == id) {
                        return Ok(permit(flow, Some(address), rule));
                    }
                }
                Some(_) => none = Reason::GrantExpired,
                None => {}
            }
        }
        if none == Reason::AddressNotGranted && self.allow.iter().any(|rule| rule.subject.holds(address)) {
            // A rule holds it without naming it.
            none = Reason::AddressSpecialPurpose;
        }
        let rule = self.nearest(|rule| rule.subject.opens(address), flow, || Denial::because(none))?;
        Ok(permit(flow, Some(address), rule))
    }

    /// The denial of a name that no rule opens.
    fn unnamed(&self, name: &HostName) -> Denial {
        if !is_resolver(name) {
            return Denial::because(Reason::HostNotAllowed);
        }
        let wildcard = self.allow.iter().find(|rule| covers_name(rule, name));
        Denial { reason: Reason::ResolverNotAllowed, rule: wildcard.map(|rule| rule.source.clone()) }
    }

    fn denying_at(&self, address: IpAddr, opening: &Opening) -> Option<&Rule> {
        let address = on_wire(address);
        self.denying(|deny| deny.subject.holds(address), opening.port, opening.protocol)
    }

    fn denying(&self, is_subject: impl Fn(&Rule) -> bool, port: u16, protocol: Protocol) -> Option<&Rule> {
        self.deny
            .iter()
            .find(|deny| is_subject(deny) && deny.covers_port(port) && deny.covers_protocol(protocol))
    }

    /// The rule that allows `flow`, or the denial by the rule that came nearest; where none is about
    /// it, the denial is `none`.
    fn nearest(
        &self,
        is_subject: impl Fn(&Rule) -> bool,
        flow: &Flow,
        none: impl FnOnce() -> Denial,
    ) -> Result<&Rule, Denial> {
        let mut nearest = None;
        for rule in self.allow.iter().filter(|rule| is_subject(rule)) {
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
}

/// The address as a packet carries it: an IPv4-mapped one (RFC 4291, section 2.5.5.2) leaves as
/// IPv4, so it is judged as IPv4.
fn on_wire(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn covers_name(rule: &Rule, name: &HostName) -> bool {
    match &rule.subject {
        Subject::Host(pattern) => pattern.matches(name),
        Subject::Network(_) => false,
    }
}

/// Whether a rule that allows is about `name`. A wildcard is not about the resolvers below it: they
/// would answer what its policy denies.
fn opens_name(rule: &Rule, name: &HostName) -> bool {
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

fn permit(flow: &Flow, address: Option<IpAddr>, rule: &Rule) -> Permit {
    Permit {
        destination: flow.destination.clone(),
        address,
        port: flow.port,
        protocol: flow.protocol,
        rule: rule.id,
        source: rule.source.clone(),
        inspection: rule.tls.inspection.clone(),
    }
}
