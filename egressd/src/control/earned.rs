//! What an agent's lookups have earned it, as explanations tell it.

use super::protocol::LiveGrant;
use crate::policy::{Agent, Denial, Destination, Flow, Grant, Grants, Moment, Permit, Policy};

/// What an agent's lookups have earned it by a moment. Nothing, of one that does not run.
#[derive(Debug, Default)]
pub struct Earned {
    grants: Grants,
    now: Moment,
}

impl Earned {
    #[must_use]
    pub fn of(agent: &Agent, now: Moment) -> Self {
        let mut grants = Grants::default();
        // They are within the bound where they come from.
        let _ = grants.insert(&agent.live_grants(now), now);
        Self { grants, now }
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
}
