//! How much may leave, and how often.

use super::{
    agent::AgentId,
    decision::{Denial, Permit},
};
use std::{fmt, time::Duration};

/// How much may leave, and how often, in the life of an agent. By default, without bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Budget {
    /// Octets of TCP and UDP payload that the agent sends; what the kernel sends again counts again.
    pub max_bytes: Option<u64>,
    /// Flows that start.
    pub max_connections: Option<u64>,
    pub rate: Option<Rate>,
}

/// How many flows may start in how long. Never 0 of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    pub flows: u32,
    pub per: Duration,
}

impl Budget {
    /// Whether there is a bound at all.
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self != Self::default()
    }

    /// The same, with what `other` bounds where this one does not.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            max_bytes: self.max_bytes.or(other.max_bytes),
            max_connections: self.max_connections.or(other.max_connections),
            rate: self.rate.or(other.rate),
        }
    }
}

impl Rate {
    /// Between two flows that are on time.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.per / self.flows.max(1)
    }
}

/// As policy files have it: `10/s`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "min",
            3600 => "h",
            seconds => return write!(f, "{}/{seconds}s", self.flows),
        };
        write!(f, "{}/{unit}", self.flows)
    }
}

/// How much of a budget is used up, where somebody should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BudgetMark {
    Half,
    Most,
    All,
}

impl BudgetMark {
    pub const ALL: [Self; 3] = [Self::Half, Self::Most, Self::All];

    #[must_use]
    pub fn percent(self) -> u64 {
        match self {
            Self::Half => 50,
            Self::Most => 80,
            Self::All => 100,
        }
    }

    /// The word of the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Half => "budget-half",
            Self::Most => "budget-most",
            Self::All => "budget-all",
        }
    }

    /// Its number, as in `B80`.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Half => "B50",
            Self::Most => "B80",
            Self::All => "B100",
        }
    }

    /// One sentence for people and models.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Half => "Half of a budget is used up.",
            Self::Most => "80 percent of a budget are used up.",
            Self::All => "A budget is used up: what would use more of it is denied.",
        }
    }
}

/// What a flow is about to use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of payload.
    pub octets: u64,
    /// That start.
    pub flows: u64,
}

/// Takes what flows use up, wherever they pass.
pub trait Spend: Send + Sync {
    /// Takes `usage` of a flow of `agent`, from the budgets of the agent and of the rule of `permit`: from both,
    /// or from neither.
    ///
    /// # Errors
    /// One of them has not so much, or the term of the rule is over.
    fn spend(&self, agent: AgentId, permit: &Permit, usage: Usage) -> Result<(), Denial>;

    /// Gives back what [`Self::spend`] took, and what did not happen.
    fn give_back(&self, agent: AgentId, permit: &Permit, usage: Usage);
}
