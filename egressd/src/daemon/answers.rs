//! What the daemon answers operators.

mod explained;

use super::{Daemon, agents::Running, reload::Cause, source::Source, told::told};
use crate::{
    audit::{Feed, Path},
    control::{
        self, BoxFuture,
        protocol::{
            AdoptAgent, AdoptedAgent, AgentBudgets, AgentLeaks, AgentStatus, AllowRequest, ApprovalRequest,
            ApproveLeaks, Boundary, BudgetsRequest, Decide, Decided, ExplainRequest, Explanation,
            GrantsRequest, HumanGrant, LeaksRequest, LogStatus, Metric, PastRevision, Refusal, RefusalKind,
            ReloadSummary, RevokeRequest, Rollback, ServerNames, StartAgent, StartedAgent, Status,
        },
    },
    datapath,
    policy::{AgentId, HostName, Mode, Operator},
};
use std::sync::{Arc, PoisonError};

/// The daemon, as the control server asks it.
pub struct Answers(pub Arc<Daemon>);

impl control::Daemon for Answers {
    fn status(&self) -> Status {
        self.0.status()
    }

    fn agents(&self) -> Vec<AgentStatus> {
        self.0.agents.all().iter().map(|running| self.0.agent_status(running)).collect()
    }

    fn start_agent(&self, request: StartAgent) -> BoxFuture<'_, Result<StartedAgent, Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move {
            let is_sealed = request.boundary == Boundary::Sealed;
            let started = daemon.start_agent_now(request).await;
            if is_sealed && started.is_ok() {
                daemon.keep_spare_cell();
            }
            started
        }))
    }

    fn stop_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move {
            daemon.was_started(AgentId(id))?;
            daemon.stop(AgentId(id)).await
        }))
    }

    fn adopt_agent(&self, request: AdoptAgent) -> BoxFuture<'_, Result<AdoptedAgent, Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move { daemon.adopt_now(request).await }))
    }

    fn release_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move { daemon.release_now(AgentId(id)).await }))
    }

    fn reload(&self, operator: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        let daemon = Arc::clone(&self.0);
        let cause = Cause::of("reload", operator);
        Box::pin(finish(async move { daemon.replace_policies(cause).await }))
    }

    fn history(&self) -> Result<Vec<PastRevision>, Refusal> {
        self.0.history()
    }

    fn roll_back(
        &self,
        operator: Operator,
        request: Rollback,
    ) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        let daemon = Arc::clone(&self.0);
        let cause = Cause::of("rollback", operator);
        Box::pin(finish(async move { daemon.roll_back(request, cause).await }))
    }

    fn follow(&self, operator: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        let daemon = Arc::clone(&self.0);
        let cause = Cause::of("follow", operator);
        Box::pin(finish(async move { daemon.follow(cause).await }))
    }

    fn explain(&self, request: ExplainRequest) -> Result<Explanation, Refusal> {
        self.0.explain(&request)
    }

    fn budgets(&self, request: BudgetsRequest) -> Result<Vec<AgentBudgets>, Refusal> {
        let found = self.0.budgets(request.agent.as_deref());
        match request.agent {
            Some(agent) if found.is_empty() => {
                Err(Refusal::new(RefusalKind::Unknown, format!("no agent `{agent}`")))
            }
            Some(_) | None => Ok(found),
        }
    }

    fn leaks(&self, request: LeaksRequest) -> Result<Vec<AgentLeaks>, Refusal> {
        let found = self.0.leaks(request.agent.as_deref());
        match request.agent {
            Some(agent) if found.is_empty() => {
                Err(Refusal::new(RefusalKind::Unknown, format!("no agent `{agent}`")))
            }
            Some(_) | None => {
                let now = datapath::now();
                Ok(found.into_iter().map(|(agent, report)| told(&agent, report, now)).collect())
            }
        }
    }

    fn approve_leaks(&self, request: ApproveLeaks) -> BoxFuture<'_, Result<(), Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move {
            let zone = request.zone.as_deref().map(HostName::parse).transpose();
            let zone = zone.map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
            daemon.has_ledger_of(&request.agent, zone.as_ref())?;
            daemon.approve(&request.agent, zone.as_ref()).await
        }))
    }

    fn allow(&self, operator: Operator, request: AllowRequest) -> BoxFuture<'_, Result<HumanGrant, Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move { daemon.allow(operator, request).await }))
    }

    fn grants(&self, request: GrantsRequest) -> Result<Vec<HumanGrant>, Refusal> {
        self.0.grants(&request)
    }

    fn revoke(
        &self,
        operator: Operator,
        request: RevokeRequest,
    ) -> BoxFuture<'_, Result<Vec<HumanGrant>, Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move { daemon.revoke(operator, request).await }))
    }

    fn approvals(&self) -> Vec<ApprovalRequest> {
        self.0.approvals()
    }

    fn decide(&self, operator: Operator, decide: Decide) -> BoxFuture<'_, Result<Decided, Refusal>> {
        let daemon = Arc::clone(&self.0);
        Box::pin(finish(async move { daemon.decide(operator, decide).await }))
    }

    fn metrics(&self) -> Vec<Metric> {
        self.0.metrics()
    }

    fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.0.feed)
    }
}

impl Daemon {
    fn status(&self) -> Status {
        let loaded = self.policies.load();
        let untold: u64 = self.agents.all().iter().map(|running| self.untold_losses(running)).sum();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            instance: self.options.instance.clone(),
            started: self.started,
            checks: self.checks(),
            server_names: Some(self.server_names()),
            agents: self.agents.all().len(),
            observed: self.observed(),
            policies: loaded.files.clone(),
            policies_loaded: loaded.time,
            source: self.source.as_ref().map(Source::status),
            flows: self.feed.totals().into(),
            log: LogStatus::new(
                self.options.config.audit_log.clone(),
                self.feed.next_seq(),
                self.log_health.read(),
            ),
            lost: self.recorder.lost() + untold,
        }
    }

    fn observed(&self) -> Vec<String> {
        let all = self.agents.all();
        let observed = all.iter().filter(|running| running.agent.policy().mode() == Mode::Observe);
        observed.map(|running| running.agent.name().to_string()).collect()
    }

    fn server_names(&self) -> ServerNames {
        let why = self.fence.proxied_because();
        ServerNames { by: if why.is_some() { Path::Proxy } else { Path::Kernel }, why }
    }

    /// Whether there is anything to approve: nobody is to think that a zone with a slip in it was.
    fn has_ledger_of(&self, agent: &str, zone: Option<&HostName>) -> Result<(), Refusal> {
        let Some(zone) = zone else { return Ok(()) };
        let mut reports = self.leaks(Some(agent)).into_iter();
        let is_kept = reports.any(|(_, report)| report.accounts.iter().any(|held| held.zone == *zone));
        let message = || format!("no name below `{zone}` was looked up by an agent `{agent}`");
        if is_kept { Ok(()) } else { Err(Refusal::new(RefusalKind::Unknown, message())) }
    }

    fn agent_status(&self, running: &Running) -> AgentStatus {
        let name = running.agent.name();
        let own = running.own_policy.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = self.policies.load();
        let policy = match &*own {
            Some(text) => text.file.clone(),
            None => {
                let section = loaded.policies.section_for(&running.birth.workload);
                section.map_or_else(|| "none".to_owned(), ToString::to_string)
            }
        };
        AgentStatus {
            id: running.agent.id().0,
            name: name.to_string(),
            started: running.started,
            boundary: running.home.boundary,
            frozen: running.home.cgroup.is_frozen(),
            cgroup: running.home.cgroup.path().to_owned(),
            observed: running.agent.policy().mode() == Mode::Observe,
            policy,
            processes: running.home.cgroup.processes(),
            grants: running.agent.live_grants(datapath::now()).len(),
            flows: self.feed.totals_of(name.as_str()).into(),
        }
    }
}

/// Runs `work` to its end, even if whoever asked for it hangs up.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Refusal::new(RefusalKind::Failed, error)),
    }
}
