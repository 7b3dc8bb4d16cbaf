//! The agents that an earlier daemon left fenced.

use super::{
    Daemon,
    agents::{Home, Prepared},
    listeners,
    listeners::Bound,
    memory::{Birth, Remembered},
    own::Given,
    terms,
};
use crate::{
    control::protocol::Boundary,
    datapath::{self, Cell, Cgroup, Fence, adopt},
    policy::{Agent, AgentId, AgentName, Mode, Moment, Workload},
};
use anyhow::Context;
use std::sync::Arc;

impl Daemon {
    /// Serves again the agents that an earlier daemon left fenced. Together: their flows are open,
    /// and the table is replaced whole.
    pub(super) fn take_over(&self) -> anyhow::Result<()> {
        let mut recognised: Vec<Prepared> = Vec::new();
        let remembered = self.memory().read_all();
        self.remove_strays(&remembered);
        for remembered in remembered {
            let (id, cgroup_id, name) =
                (AgentId(remembered.id), remembered.cgroup_id, remembered.name.clone());
            match self.recognise(remembered) {
                Ok(agent) => recognised.push(agent),
                Err(error) => {
                    tracing::error!(agent = %name, "stays denied: {error:#}");
                    // The table follows, for all of them together.
                    self.fence.forget(id, cgroup_id);
                }
            }
        }
        self.fence.apply_table().context("failed to apply the nft table")?;
        let cells: Vec<u32> =
            recognised.iter().filter_map(|prepared| Some(prepared.home.cell.as_ref()?.number())).collect();
        Cell::sweep(&self.cells_folder(), &self.options.instance, &cells);
        let known: Vec<AgentId> = recognised.iter().map(|prepared| prepared.agent.id()).collect();
        self.fence.budgets().retain(&known);
        for prepared in recognised {
            let Prepared { agent, home, .. } = &prepared;
            let (id, cgroup_id, name) = (agent.id(), home.cgroup.id(), agent.name().clone());
            // Before the maps say that the policy is another: open flows outlive a daemon, but not a policy
            // that denies them.
            let cut = self.fence.cut_named(agent);
            let share = home.cell.as_ref().map_or(Ok(()), |_| self.fence.apply_share(id));
            match share.and_then(|()| self.fence.open(agent, home.site())) {
                Ok(()) => {
                    let running = self.serve_agent(prepared);
                    self.tell_cut(&running, cut);
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

    /// Removes the cgroups that an earlier daemon made and did not live to remember. One in which something
    /// lives stays, denied.
    fn remove_strays(&self, remembered: &[Remembered]) {
        let is_remembered = |cgroup: &Cgroup| remembered.iter().any(|agent| agent.cgroup == cgroup.path());
        for stray in self.proof.agents().filter(|cgroup| !is_remembered(cgroup) && !cgroup.is_populated()) {
            match stray.remove() {
                Ok(()) => tracing::info!(cgroup = %stray.path().display(), "removed: it is of no agent"),
                Err(error) => tracing::warn!(%error, "a cgroup of no agent stays"),
            }
        }
    }

    fn recognise(&self, remembered: Remembered) -> anyhow::Result<Prepared> {
        let id = AgentId(remembered.id);
        if remembered.boundary == Boundary::Adopted {
            // Whatever else fails: it is to be denied by programs of ours.
            self.attach_again(&remembered)?;
        }
        if !remembered.cgroup.is_dir() {
            self.memory().forget(id);
            anyhow::bail!("its cgroup is gone");
        }
        let name = AgentName::parse(&remembered.name)?;
        let workload = match remembered.workload.clone() {
            Some(workload) => workload.into_workload()?,
            None => Workload::named(name.clone()),
        };
        let Given { policy, own: own_policy } = self.give_again(&workload, remembered.own_policy.clone())?;
        let mode = if remembered.observe { Mode::Observe } else { Mode::Enforce };
        // Of an older file nobody knows, but that nobody could start it otherwise than its policy said.
        let makes_frames = remembered.makes_frames.unwrap_or(!policy.capabilities().is_empty());
        let birth = Birth { workload, born: remembered.born.map(Moment), mode, makes_frames };
        let policy = birth.obeyed(policy);
        let agent = Arc::new(Agent::new(id, name, policy));
        for loan in remembered.loans.iter().cloned() {
            match loan.into_loan() {
                Ok(loan) => drop(agent.lend(loan)?),
                Err(error) => tracing::error!(agent = %agent.name(), "grant is not kept: {error:#}"),
            }
        }
        Fence::holds(&agent.whole_policy())?;
        agent.quarantine(self.leaks.is_quarantined(agent.name()));
        agent.live(terms::occasion(birth.born), datapath::now());
        let policy = agent.policy();
        let now = datapath::now();
        let mut grants = self.fence.remembered_grants(id);
        // The policy may be another than the one that earned them.
        grants.retain(|grant| grant.expires > now && policy.opens(grant));
        agent.remember(&grants, now)?;
        let cell = self.cell_of(&remembered)?;
        let ports = listeners::recall(remembered.listeners);
        let bound = match (&cell, adopt::held_in(&self.network_of(id))) {
            (Some(cell), _) => Bound::inside_again(cell, ports)?,
            (None, Some(network)) => Bound::again_in(&network, ports)?,
            (None, None) => Bound::again(ports)?,
        };
        let cgroup = Cgroup::open(remembered.cgroup)?;
        let home = Home::new(cgroup, remembered.boundary, cell, bound.ports, &birth);
        self.fence.announce(&agent, home.site())?;
        Ok(Prepared { agent, home, bound, own_policy, birth })
    }

    /// The cell of an agent, with the program of this daemon on its link.
    fn cell_of(&self, remembered: &Remembered) -> anyhow::Result<Option<Cell>> {
        let Some(number) = remembered.cell else { return Ok(None) };
        let cell = Cell::find(&self.cells_folder(), &self.options.instance, number)?;
        self.fence.attach(&cell)?;
        Ok(Some(cell))
    }
}
