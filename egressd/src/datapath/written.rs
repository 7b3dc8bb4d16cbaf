//! A policy, written to the maps.

use super::{
    budgets::{Assigned, Budgets},
    clock::now,
    fence::FenceError,
    leave,
    tables::{NetworkList, Tables},
    way::Ways,
};
use crate::policy::{Agent, Grant, Moment, Policy, Protocol};

/// Writes the rules, networks, budgets and grants of `agent`, and says where its budgets are. At no moment is more
/// open than the policy of before or this one opens: what is denied comes first and what was denied goes last.
///
/// # Errors
/// Names what could not be written.
pub fn policy(
    tables: &mut Tables,
    budgets: &Budgets,
    agent: &Agent,
    ways: &Ways<'_>,
) -> Result<Assigned, FenceError> {
    let (id, moment, policy) = (agent.id(), now(), ways.policy);
    let assigned = budgets.assign(agent, policy)?;
    // Of what expired, only direct grants matter still: to flows that are open by them.
    let matters = |grant: &Grant| grant.expires > moment || ways.is_direct(grant);
    let keep = |grant: Grant| {
        let kept = if policy.opens(&grant) { Some(grant) } else { succeeded(grant, policy, moment) };
        kept.filter(matters)
    };
    let (denied, allowed) = (leave::denied_networks(policy.deny()), leave::networks(policy));
    tables.add_networks(NetworkList::Denied, id, &denied)?;
    tables.look_at_denied_networks(id)?;
    tables.retain_grants(id, ways, moment, keep)?;
    tables.retain_networks(NetworkList::Allowed, id, &allowed)?;
    tables.add_networks(NetworkList::Allowed, id, &allowed)?;
    tables.set_rules(id, &leave::rules(policy, &assigned))?;
    tables.retain_networks(NetworkList::Denied, id, &denied)?;
    Ok(assigned)
}

/// What is left of a grant of TLS whose rule is gone, where another one opens its name: open flows go on
/// by that, and new ones start when the name was looked up again.
fn succeeded(grant: Grant, policy: &Policy, now: Moment) -> Option<Grant> {
    if grant.protocol != Protocol::Tls {
        return None;
    }
    let rule = policy.successor(&grant.name, grant.port, grant.protocol, grant.rule)?;
    let left = Grant { rule, expires: grant.expires.min(now), ..grant };
    policy.opens(&left).then_some(left)
}
