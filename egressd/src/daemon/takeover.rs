//! The agents that an earlier daemon left fenced.

use super::{Daemon, agents::Prepared, listeners, listeners::Bound, memory::Remembered};
use crate::{
    datapath::{self, Cgroup, Fence},
    policy::{Agent, AgentId, AgentName},
};
use anyhow::Context;
use std::sync::Arc;

impl Daemon {
    /// Serves again the agents that an earlier daemon left fenced. Together: their flows are open,
    /// and the table is replaced whole.
    pub(super) fn take_over(&self) -> anyhow::Result<()> {
        let mut recognised: Vec<Prepared> = Vec::new();
        for remembered in self.memory().read_all() {
            let (id, cgroup_id, name) =
                (AgentId(remembered.id), remembered.cgroup_id, remembered.name.clone());
            match self.recognise(remembered) {
                Ok(agent) => recognised.push(agent),
                Err(error) => {
                    tracing::error!(agent = %name, "stays denied: {error:#}");
                    self.deny_all(id, cgroup_id);
                }
            }
        }
        self.fence.apply_table().context("failed to apply the nft table")?;
        for prepared in recognised {
            let Prepared { agent, cgroup, bound, .. } = &prepared;
            let (id, cgroup_id, name) = (agent.id(), cgroup.id(), agent.name().clone());
            match self.fence.open(agent, cgroup, bound.ports) {
                Ok(()) => {
                    self.serve_agent(prepared);
                    tracing::info!(agent = %name, "taken over");
                }
                Err(error) => {
                    tracing::error!(agent = %name, "stays denied: {error:#}");
                    self.deny_all(id, cgroup_id);
                }
            }
        }
        Ok(())
    }

    fn recognise(&self, remembered: Remembered) -> anyhow::Result<Prepared> {
        let id = AgentId(remembered.id);
        if !remembered.cgroup.is_dir() {
            self.memory().forget(id);
            anyhow::bail!("its cgroup is gone");
        }
        let name = AgentName::parse(&remembered.name)?;
        let policy = self.policy_for(&name, remembered.own_policy.as_ref())?;
        Fence::holds(&policy)?;
        let agent = Arc::new(Agent::new(id, name, Arc::clone(&policy)));
        let now = datapath::now();
        let mut grants = self.fence.remembered_grants(id);
        // The policy may be another than the one that earned them.
        grants.retain(|grant| grant.expires > now && policy.opens(grant));
        agent.remember(&grants, now)?;
        let bound = Bound::again(listeners::recall(remembered.listeners))?;
        let cgroup = Cgroup::open(remembered.cgroup.clone())?;
        self.fence.announce(&agent, &cgroup, bound.ports)?;
        let Remembered { boundary, own_policy, .. } = remembered;
        Ok(Prepared { agent, cgroup, boundary, bound, own_policy })
    }
}
