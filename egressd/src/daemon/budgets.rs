//! What agents may use up: told.

use super::{Daemon, agents::Running};
use crate::{
    audit::{Alert, Sign},
    control::protocol::{AgentBudgets, BudgetState, Used},
    datapath::{BudgetLevel, Level, Passed, Spent},
    policy::RuleId,
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

    fn budgets_of(&self, running: &Running) -> AgentBudgets {
        AgentBudgets {
            agent: running.agent.name().to_string(),
            budgets: self.budget_states(running).into_iter().map(|(_, state)| state).collect(),
        }
    }

    /// The budgets of an agent, its own first, and those of its rules.
    pub(super) fn budget_states(&self, running: &Running) -> Vec<(Option<RuleId>, BudgetState)> {
        let levels = self.fence.budgets().levels(running.agent.id());
        levels.into_iter().map(|level| (level.rule, state(running, level))).collect()
    }
}

impl Daemon {
    /// Reports the marks that budgets have passed.
    pub(super) fn tell_budgets(&self) {
        for running in self.agents.all() {
            for passed in self.fence.budgets().take_passed(running.agent.id()) {
                self.recorder.alert(alert(&running, passed));
            }
        }
    }
}

fn alert(running: &Running, Passed { rule, what, mark, level }: Passed) -> Alert {
    let policy = running.agent.whole_policy();
    let rule = rule.and_then(|id| policy.allow().iter().find(|rule| rule.id == id));
    let of =
        rule.map_or_else(|| "of all flows of the agent".to_owned(), |rule| format!("of `{}`", rule.subject));
    let what = match what {
        Spent::Bytes => "bytes",
        Spent::Flows => "connections",
    };
    let evidence = format!("{} of {} {what} {of} are used up", level.used, level.most.unwrap_or(level.used));
    let (agent, rule) = (running.agent.name().clone(), rule.map(|rule| rule.source.clone()));
    tracing::info!(%agent, mark = mark.as_str(), "{evidence}");
    Alert { agent, sign: Sign::Budget(mark), zone: None, rule, evidence }
}

fn state(running: &Running, level: BudgetLevel) -> BudgetState {
    let policy = running.agent.whole_policy();
    let rule = level.rule.and_then(|id| policy.allow().iter().find(|rule| rule.id == id));
    let budget = rule.map_or_else(|| policy.budget(), |rule| rule.budget);
    BudgetState {
        rule: rule.map(|rule| rule.source.to_string()),
        subject: rule.map(|rule| rule.subject.to_string()),
        bytes: used(level.bytes),
        connections: used(level.flows),
        rate: budget.rate.map(|rate| rate.to_string()),
        ends_in: level.left.map(|left| left.as_secs()),
        refuses: level.refuses.map(|reason| reason.as_str().to_owned()),
    }
}

fn used(Level { used, most }: Level) -> Used {
    Used::of(used, most)
}
