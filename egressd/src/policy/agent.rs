//! The workload whose egress is governed.

use super::{
    decide::Policy,
    decision::{Denial, Leave, Permit, Reason},
    flow::{Destination, Flow},
    grant::{Grant, GrantError, Grants},
    host::HostName,
    loan::{Loan, LoanError, MAX_LOANS, free_id},
    moment::Moment,
    rule::{Protocol, Rule, RuleId},
    term::{Occasion, Term},
};
use arc_swap::ArcSwap;
use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// One agent: its identity, its policy, and the grants that its lookups earned.
///
/// The policy is replaced whole on reload; edges hold the agent, never the policy, so that the
/// next judgement is by the policy of that moment.
#[derive(Debug)]
pub struct Agent {
    id: AgentId,
    name: AgentName,
    /// What is in force: of the whole less in quarantine, and where the term of a rule is over.
    policy: ArcSwap<Policy>,
    given: ArcSwap<Policy>,
    /// Oldest first.
    loans: ArcSwap<Vec<Loan>>,
    /// What was given, with what was lent.
    whole: ArcSwap<Policy>,
    quarantined: AtomicBool,
    /// None before anybody said.
    occasion: Mutex<Option<(Occasion, Moment)>>,
    generation: AtomicU64,
    grants: Mutex<Grants>,
}

impl Agent {
    #[must_use]
    pub fn new(id: AgentId, name: AgentName, policy: Arc<Policy>) -> Self {
        let in_force = if policy.has_terms() { Arc::new(policy.at(None)) } else { Arc::clone(&policy) };
        Self {
            id,
            name,
            policy: ArcSwap::from(in_force),
            given: ArcSwap::from(Arc::clone(&policy)),
            loans: ArcSwap::default(),
            whole: ArcSwap::from(policy),
            quarantined: AtomicBool::new(false),
            occasion: Mutex::default(),
            generation: AtomicU64::new(0),
            grants: Mutex::default(),
        }
    }

    #[must_use]
    pub fn id(&self) -> AgentId {
        self.id
    }

    #[must_use]
    pub fn name(&self) -> &AgentName {
        &self.name
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The policy that was given, without what was lent.
    #[must_use]
    pub fn given_policy(&self) -> Arc<Policy> {
        self.given.load_full()
    }

    /// What was given and what was lent, which is in force but for quarantine and for rules whose term is over.
    #[must_use]
    pub fn whole_policy(&self) -> Arc<Policy> {
        self.whole.load_full()
    }

    /// What somebody lent, oldest first.
    #[must_use]
    pub fn loans(&self) -> Arc<Vec<Loan>> {
        self.loans.load_full()
    }

    /// Puts the rule of `loan` in force beside the policy, by an id that no other rule has, and returns the
    /// loan with that.
    ///
    /// # Errors
    /// [`MAX_LOANS`] are held.
    pub fn lend(&self, loan: Loan) -> Result<Loan, LoanError> {
        let mut grants = self.grants();
        let mut loans = Vec::clone(&self.loans());
        if loans.len() >= MAX_LOANS {
            return Err(LoanError::TooMany);
        }
        let given = self.given_policy();
        let lent = loans.iter().map(|held| &held.rule);
        let id = free_id(loan.rule.id, given.allow().iter().chain(given.deny()).chain(lent));
        let loan = Loan { rule: Rule { id, ..loan.rule }, ..loan };
        loans.push(loan.clone());
        self.hold_loans(loans, &mut grants);
        Ok(loan)
    }

    /// Takes back the loans for which `is_over`, and returns them.
    pub fn take_back(&self, is_over: impl Fn(&Loan) -> bool) -> Vec<Loan> {
        let mut grants = self.grants();
        let (taken, kept): (Vec<_>, Vec<_>) = Vec::clone(&self.loans()).into_iter().partition(is_over);
        if !taken.is_empty() {
            self.hold_loans(kept, &mut grants);
        }
        taken
    }

    fn hold_loans(&self, loans: Vec<Loan>, grants: &mut Grants) {
        self.loans.store(Arc::new(loans));
        self.put_in_force(grants);
    }

    /// Whether wildcards are closed.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.quarantined.load(Ordering::SeqCst)
    }

    /// Closes the wildcards of the policy, or opens them again, and forgets the grants that they earned.
    pub fn quarantine(&self, quarantined: bool) {
        let mut grants = self.grants();
        self.quarantined.store(quarantined, Ordering::SeqCst);
        self.put_in_force(&mut grants);
    }

    /// Replaces the policy, and forgets the grants whose rules are gone.
    pub fn replace_policy(&self, policy: Arc<Policy>) {
        let mut grants = self.grants();
        self.given.store(policy);
        self.put_in_force(&mut grants);
    }

    /// Tells the agent that it is `now` on this occasion, before which no rule with a term is in force, and
    /// forgets the grants whose rules it ends. Says whether another policy is in force from now on.
    pub fn live(&self, occasion: Occasion, now: Moment) -> bool {
        let mut grants = self.grants();
        *self.occasion() = Some((occasion, now));
        // Most policies have no terms, and this is asked each second.
        let is_same = !self.whole.load().has_terms() || self.due() == **self.policy.load();
        if !is_same {
            self.put_in_force(&mut grants);
        }
        !is_same
    }

    /// When `rule`, which is in force, ends; None where it has no end.
    #[must_use]
    pub fn end_of(&self, rule: RuleId) -> Option<Moment> {
        let policy = self.policy.load();
        self.end_of_term(policy.allow().iter().find(|held| held.id == rule)?.term)
    }

    /// When `term` ends; None where it has no end, and before the agent was told the moment.
    #[must_use]
    pub fn end_of_term(&self, term: Term) -> Option<Moment> {
        let (occasion, now) = (*self.occasion())?;
        term.end(occasion, now)
    }

    /// The same grants, none of which outlives its rule.
    #[must_use]
    pub fn within_terms(&self, mut grants: Vec<Grant>) -> Vec<Grant> {
        if self.policy.load().has_terms() {
            for grant in &mut grants {
                grant.expires = self.end_of(grant.rule).map_or(grant.expires, |end| end.min(grant.expires));
            }
        }
        grants
    }

    /// The occasion that it was told last; None before anybody said.
    fn last_occasion(&self) -> Option<Occasion> {
        self.occasion().map(|(occasion, _)| occasion)
    }

    /// What is to be in force.
    fn due(&self) -> Policy {
        let due = self.whole.load().at(self.last_occasion());
        if self.is_quarantined() { due.exact_only() } else { due }
    }

    fn put_in_force(&self, grants: &mut Grants) {
        let (given, loans) = (self.given_policy(), self.loans());
        let whole = if loans.is_empty() { given } else { Arc::new(given.lending(&loans)) };
        self.whole.store(Arc::clone(&whole));
        let is_whole = !self.is_quarantined() && !whole.has_terms();
        let policy = if is_whole { whole } else { Arc::new(self.due()) };
        grants.retain(|grant| policy.opens(grant));
        self.policy.store(policy);
        // Last: what was judged by an older policy can only have seen an older number.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Tells judgements apart that were made before and after a policy was replaced or grants were
    /// taken back. Read it before the judgement; what was judged under another number than this
    /// moment's is worth nothing.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether `flow` may leave. See [`Policy::decide`].
    pub fn decide(&self, flow: &Flow, now: Moment) -> Result<Permit, Denial> {
        let grants = self.grants();
        let why = |denial: Denial| match (&flow.destination, denial.reason) {
            (Destination::Name(name), Reason::HostNotAllowed) => self.why(name, denial),
            (destination @ Destination::Address(_), Reason::AddressNotGranted) => {
                self.or_asked(denial, destination, Some(flow.port), Some(flow.protocol))
            }
            (Destination::Name(_) | Destination::Address(_), _) => denial,
        };
        let permit = self.policy.load().decide(flow, &grants, now).map_err(why)?;
        self.in_term(Permit { observed: permit.observed.map(why), ..permit }, now)
    }

    /// The same permit, unless its rule ended since the agent was told the moment last.
    fn in_term(&self, permit: Permit, now: Moment) -> Result<Permit, Denial> {
        match self.end_of(permit.rule()) {
            Some(end) if end <= now => {
                Err(Denial { reason: Reason::RuleExpired, rule: permit.source().cloned() })
            }
            Some(_) | None => Ok(permit),
        }
    }

    /// Whether the policy still allows `flow`, which `rule` once permitted.
    ///
    /// Grants govern how flows start. That one has expired since does not end a flow; that no rule
    /// stands behind it any more does.
    ///
    /// # Errors
    /// The denial that the flow would meet today.
    pub fn still_allows(&self, flow: &Flow, rule: RuleId, now: Moment) -> Result<(), Denial> {
        let denial = match self.decide(flow, now) {
            Ok(today) => return is_judged_alike(&today, rule),
            Err(denial) => denial,
        };
        let has_rule = match flow.destination {
            // These two are found only after a rule that allows.
            Destination::Name(_) => {
                matches!(denial.reason, Reason::GrantExpired | Reason::ServerNameNotGranted)
            }
            Destination::Address(_) => {
                denial.reason != Reason::DeniedByRule
                    && self.policy().allow().iter().any(|held| held.id == rule)
            }
        };
        match flow.destination {
            Destination::Name(_) if has_rule => {
                // By the name alone, for its grant has expired.
                is_judged_alike(&self.decide(&Flow { address: None, ..flow.clone() }, now)?, rule)
            }
            Destination::Address(_) if has_rule => Ok(()),
            Destination::Name(_) | Destination::Address(_) => Err(denial),
        }
    }

    /// Whether `name` may be looked up. See [`Policy::lookup`].
    pub fn lookup(&self, name: &HostName) -> Result<Leave, Denial> {
        self.leave(name).map(|(_, leave)| leave)
    }

    /// The same, with the policy that says so.
    pub fn leave(&self, name: &HostName) -> Result<(Arc<Policy>, Leave), Denial> {
        let policy = self.policy();
        let why = |denial| self.why(name, denial);
        let leave = policy.lookup(name).map_err(why)?;
        Ok((policy, Leave { observed: leave.observed.map(why), ..leave }))
    }

    /// The denial of `name`, which is not the policy's where a rule would allow it whose term is over, or
    /// in quarantine only a wildcard.
    fn why(&self, name: &HostName, denial: Denial) -> Denial {
        let whole = self.whole.load();
        if let Some(rule) = whole.ended_rule(name, denial.reason, self.last_occasion()) {
            return Denial::by(Reason::RuleExpired, &rule.source);
        }
        let whole = self.is_quarantined().then(|| whole.lookup(name));
        match whole.and_then(Result::ok).as_ref().and_then(Leave::wildcard) {
            Some(wildcard) => Denial::by(Reason::AgentQuarantined, &wildcard.source),
            None => self.or_asked(denial, &Destination::Name(name.clone()), None, None),
        }
    }

    /// The same denial, unless somebody may be asked.
    #[must_use]
    pub fn or_asked(
        &self,
        denial: Denial,
        destination: &Destination,
        port: Option<u16>,
        protocol: Option<Protocol>,
    ) -> Denial {
        self.whole.load().or_asked(denial, destination, port, protocol)
    }

    /// Remembers `grants`, all of them or none. To be called before they go to the kernel, so
    /// that a lookup that a reload overtook writes nothing there.
    ///
    /// # Errors
    /// [`GrantError::Quota`] when the agent holds [`super::MAX_GRANTS`] live grants,
    /// [`GrantError::Superseded`] when the policy of this moment would not earn them.
    pub fn remember(&self, grants: &[Grant], now: Moment) -> Result<(), GrantError> {
        // The lock keeps a reload from coming between the look at the policy and the insertion.
        let mut held = self.grants();
        let policy = self.policy.load();
        if !grants.iter().all(|grant| policy.opens(grant)) {
            return Err(GrantError::Superseded);
        }
        held.insert(grants, now)
    }

    /// A copy of the grants that are live at `now`.
    #[must_use]
    pub fn live_grants(&self, now: Moment) -> Vec<Grant> {
        self.grants().live(now).collect()
    }

    /// Forgets what expired before `moment`, and returns it: whoever wrote it elsewhere removes it.
    #[must_use]
    pub fn take_expired(&self, moment: Moment) -> Vec<Grant> {
        self.grants().take_expired(moment)
    }

    /// A name that earned this agent a grant for `address`, live or not, to make a denial readable.
    #[must_use]
    pub fn name_granted_at(&self, address: IpAddr) -> Option<HostName> {
        self.grants().name_at(address)
    }

    /// Whether any name earned a grant for this address, port and protocol that is live at `now`.
    #[must_use]
    pub fn has_grant(&self, address: IpAddr, port: u16, protocol: Protocol, now: Moment) -> bool {
        self.grants().has(address, port, protocol, now)
    }

    fn occasion(&self) -> MutexGuard<'_, Option<(Occasion, Moment)>> {
        self.occasion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A panic while the lock was held cannot leave half a grant behind: entries are inserted whole.
    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Number of an agent, as the kernel maps know it. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(pub u32);

/// Whether `today`, which would permit a flow that `rule` once permitted, asks no more of it: that its
/// requests are judged, of which nothing was judged so far.
///
/// # Errors
/// It does: the rule of the flow is gone.
fn is_judged_alike(today: &Permit, rule: RuleId) -> Result<(), Denial> {
    match today.inspection() {
        Some(_) if today.rule() != rule => Err(Denial::because(Reason::RuleRemoved)),
        Some(_) | None => Ok(()),
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of an agent: 1 to 48 octets of `a-z A-Z 0-9 - _ .`, not starting with a dot or hyphen, so that
/// it can be a cgroup's folder and a column of the tail.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Box<str>);

impl AgentName {
    /// # Errors
    /// Names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, AgentNameError> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 48 {
            return Err(AgentNameError::Length(text.len()));
        }
        if text.starts_with(['.', '-']) || !text.bytes().all(allowed) {
            return Err(AgentNameError::Octet(text.to_owned()));
        }
        Ok(Self(text.into()))
    }

    /// Stands in records for a cgroup that is fenced but belongs to no agent.
    #[must_use]
    pub fn unknown() -> Self {
        Self("unknown".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not an agent's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentNameError {
    #[error("agent name has {0} octets, 1 to 48 are allowed")]
    Length(usize),
    #[error(
        "agent name {0:?} may hold letters, digits, `-`, `_`, `.`, and starts with a letter, digit or `_`"
    )]
    Octet(String),
}
