//! Who reads the server names of flows, told.

use super::fence::Fence;
use crate::{
    audit::Path,
    policy::{Agent, Grant},
};
use egress_common::Gate;

impl Fence {
    /// Who reads the server name of a flow of `agent` by `grant`, if it starts now; None where nobody does.
    #[must_use]
    pub fn reader(&self, agent: &Agent, grant: &Grant) -> Option<Path> {
        let policy = agent.policy();
        let flags = self.tables().flags(agent.id());
        match self.ways(agent.id(), &policy, flags).of(grant) {
            Gate::Direct => None,
            Gate::Proxy => Some(Path::Proxy),
            Gate::Kernel => Some(Path::Kernel),
        }
    }
}
