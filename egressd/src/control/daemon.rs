//! What the control server asks of the daemon.

use super::protocol::{
    AdoptAgent, AdoptedAgent, AgentBudgets, AgentLeaks, AgentStatus, AllowRequest, ApprovalRequest,
    ApproveLeaks, BudgetsRequest, Decide, Decided, ExplainRequest, Explanation, GrantsRequest, HumanGrant,
    LeaksRequest, Metric, PastRevision, Refusal, ReloadSummary, RevokeRequest, Rollback, StartAgent,
    StartedAgent, Status,
};
use crate::{audit::Feed, policy::Operator};
use std::{future::Future, pin::Pin, sync::Arc};

/// Answers the requests of operators. Implemented by the composition root, and by tests.
///
/// Methods that return a future may be dropped half way, when the asker hangs up; what must not
/// be left half done belongs in a task of its own.
pub trait Daemon: Send + Sync + 'static {
    fn status(&self) -> Status;

    fn agents(&self) -> Vec<AgentStatus>;

    fn start_agent(&self, request: StartAgent) -> BoxFuture<'_, Result<StartedAgent, Refusal>>;

    /// Ends the agent with that id: its processes, its grants and its cgroup.
    fn stop_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Fences a cgroup that something else made, or leaves it as it was.
    fn adopt_agent(&self, request: AdoptAgent) -> BoxFuture<'_, Result<AdoptedAgent, Refusal>>;

    /// Takes the fence away from an adopted agent; its processes run on.
    fn release_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Replaces every policy, or none, on the word of `operator`.
    fn reload(&self, operator: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>>;

    /// The revisions that were seen in the repository of policies, newest first.
    fn history(&self) -> Result<Vec<PastRevision>, Refusal>;

    /// Puts an older revision in force; newer ones wait.
    fn roll_back(
        &self,
        operator: Operator,
        request: Rollback,
    ) -> BoxFuture<'_, Result<ReloadSummary, Refusal>>;

    /// Puts the newest revision in force, and those to come.
    fn follow(&self, operator: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>>;

    fn explain(&self, request: ExplainRequest) -> Result<Explanation, Refusal>;

    /// What agents and rules may use up, and have.
    fn budgets(&self, request: BudgetsRequest) -> Result<Vec<AgentBudgets>, Refusal>;

    /// What agents let out through names.
    fn leaks(&self, request: LeaksRequest) -> Result<Vec<AgentLeaks>, Refusal>;

    /// Lifts what flags did to an agent.
    fn approve_leaks(&self, request: ApproveLeaks) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Allows a destination for a time, on the word of `operator`.
    fn allow(&self, operator: Operator, request: AllowRequest) -> BoxFuture<'_, Result<HumanGrant, Refusal>>;

    /// What was allowed for a time, and is still.
    fn grants(&self, request: GrantsRequest) -> Result<Vec<HumanGrant>, Refusal>;

    /// Takes back what was allowed for a time, and cuts its flows.
    fn revoke(
        &self,
        operator: Operator,
        request: RevokeRequest,
    ) -> BoxFuture<'_, Result<Vec<HumanGrant>, Refusal>>;

    /// What waits for people.
    fn approvals(&self) -> Vec<ApprovalRequest>;

    /// Decides about a request, on the word of `operator`.
    fn decide(&self, operator: Operator, decide: Decide) -> BoxFuture<'_, Result<Decided, Refusal>>;

    /// The figures of the daemon.
    fn metrics(&self) -> Vec<Metric>;

    fn feed(&self) -> Arc<Feed>;
}

/// A future on the heap, so that [`Daemon`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
