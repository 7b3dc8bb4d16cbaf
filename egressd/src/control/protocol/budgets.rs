//! What is asked and told of what agents may use up.

use serde::{Deserialize, Serialize};

/// The query of `GET /v1/budgets`. The answer is a list of [`AgentBudgets`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetsRequest {
    /// None: every agent that runs.
    pub agent: Option<String>,
}

/// The budgets of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentBudgets {
    pub agent: String,
    /// The agent's own first.
    pub budgets: Vec<BudgetState>,
}

/// One budget: of an agent, or of one of its rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetState {
    /// `file:line`; None of the agent's own.
    pub rule: Option<String>,
    /// The host or network that the rule is about.
    pub subject: Option<String>,
    /// Octets of payload that left.
    pub bytes: Used,
    /// Flows that started.
    pub connections: Used,
    /// As in `10/s`.
    pub rate: Option<String>,
    /// Seconds to the end of the rule.
    pub ends_in: Option<u64>,
    /// The word of the reason for which no flow could start at this moment.
    #[serde(default)]
    pub refuses: Option<String>,
}

/// How much of a bound is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub used: u64,
    /// None: without bound.
    pub most: Option<u64>,
    pub left: Option<u64>,
}

impl Used {
    #[must_use]
    pub fn of(used: u64, most: Option<u64>) -> Self {
        Self { used, most, left: most.map(|most| most.saturating_sub(used)) }
    }
}
