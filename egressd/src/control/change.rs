//! The smallest change that would allow what is denied, in the words of policies and commands. Pure.

use super::protocol::{Explanation, Resolution, ResolverAnswer, SmallestChange};
use crate::policy::{AskedRequest, Change, Flow, Loan, Policy, Reason};
use std::net::IpAddr;

/// The smallest change of `policy`, which is in force, by which `flow` would be allowed; None where it is. Of what
/// a budget denies it is for whoever knows what it was for. `request` is what is asked for by the flow.
pub fn change(
    policy: &Policy,
    flow: &Flow,
    request: Option<&AskedRequest>,
    explanation: &Explanation,
) -> Option<SmallestChange> {
    let reason = explanation.reason.as_ref().or(explanation.observed.as_ref())?;
    let reason: Reason = reason.parse().ok()?;
    // A name that is spelt out costs nothing and is suspected of nothing.
    let is_suspected =
        matches!(reason, Reason::LeakBudgetSpent | Reason::NamesFrozen | Reason::NameSuspicious);
    let change = match (is_bound(reason), is_suspected) {
        (true, _) => None,
        (false, true) => policy.exact_only().change_for(flow, &[]),
        (false, false) => policy.change_for(flow, &refused(explanation)),
    };
    let note = note(reason, request, explanation);
    match change {
        Some(Change::Edit { remove, add }) => {
            let remove = remove.iter().map(ToString::to_string).collect();
            Some(SmallestChange { add, remove, note })
        }
        Some(Change::None(why)) => {
            Some(SmallestChange { note: Some(why.to_owned()), ..SmallestChange::default() })
        }
        None => Some(SmallestChange { note: Some(note?), ..SmallestChange::default() }),
    }
}

/// The line that is offered: one that a grant for a time could stand for.
pub fn remedy(change: &SmallestChange, reason: Option<&str>) -> Option<String> {
    // Whoever trusts a resolver with what it is told names it without being offered to.
    let is_resolver = reason == Some(Reason::ResolverNotAllowed.as_str());
    change.add.clone().filter(|_| change.remove.is_empty() && !is_resolver)
}

/// The addresses for which the resolver would refuse the name.
fn refused(explanation: &Explanation) -> Vec<IpAddr> {
    match &explanation.resolver {
        Some(Resolution { answer: ResolverAnswer::Refused, addresses, .. }) => {
            addresses.iter().map(|known| known.address).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

/// Whether nothing is left of what a budget lets pass.
fn is_bound(reason: Reason) -> bool {
    matches!(reason, Reason::BudgetSpent | Reason::RateExceeded)
}

/// What else would do, or is to be thought of.
fn note(reason: Reason, request: Option<&AskedRequest>, explanation: &Explanation) -> Option<String> {
    let Explanation { agent, rule, .. } = explanation;
    if is_bound(reason) {
        return raised(reason, explanation);
    }
    if matches!(reason, Reason::RequestNotAllowed | Reason::RequestMalformed) {
        return unlisted(request, rule.as_ref());
    }
    if reason == Reason::RuleExpired {
        return rule.as_ref().map(|rule| format!("or renew the term of the rule at {rule}"));
    }
    if reason == Reason::ApprovalRequired {
        return Some("or approve it when it is asked for: `egressctl approvals`".to_owned());
    }
    if reason == Reason::ApprovalDenied {
        return Some(format!("or allow it for a time, whatever was said: `egressctl allow --agent {agent}`"));
    }
    if reason == Reason::ResolverNotAllowed {
        return Some("it is a resolver: whoever may ask it looks up whatever this policy denies".to_owned());
    }
    if reason == Reason::LeakBudgetSpent {
        return Some(format!("or wait: it comes back hour by hour, see `egressctl leaks --agent {agent}`"));
    }
    let is_suspected =
        matches!(reason, Reason::AgentQuarantined | Reason::NamesFrozen | Reason::NameSuspicious);
    is_suspected.then(|| format!("or, once you have looked at why: `egressctl leaks approve {agent}`"))
}

/// The line of `allow` by which its rule would let the request pass.
fn unlisted(request: Option<&AskedRequest>, rule: Option<&String>) -> Option<String> {
    Some(match request?.pattern() {
        Some(pattern) => format!("add `{pattern}` to `allow` of the rule at {}", rule?),
        None => "no rule that inspects lets it pass".to_owned(),
    })
}

/// Which bound would have to be another.
fn raised(reason: Reason, Explanation { budgets, .. }: &Explanation) -> Option<String> {
    let spent = budgets.iter().find(|budget| budget.refuses.is_some())?;
    let is_spent = |left: Option<u64>| left == Some(0);
    let keys = match (reason, is_spent(spent.connections.left), is_spent(spent.bytes.left)) {
        (Reason::RateExceeded, ..) => "wait, or raise `rate`",
        (_, true, true) => "raise `max_connections` and `max_bytes`",
        (_, true, false) => "raise `max_connections`",
        (_, false, _) => "raise `max_bytes`",
    };
    Some(match &spent.rule {
        Some(rule) if Loan::is_source(rule) => {
            format!("what was allowed is used up ({rule}): allow it again")
        }
        Some(rule) => format!("{keys} of the rule at {rule}"),
        None => format!("{keys} of the agent"),
    })
}
