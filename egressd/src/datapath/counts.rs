//! What the programs count, for those who ask.

use super::{events, fence::Fence};
use crate::policy::{AgentId, Reason};

impl Fence {
    /// How many denials of `agent` found the kernel's ring buffer full.
    #[must_use]
    pub fn lost_events(&self, agent: AgentId) -> u64 {
        self.tables().lost_events(agent)
    }

    /// How often the programs denied `agent`, by reason: also what left no record, because the ring buffer was full.
    #[must_use]
    pub fn denials(&self, agent: AgentId) -> Vec<(Reason, u64)> {
        let denials = self.tables().denials(agent);
        denials.into_iter().map(|(denied, count)| (events::reason(denied), count)).collect()
    }
}
