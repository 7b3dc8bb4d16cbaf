//! What the daemon knows of an agent, as explanations tell it.

use super::protocol::{BudgetState, LiveGrant, Resolution, Used};
use crate::{
    audit::Path,
    policy::{
        Agent, Budget, Denial, Destination, Flow, Grant, Grants, Moment, Permit, Policy, Reason, Rule, RuleId,
    },
};

/// What is known of an agent at a moment. Nothing, of one that does not run.
#[derive(Debug, Default)]
pub struct Known {
    grants: Grants,
    now: Moment,
    is_quarantined: bool,
    /// The budgets of the agent itself, and of its rules; None where nothing was used yet.
    pub budgets: Option<Vec<(Option<RuleId>, BudgetState)>>,
    /// Of the name that is asked about.
    pub resolver: Option<Resolution>,
    /// Who would read the name of its server.
    pub reader: Option<Path>,
}

impl Known {
    /// What the agent itself knows.
    #[must_use]
    pub fn of(agent: &Agent, now: Moment) -> Self {
        let mut grants = Grants::default();
        // They are within the bound where they come from.
        let _ = grants.insert(&agent.live_grants(now), now);
        Self { grants, now, is_quarantined: agent.is_quarantined(), ..Self::default() }
    }

    /// Whether wildcards are closed.
    pub(super) fn is_quarantined(&self) -> bool {
        self.is_quarantined
    }

    /// Whether the resolver would refuse the name because somebody said no.
    pub(super) fn is_denied_by_people(&self) -> bool {
        let reason = self.resolver.as_ref().and_then(|told| told.reason.as_deref());
        reason == Some(Reason::ApprovalDenied.as_str())
    }

    /// What `policy` says of `flow`, whose address may have been earned.
    pub(super) fn decide(&self, policy: &Policy, flow: &Flow) -> Result<Permit, Denial> {
        policy.decide(flow, &self.grants, self.now)
    }

    /// What was earned of `destination`, the soonest to end first.
    pub(super) fn told(&self, destination: &Destination) -> Vec<LiveGrant> {
        let is_of = |grant: &Grant| match destination {
            Destination::Name(name) => grant.name == *name,
            Destination::Address(address) => grant.address == *address,
        };
        let mut live: Vec<Grant> = self.grants.live(self.now).filter(is_of).collect();
        live.sort_by_key(|grant| (grant.expires, grant.address, grant.port, grant.protocol));
        let told = |grant: Grant| LiveGrant {
            name: grant.name.to_string(),
            address: grant.address,
            port: grant.port,
            protocol: grant.protocol.to_string(),
            seconds_left: grant.expires.since(self.now).as_secs(),
        };
        live.into_iter().map(told).collect()
    }

    /// What a flow by `rule` would use up, the agent's own first.
    pub(super) fn budgets_of(&self, policy: &Policy, rule: Option<&Rule>) -> Vec<BudgetState> {
        let Some(known) = &self.budgets else { return unused(policy, rule) };
        let id = rule.map(|rule| rule.id);
        let is_of_it = |held: &Option<RuleId>| held.is_none() || *held == id;
        known.iter().filter(|(held, _)| is_of_it(held)).map(|(_, state)| state.clone()).collect()
    }
}

/// The same of an agent that has used nothing.
fn unused(policy: &Policy, rule: Option<&Rule>) -> Vec<BudgetState> {
    let state = |rule: Option<&Rule>, budget: Budget| BudgetState {
        rule: rule.map(|rule| rule.source.to_string()),
        subject: rule.map(|rule| rule.subject.to_string()),
        bytes: Used::of(0, budget.max_bytes),
        connections: Used::of(0, budget.max_connections),
        rate: budget.rate.map(|rate| rate.to_string()),
        ends_in: None,
        refuses: None,
    };
    let both = [Some((None, policy.budget())), rule.map(|rule| (Some(rule), rule.budget))];
    let bounded = both.into_iter().flatten().filter(|(_, budget)| budget.is_bounded());
    bounded.map(|(rule, budget)| state(rule, budget)).collect()
}
