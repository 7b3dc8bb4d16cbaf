//! What the flows of all agents share.

use super::{
    flows::{Flows, LiveFlow, still_allowed},
    inspect::Inspector,
    origin::canonical,
    pipes::{Bulk, Pipes},
    purse::Purse,
    workers::Workers,
};
use crate::{
    audit::{Event, Gate as Judged, Recorder, Spoken},
    policy::{
        Agent, AgentId, Approvals, Denial, Moment, OriginLookup, OriginalDestination, Permit, Reason,
        Resolve, Spend, Transport,
    },
};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

/// The gate that lets a flow through only after it has named a host that is granted.
pub struct Gate {
    pub(super) recorder: Recorder,
    pub(super) clock: fn() -> Moment,
    pub(super) resolve: Arc<dyn Resolve>,
    pub(super) origins: Arc<dyn OriginLookup>,
    pub(super) pipes: Arc<Pipes>,
    /// None: flows are carried by whoever serves them.
    pub(super) workers: Option<Arc<Workers>>,
    flows: Arc<Flows>,
    inspector: OnceLock<Arc<Inspector>>,
    approvals: OnceLock<Arc<dyn Approvals>>,
    spend: OnceLock<Arc<dyn Spend>>,
}

impl Gate {
    #[must_use]
    pub fn new(
        recorder: Recorder,
        clock: fn() -> Moment,
        resolve: Arc<dyn Resolve>,
        origins: Arc<dyn OriginLookup>,
    ) -> Arc<Self> {
        Arc::new(Self::without_threads(recorder, clock, resolve, origins))
    }

    /// The same, with threads of its own that carry the flows.
    #[must_use]
    pub fn with_workers(
        workers: Arc<Workers>,
        bulk: Bulk,
        recorder: Recorder,
        clock: fn() -> Moment,
        resolve: Arc<dyn Resolve>,
        origins: Arc<dyn OriginLookup>,
    ) -> Arc<Self> {
        let gate = Self::without_threads(recorder, clock, resolve, origins);
        Arc::new(Self { workers: Some(workers), pipes: Pipes::of(bulk), ..gate })
    }

    fn without_threads(
        recorder: Recorder,
        clock: fn() -> Moment,
        resolve: Arc<dyn Resolve>,
        origins: Arc<dyn OriginLookup>,
    ) -> Self {
        Self {
            recorder,
            clock,
            resolve,
            origins,
            pipes: Pipes::new(),
            workers: None,
            flows: Arc::default(),
            inspector: OnceLock::new(),
            approvals: OnceLock::new(),
            spend: OnceLock::new(),
        }
    }

    /// Has `inspector` serve the flows of rules that inspect; the first that is given. Without one they are
    /// reset.
    pub fn inspect_with(&self, inspector: Inspector) {
        // Somebody else's was first.
        let _ = self.inspector.set(Arc::new(inspector));
    }

    /// Has tunnels that somebody must approve wait for `approvals`; the first that are given. Without, they are
    /// denied at once.
    pub fn ask_people(&self, approvals: Arc<dyn Approvals>) {
        // Somebody else's were first.
        let _ = self.approvals.set(approvals);
    }

    pub(super) fn approvals(&self) -> Option<&Arc<dyn Approvals>> {
        self.approvals.get()
    }

    /// Has `spend` count what flows use up; the first that is given. Without one, nothing is bounded.
    pub fn spend_by(&self, spend: Arc<dyn Spend>) {
        // Somebody else's was first.
        let _ = self.spend.set(spend);
    }

    /// What pays for a flow by `permit`.
    pub(super) fn purse(&self, agent: &Agent, permit: &Permit) -> Purse {
        Purse::of(agent, permit, self.spend.get().cloned(), self.recorder.clone())
    }

    pub(super) fn inspector(&self) -> Option<Arc<Inspector>> {
        self.inspector.get().cloned()
    }

    /// Cuts the live flows that the policy of `agent` no longer allows. To be called after
    /// [`Agent::replace_policy`]. Grants that have expired cut nothing.
    pub fn rejudge(&self, agent: &Agent, now: Moment) {
        for (permit, denial) in self.flows.cut_denied(agent, now) {
            let protocol = Spoken::Of(permit.protocol());
            let is_denied_by_rule = denial.reason == Reason::DeniedByRule;
            let denial = if is_denied_by_rule { denial } else { Denial::because(Reason::RuleRemoved) };
            self.recorder.record(Event {
                destination: Some(permit.destination().clone()),
                address: permit.address(),
                port: Some(permit.port()),
                detail: Some("live flow cut: its policy was replaced".to_owned()),
                ..Event::denied(agent.name(), Judged::ServerName, protocol, &denial)
            });
        }
    }

    /// Where the socket of `agent` that is bound to `peer` wanted to go.
    pub(super) fn original(
        &self,
        agent: AgentId,
        transport: Transport,
        peer: SocketAddr,
    ) -> Option<SocketAddr> {
        let peer = canonical(peer);
        let OriginalDestination(original) = self.origins.origin(agent, transport, peer)?.original?;
        Some(canonical(original))
    }

    /// What pays for a flow by `permit` that begins, with so many octets. To be asked before anything is
    /// dialled.
    ///
    /// # Errors
    /// The budgets of the agent or the rule cannot pay.
    pub(super) fn begin(&self, agent: &Agent, permit: &Permit, octets: usize) -> Result<Purse, Denial> {
        let purse = self.purse(agent, permit);
        purse.begin(octets).map(|()| purse)
    }

    /// Enters a permitted flow, which `purse` pays for, into the list of live flows.
    ///
    /// # Errors
    /// The policy was replaced since the permit was given, by one that denies the flow.
    pub(super) fn admit(&self, agent: &Agent, permit: &Permit, purse: Purse) -> Result<LiveFlow, Denial> {
        // In this order, a policy that is replaced meanwhile is seen here or by `rejudge`.
        let flow = self.flows.enter(agent.id(), permit, purse);
        still_allowed(agent, permit, (self.clock)())?;
        Ok(flow)
    }
}
