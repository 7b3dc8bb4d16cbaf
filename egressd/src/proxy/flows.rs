//! The flows that are being relayed, so that a removed rule cuts them.

use super::purse::Purse;
use crate::policy::{Agent, AgentId, Denial, Flow, Moment, Permit, Reason};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Every live flow of every agent. An agent's share is bounded by the connections that it may
/// have; see [`super::MAX_CONNECTIONS`].
#[derive(Debug, Default)]
pub struct Flows {
    live: Mutex<Live>,
}

impl Flows {
    /// Enters a flow; it stays until the returned guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>, agent: AgentId, permit: &Permit, purse: Purse) -> LiveFlow {
        let cut = CancellationToken::new();
        let mut live = self.lock();
        let number = live.next;
        live.next += 1;
        live.flows.insert(number, Entered { agent, permit: permit.clone(), cut: cut.clone() });
        LiveFlow { flows: Arc::clone(self), number, cut, purse }
    }

    /// Cuts the flows of `agent` that its policy no longer allows, and returns what they were.
    pub fn cut_denied(&self, agent: &Agent, now: Moment) -> Vec<(Permit, Denial)> {
        let live = self.lock();
        let own = live.flows.values().filter(|flow| flow.agent == agent.id());
        let denied = own.filter_map(|flow| {
            let denial = still_allowed(agent, &flow.permit, now).err()?;
            flow.cut.cancel();
            Some((flow.permit.clone(), denial))
        });
        denied.collect()
    }

    // Entries are inserted and removed whole; a panic elsewhere leaves none half made.
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one flow in the list of live flows.
#[derive(Debug)]
pub struct LiveFlow {
    flows: Arc<Flows>,
    number: u64,
    cut: CancellationToken,
    purse: Purse,
}

impl LiveFlow {
    /// What pays for it.
    #[must_use]
    pub fn purse(&self) -> &Purse {
        &self.purse
    }

    /// Waits until the policy no longer allows the flow.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// Whether it no longer does.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }
}

impl Drop for LiveFlow {
    fn drop(&mut self) {
        self.flows.lock().flows.remove(&self.number);
    }
}

/// Whether the policy still allows a flow that it once permitted. See [`Agent::still_allows`].
///
/// # Errors
/// The denial that the flow would meet today.
pub fn still_allowed(agent: &Agent, permit: &Permit, now: Moment) -> Result<(), Denial> {
    let flow = Flow {
        destination: permit.destination().clone(),
        port: permit.port(),
        protocol: permit.protocol(),
        address: permit.address(),
    };
    agent.still_allows(&flow, permit.rule(), now)?;
    if permit.inspection().is_some()
        && agent.decide(&Flow { address: None, ..flow }, now)?.rule() != permit.rule()
    {
        // Another rule says nothing of these requests, or something else.
        return Err(Denial::because(Reason::RuleRemoved));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    flows: HashMap<u64, Entered>,
}

#[derive(Debug)]
struct Entered {
    agent: AgentId,
    permit: Permit,
    cut: CancellationToken,
}
