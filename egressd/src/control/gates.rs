//! The gates that a flow comes to, and how far it comes. Pure.

use super::protocol::{Explanation, Gate, GateState, Step};
use crate::{
    audit::Verdict,
    policy::{Destination, Flow, Leave, Protocol, Reason},
};

/// The gates in the order of `flow`, of which `explanation` says what becomes of it; `leave` is what its name may
/// be looked up by.
pub fn walk(flow: &Flow, leave: Option<&Leave>, explanation: &Explanation) -> Vec<GateState> {
    let reason = explanation.reason.as_ref().or(explanation.observed.as_ref());
    let at =
        reason.and_then(|word| word.parse().ok()).map(|reason| gate_of(reason, flow, leave, explanation));
    let step = match (explanation.verdict, explanation.reason.as_deref()) {
        (Verdict::Allow, _) => Step::Observed,
        (Verdict::Deny, Some(word)) if word == Reason::ApprovalRequired.as_str() => Step::Held,
        (Verdict::Deny, _) => Step::Denied,
    };
    let mut is_over = false;
    let state = |gate: Gate| {
        let is_there = at == Some(gate);
        let step = match (is_over, is_there) {
            (true, _) => Step::NotReached,
            (false, true) => step,
            (false, false) if is_asked(gate, flow, explanation) => Step::Passed,
            (false, false) => Step::NotAsked,
        };
        is_over |= matches!(step, Step::Denied | Step::Held);
        GateState { gate, step, reason: reason.filter(|_| is_there).cloned() }
    };
    Gate::ALL.into_iter().map(state).collect()
}

/// Whether `gate` has anything to judge of `flow`.
fn is_asked(gate: Gate, flow: &Flow, explanation: &Explanation) -> bool {
    match gate {
        Gate::Resolver => flow.destination.name().is_some(),
        Gate::Address => true,
        Gate::ServerName => says_names(flow.protocol),
        Gate::Budget => !explanation.budgets.is_empty(),
    }
}

/// Which gate denies for `reason`.
fn gate_of(reason: Reason, flow: &Flow, leave: Option<&Leave>, explanation: &Explanation) -> Gate {
    let is_refused = explanation.resolver.as_ref().is_some_and(|told| told.answer.is_refusal());
    match (reason, &flow.destination) {
        (_, Destination::Name(_)) if is_refused => Gate::Resolver,
        (Reason::BudgetSpent | Reason::RateExceeded, _) => Gate::Budget,
        (Reason::RequestNotAllowed | Reason::RequestMalformed, _) => Gate::ServerName,
        // Its address is open, for another protocol over the same transport.
        (Reason::ProtocolNotAllowed, Destination::Name(_)) if shares_transport(flow, leave) => {
            Gate::ServerName
        }
        (Reason::RuleExpired, _) if !explanation.budgets.is_empty() => Gate::Budget,
        (_, Destination::Name(_)) if leave.is_none_or(|leave| !leave.has_rule()) => Gate::Resolver,
        (_, Destination::Name(_) | Destination::Address(_)) => Gate::Address,
    }
}

fn shares_transport(flow: &Flow, leave: Option<&Leave>) -> bool {
    let openings = leave.iter().flat_map(|leave| leave.openings());
    let mut at_port = openings.into_iter().filter(|opening| opening.port == flow.port);
    says_names(flow.protocol)
        && at_port.any(|opening| is_datagrams(opening.protocol) == is_datagrams(flow.protocol))
}

fn is_datagrams(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Udp | Protocol::Quic => true,
        Protocol::Tls | Protocol::Http | Protocol::Tcp => false,
    }
}

fn says_names(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tls | Protocol::Http | Protocol::Quic => true,
        Protocol::Tcp | Protocol::Udp => false,
    }
}
