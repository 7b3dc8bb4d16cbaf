//! How much may leave, and how often.

use std::time::Duration;

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
}
