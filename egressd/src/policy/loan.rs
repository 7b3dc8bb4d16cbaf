//! Rules that a human lent to an agent, beside those of its policy.

use super::{
    decide::Policy,
    pattern::Pattern,
    rule::{Rule, RuleId, Subject},
    source::Source,
};
use jiff::Timestamp;

/// A rule that a human lent to an agent, until the end of its [`super::Term`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loan {
    /// Tells it from every other loan of the host.
    pub number: u32,
    /// Its source is [`Loan::source`].
    pub rule: Rule,
    pub lender: Operator,
    pub since: Timestamp,
}

/// A process that asked for a change, as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    pub uid: u32,
    /// Who logged in before any change of users; None where nobody did.
    pub login_uid: Option<u32>,
    pub pid: u32,
    /// Its command line, cut.
    pub command: String,
}

/// The most rules that are lent to one agent at a time. Somebody who needs more writes a policy.
pub const MAX_LOANS: usize = 64;

/// What stands for a file where the rule is a loan's.
const FILE: &str = "grant";

/// Why a rule is not lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoanError {
    #[error("the agent holds {MAX_LOANS} grants, its bound: revoke some, or write a rule")]
    TooMany,
}

impl Loan {
    /// Where records say that the rule of the loan with this number stands, as in `grant:7`.
    #[must_use]
    pub fn source(number: u32) -> Source {
        Source { file: FILE.into(), line: number }
    }

    /// Whether that is where a record says that its rule stands.
    #[must_use]
    pub fn is_source(text: &str) -> bool {
        text.split_once(':').is_some_and(|(file, _)| file == FILE)
    }
}

impl Policy {
    /// The same with the rules of `loans`, which come after its own: nobody lends a way around what a rule
    /// says of requests. Of loans for one destination the last counts. One whose rule has the id of another
    /// is left out.
    #[must_use]
    pub fn lending(&self, loans: &[Loan]) -> Self {
        let mut allow = self.allow().to_vec();
        for loan in loans.iter().rev() {
            if allow.iter().chain(self.deny()).all(|rule| rule.id != loan.rule.id) {
                allow.push(loan.rule.clone());
            }
        }
        self.with_rules(allow, self.deny().to_vec())
    }

    /// The rule that denies all of what `rule` would allow.
    #[must_use]
    pub fn denier_of(&self, rule: &Rule) -> Option<&Rule> {
        let denies_all = |deny: &&Rule| {
            is_within(&rule.subject, &deny.subject)
                && rule.ports.iter().all(|port| deny.covers_port(*port))
                && rule.protocol.is_some_and(|protocol| deny.covers_protocol(protocol))
        };
        self.deny().iter().find(denies_all)
    }

    /// The rule that allows all of what `rule` would allow.
    #[must_use]
    pub fn allower_of(&self, rule: &Rule) -> Option<&Rule> {
        let allows_all = |held: &&Rule| {
            is_within(&rule.subject, &held.subject)
                && rule.ports.iter().all(|port| held.covers_port(*port))
                && rule.protocol.is_some_and(|protocol| held.covers_protocol(protocol))
        };
        self.allow().iter().find(allows_all)
    }
}

/// `id`, or the next that none of `rules` has, and no rule's at all.
pub(super) fn free_id<'a>(id: RuleId, rules: impl Iterator<Item = &'a Rule> + Clone) -> RuleId {
    let mut free = RuleId(id.0.max(1));
    // Ends: there are fewer rules than numbers.
    while free == RuleId::OBSERVED || rules.clone().any(|rule| rule.id == free) {
        free = RuleId(free.0.wrapping_add(1).max(1));
    }
    free
}

/// Whether everything that `inner` is about, `outer` is about too.
fn is_within(inner: &Subject, outer: &Subject) -> bool {
    match (inner, outer) {
        (Subject::Host(inner), Subject::Host(outer)) => is_below(inner, outer),
        (Subject::Network(inner), Subject::Network(outer)) => outer.contains(inner),
        (Subject::Host(_), Subject::Network(_)) | (Subject::Network(_), Subject::Host(_)) => false,
    }
}

fn is_below(inner: &Pattern, outer: &Pattern) -> bool {
    match (inner, outer) {
        (Pattern::Exact(name), outer) => outer.matches(name),
        (Pattern::OneLabel(_) | Pattern::AnyLabels(_), Pattern::Exact(_)) => false,
        (Pattern::OneLabel(inner), Pattern::OneLabel(outer)) => inner == outer,
        (Pattern::AnyLabels(_), Pattern::OneLabel(_)) => false,
        (Pattern::OneLabel(inner) | Pattern::AnyLabels(inner), Pattern::AnyLabels(zone)) => {
            inner == zone || outer.matches(inner)
        }
    }
}
