//! What agents may use up: told.

use super::{Daemon, agents::Running};
use crate::{
    control::protocol::{AgentBudgets, BudgetState, Used},
    datapath::{BudgetLevel, Level},
};

impl Daemon {
    /// The budgets of the agent of that name, or of all.
    pub(super) fn budgets(&self, name: Option<&str>) -> Vec<AgentBudgets> {
        let is_meant = |running: &&std::sync::Arc<Running>| {
            name.is_none_or(|name| running.agent.name().as_str() == name)
        };
        let all = self.agents.all();
        all.iter().filter(is_meant).map(|running| self.budgets_of(running)).collect()
    }

    pub(super) fn budgets_of(&self, running: &Running) -> AgentBudgets {
        let levels = self.fence.budgets().levels(running.agent.id());
        AgentBudgets {
            agent: running.agent.name().to_string(),
            budgets: levels.into_iter().map(|level| state(running, level)).collect(),
        }
    }
}

fn state(running: &Running, level: BudgetLevel) -> BudgetState {
    let policy = running.agent.given_policy();
    let rule = level.rule.and_then(|id| policy.allow().iter().find(|rule| rule.id == id));
    let budget = rule.map_or_else(|| policy.budget(), |rule| rule.budget);
    BudgetState {
        rule: rule.map(|rule| rule.source.to_string()),
        subject: rule.map(|rule| rule.subject.to_string()),
        bytes: used(level.bytes),
        connections: used(level.flows),
        rate: budget.rate.map(|rate| rate.to_string()),
        ends_in: level.left.map(|left| left.as_secs()),
    }
}

fn used(Level { used, most }: Level) -> Used {
    Used::of(used, most)
}
