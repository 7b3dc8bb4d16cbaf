//! The compiled rules of one agent, and the judgement by them.

use super::{
    approval::Approval,
    budget::Budget,
    capability::Capability,
    decision::{Denial, Leave, Opening, Permit, Reason},
    flow::{Destination, Flow},
    grant::{Grant, Grants},
    host::HostName,
    judge::{Reading, Rules, covers_name, on_wire, opens_name},
    leaks::LeakTerms,
    mode::Mode,
    moment::Moment,
    pattern::Pattern,
    rule::{Protocol, Rule, RuleId, Subject},
    source::Source,
    special::special_purpose,
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
    asks_about_unknown: bool,
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

    /// The same, where somebody is asked about destinations that no rule knows.
    #[must_use]
    pub fn asking_about_unknown(self, asks_about_unknown: bool) -> Self {
        Self { asks_about_unknown, ..self }
    }

    /// Whether somebody is asked about destinations that no rule knows.
    #[must_use]
    pub fn asks_about_unknown(&self) -> bool {
        self.asks_about_unknown
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
        // What no rule opens, and is observed all the same, is looked up when it is asked for.
        names.into_iter().filter_map(|name| self.lookup(&name).ok()).filter(Leave::has_rule)
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

    /// The same without its wildcards, for an agent in quarantine, which is not let out to be observed either.
    #[must_use]
    pub fn exact_only(&self) -> Self {
        let allow = self.allow.iter().filter(|rule| !rule.subject.is_wildcard()).cloned().collect();
        Self { allow, mode: Mode::Enforce, ..self.clone() }
    }

    /// The same without the rules that need an approval, and those whose term is over at `occasion`; where
    /// there is none yet, without those that have a term.
    #[must_use]
    pub fn at(&self, occasion: Option<Occasion>) -> Self {
        let holds = |rule: &&Rule| rule.term.holds(occasion) && rule.names.approval == Approval::NotNeeded;
        Self { allow: self.allow.iter().filter(holds).cloned().collect(), ..self.clone() }
    }

    /// The first rule for `name`, which is denied for `reason`, that would allow it were its term not over at
    /// `occasion`. None where it is denied for anything but that no rule allows it.
    #[must_use]
    pub fn ended_rule(&self, name: &HostName, reason: Reason, occasion: Option<Occasion>) -> Option<&Rule> {
        let is_ended = |rule: &&Rule| !rule.term.holds(occasion) && opens_name(rule, name);
        self.allow.iter().filter(|_| reason == Reason::HostNotAllowed).find(is_ended)
    }

    /// Whether the term of any rule ends, or any needs an approval.
    #[must_use]
    pub fn has_terms(&self) -> bool {
        let is_bounded = |rule: &Rule| rule.term.is_bounded() || rule.names.approval == Approval::Required;
        self.allow.iter().any(is_bounded)
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
    /// What is allowed by a rule that only observes, or by the mode of the policy, is permitted with the denial
    /// that it would have met.
    ///
    /// # Errors
    /// The [`Denial`] says why, and which rule denied or came nearest.
    pub fn decide(&self, flow: &Flow, grants: &Grants, now: Moment) -> Result<Permit, Denial> {
        let denial = match self.rules(Reading::Strict).decide(flow, grants, now) {
            Err(denial) if self.observes() => denial,
            settled => return settled,
        };
        let permit = self.rules(Reading::InForce).decide(flow, grants, now);
        let permit = permit.or_else(|in_force| self.let_out(flow, in_force))?;
        Ok(Permit { observed: Some(denial), ..permit })
    }

    /// Whether `name` may be looked up, and what its addresses are granted for. As with [`Self::decide`], what
    /// is only observed has the denial with it.
    ///
    /// # Errors
    /// The name is denied by a rule at every port that is open, or no rule allows it; or it is a
    /// resolver's, which only a rule with this very name allows.
    pub fn lookup(&self, name: &HostName) -> Result<Leave, Denial> {
        let strict = self.rules(Reading::Strict).lookup(name);
        if !self.observes() {
            return strict;
        }
        // Also of a name that is allowed: at other ports it may be on trial.
        let leave = self.rules(Reading::InForce).lookup(name);
        let leave = leave.or_else(|denial| match self.mode {
            Mode::Observe if Mode::lifts(denial.reason) => Ok(Leave::observed_name(name)),
            Mode::Observe | Mode::Enforce => Err(denial),
        })?;
        Ok(Leave { observed: strict.err(), ..leave })
    }

    /// Whether any of it only observes.
    #[must_use]
    pub fn observes(&self) -> bool {
        let is_on_trial = |rule: &Rule| rule.mode == Mode::Observe;
        self.mode == Mode::Observe || self.allow.iter().chain(&self.deny).any(is_on_trial)
    }

    /// The same as if nothing of it only observed.
    #[must_use]
    pub fn enforced(&self) -> Self {
        let allow = self.allow.iter().filter(|rule| rule.mode == Mode::Enforce).cloned().collect();
        let deny = self.deny.iter().map(|rule| Rule { mode: Mode::Enforce, ..rule.clone() }).collect();
        Self { allow, deny, mode: Mode::Enforce, ..self.clone() }
    }

    /// What a policy in observe mode permits although it denies it.
    fn let_out(&self, flow: &Flow, denial: Denial) -> Result<Permit, Denial> {
        let address = match &flow.destination {
            Destination::Address(address) => Some(*address),
            Destination::Name(_) => flow.address,
        };
        let address = address.map(on_wire);
        // Names have to be asked of our resolver, whatever else is open.
        if self.mode != Mode::Observe || !Mode::lifts(denial.reason) || flow.port == DNS_PORT {
            return Err(denial);
        }
        match address.and_then(special_purpose) {
            Some(_) => Err(Denial::because(Reason::AddressSpecialPurpose)),
            None => Ok(Permit::observed_at(flow, address)),
        }
    }

    fn rules(&self, reading: Reading) -> Rules<'_> {
        Rules { allow: &self.allow, deny: &self.deny, reading }
    }

    /// Whether a deny rule covers `address` at every port and protocol that `leave` opens, as
    /// networks in a deny list do; an answer with such an address is not handed on, unless all is observed.
    #[must_use]
    pub fn denies_address(&self, address: IpAddr, leave: &Leave) -> Option<Denial> {
        if self.mode == Mode::Observe {
            return None;
        }
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
        let is_observed = grant.rule == RuleId::OBSERVED;
        let is_denied =
            |deny: &Rule| (covers_name(deny, &grant.name) && !is_observed) || deny.subject.holds(address);
        let is_earned = if is_observed { self.observes_at(grant) } else { self.allow.iter().any(earns) };
        is_earned && self.denying(is_denied, grant.port, grant.protocol).is_none()
    }

    /// Whether it is the mode of the policy that earns `grant`.
    fn observes_at(&self, grant: &Grant) -> bool {
        let is_it = |opening: &Opening| {
            (opening.port, opening.protocol, opening.rule) == (grant.port, grant.protocol, grant.rule)
        };
        self.lookup(&grant.name).is_ok_and(|leave| leave.openings().iter().any(is_it))
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

    fn denying_at(&self, address: IpAddr, opening: &Opening) -> Option<&Rule> {
        let address = on_wire(address);
        self.denying(|deny| deny.subject.holds(address), opening.port, opening.protocol)
    }

    fn denying(&self, is_subject: impl Fn(&Rule) -> bool, port: u16, protocol: Protocol) -> Option<&Rule> {
        self.rules(Reading::InForce).denying(is_subject, port, protocol)
    }
}

/// Of the DNS.
const DNS_PORT: u16 = 53;
