//! Agents that something else started: fenced where they are, and released again.

mod findings;
mod watch;

use super::{
    Daemon,
    agents::{Home, Prepared, Running},
    listeners::Bound,
    memory::{Birth, Remembered},
    own::{Given, OwnPolicy},
    terms,
};
use crate::{
    control::protocol::{AdoptAgent, AdoptedAgent, Boundary, Consent, Found, Refusal, RefusalKind},
    datapath::{
        self, Cgroup, Fence,
        adopt::{self, Frozen, Inspection, What},
    },
    policy::{Agent, AgentId, AgentName, Mode, Workload},
};
use anyhow::Context;
use findings::{found, must_end, not_covered, one_network, refuse_unless, unbelieved};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::block_in_place;

impl Daemon {
    /// Fences the cgroup that `request` names, with the processes in it, or leaves it as it was.
    pub(super) async fn adopt_now(&self, request: AdoptAgent) -> Result<AdoptedAgent, Refusal> {
        let _turn = self.changes.lock().await;
        self.proof.admits()?;
        let cgroup = adopt::find(&self.hierarchy, &request.cgroup).map_err(invalid)?;
        self.stands_apart(&cgroup)?;
        let name = match &request.name {
            Some(name) => AgentName::parse(name).map_err(invalid)?,
            None => Workload::usual_name(Some(cgroup.path())),
        };
        let workload = Workload {
            name: name.clone(),
            uid: None,
            cgroup: self.hierarchy.path_of(&cgroup),
            labels: request.labels.clone(),
        };
        let given = self.give(&workload, request.policy.clone()).map_err(invalid)?;
        Fence::holds(&given.policy).map_err(invalid)?;
        self.has_room()?;
        let name = self.free_name(name);
        block_in_place(|| self.adopt(name, given, workload, cgroup, request))
    }

    /// Lets an adopted agent go: its processes run on, and nothing judges them.
    pub(super) async fn release_now(&self, id: AgentId) -> Result<(), Refusal> {
        let _turn = self.changes.lock().await;
        let running = self.agents.get(id);
        let running = running.ok_or_else(|| Refusal::new(RefusalKind::Unknown, format!("no agent {id}")))?;
        if running.home.boundary != Boundary::Adopted {
            let name = running.agent.name();
            return Err(invalid(format!("`{name}` was started as an agent: only its end releases it")));
        }
        self.put_down(&running).await.map_err(failed)?;
        tracing::info!(agent = %running.agent.name(), "released");
        Ok(())
    }

    /// What was adopted is released, not stopped: its processes are not ours to end.
    pub(super) fn was_started(&self, id: AgentId) -> Result<(), Refusal> {
        match self.agents.get(id) {
            Some(running) if running.home.boundary == Boundary::Adopted => {
                Err(invalid(format!("`{}` was adopted: release it", running.agent.name())))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends an adopted agent whose cgroup is gone. One that is empty stays: whoever comes into it is
    /// meant.
    pub(super) async fn reap_adopted(&self, running: &Arc<Running>) {
        if is_there(&running.home.cgroup) {
            return;
        }
        match self.put_down(running).await {
            Ok(()) => tracing::info!(agent = %running.agent.name(), "ended: its cgroup is gone"),
            Err(error) => tracing::warn!(agent = %running.agent.name(), "failed to end: {error:#}"),
        }
    }

    /// Puts the programs of this daemon on the cgroup of an agent that an earlier one adopted.
    pub(super) fn attach_again(&self, remembered: &Remembered) -> anyhow::Result<()> {
        let id = AgentId(remembered.id);
        let cgroup = Cgroup::open(remembered.cgroup.clone()).ok();
        let Some(cgroup) = cgroup.filter(|cgroup| cgroup.id() == remembered.cgroup_id) else {
            self.memory().forget(id);
            self.detach(id)?;
            anyhow::bail!("its cgroup is gone");
        };
        Ok(adopt::attach(&self.pins, &self.security_hooks, &cgroup, id)?)
    }

    /// Undoes what a daemon had begun that was killed in the middle of an adoption.
    pub(super) fn finish_adoption(&self) -> anyhow::Result<()> {
        let path = self.adoption();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text.with_context(|| format!("failed to read `{}`", path.display()))?,
        };
        if let Ok(begun) = serde_json::from_slice::<Begun>(&text) {
            let id = AgentId(begun.id);
            if !self.memory().read_all().iter().any(|agent| agent.id == begun.id) {
                self.detach(id).context("failed to detach")?;
            }
            if let Ok(cgroup) = Cgroup::open(begun.cgroup)
                && !begun.was_frozen
            {
                Frozen::thaw(&cgroup).context("failed to thaw")?;
            }
        }
        Ok(fs::remove_file(&path)?)
    }

    /// Takes the programs from an adopted agent, and lets go of its network namespace.
    pub(super) fn detach(&self, id: AgentId) -> io::Result<()> {
        adopt::release(&self.network_of(id));
        adopt::detach(&self.pins, id)
    }

    /// Where the network namespace of an adopted agent is held, if it is not ours.
    pub(super) fn network_of(&self, id: AgentId) -> PathBuf {
        self.options.config.run_dir.join("adopted").join(id.to_string())
    }

    /// No agent is in another one: which policy were to hold?
    fn stands_apart(&self, cgroup: &Cgroup) -> Result<(), Refusal> {
        for running in self.agents.all() {
            let (ours, other) = (cgroup.path(), running.home.cgroup.path());
            if ours.starts_with(other) || other.starts_with(ours) {
                let (ours, other, name) = (ours.display(), other.display(), running.agent.name());
                return Err(invalid(format!("`{ours}` and `{other}`, of agent `{name}`, are not apart")));
            }
        }
        Ok(())
    }

    fn adopt(
        &self,
        name: AgentName,
        given: Given,
        workload: Workload,
        cgroup: Cgroup,
        request: AdoptAgent,
    ) -> Result<AdoptedAgent, Refusal> {
        let Given { policy, own } = given;
        let id = self.memory().next_id().map_err(failed)?;
        self.begin(id, &cgroup).map_err(failed)?;
        let agent = Arc::new(Agent::new(id, name, policy));
        agent.quarantine(self.leaks.is_quarantined(agent.name()));
        let birth = Birth { workload, born: Some(datapath::now()), mode: Mode::Enforce, makes_frames: false };
        agent.live(terms::occasion(birth.born), datapath::now());
        let frozen = Frozen::freeze(&cgroup).map_err(|error| {
            self.forget_adoption();
            failed(
                anyhow::Error::from(error).context(format!("failed to freeze `{}`", cgroup.path().display())),
            )
        })?;
        let adopted = self.adopt_frozen(&agent, &cgroup, request, birth, own);
        if adopted.is_err() {
            // First what lets it out, then what judged it: it stands still meanwhile.
            self.deny_all(id, cgroup.id());
            self.memory().forget(id);
            if let Err(error) = self.detach(id) {
                tracing::error!(%id, %error, "failed to detach: it stays denied");
            }
        }
        drop(frozen);
        self.forget_adoption();
        adopted
    }

    fn adopt_frozen(
        &self,
        agent: &Arc<Agent>,
        cgroup: &Cgroup,
        request: AdoptAgent,
        birth: Birth,
        own_policy: Option<OwnPolicy>,
    ) -> Result<AdoptedAgent, Refusal> {
        // From here on its sockets are denied everything: what is looked at below cannot act.
        adopt::attach(&self.pins, &self.security_hooks, cgroup, agent.id()).map_err(failed)?;
        let (dealt_with, inspection) = self.clear(cgroup, &request.consents)?;
        let network = one_network(&inspection)?;
        let mut not_covered = not_covered(&inspection, network.as_deref());
        not_covered.extend(self.authorities(&agent.policy()).map(|path| unbelieved(&path)));
        let bound = match network {
            Some(network) => adopt::hold(&self.network_of(agent.id()), &network)
                .context("failed to hold its network namespace")
                .and_then(|network| Bound::fresh_in(&network)),
            None => Bound::fresh(false),
        };
        let bound = bound.map_err(failed)?;
        let home = Home::new(cgroup.clone(), Boundary::Adopted, None, bound.ports, &birth);
        let remembered = Remembered::of(agent, &home, own_policy.clone(), &birth);
        self.memory().write(&remembered).map_err(failed)?;
        self.fence.admit(agent, home.site()).map_err(failed)?;
        let prepared = Prepared { agent: Arc::clone(agent), home, bound, own_policy, birth };
        let running = self.serve_agent(prepared);
        Ok(AdoptedAgent {
            id: running.agent.id().0,
            name: running.agent.name().to_string(),
            cgroup: running.home.cgroup.path().to_owned(),
            dealt_with,
            not_covered,
        })
    }

    /// Ends or cuts what has leave to be, until nothing is left that the fence would not hold.
    fn clear(&self, cgroup: &Cgroup, consents: &[Consent]) -> Result<(Vec<Found>, Inspection), Refusal> {
        let mut dealt_with = Vec::new();
        for _ in 0..ROUNDS {
            let inspection = adopt::inspect(cgroup, self.hierarchy.mount()).map_err(failed)?;
            let found: Vec<Found> = inspection.findings.iter().map(found).collect();
            refuse_unless(cgroup, consents, &found)?;
            // Nothing is killed for an adoption that is refused after all.
            one_network(&inspection)?;
            if !inspection.findings.iter().any(must_end) {
                return Ok((dealt_with, inspection));
            }
            dealt_with.extend(found.into_iter().filter(|found| found.consent != Consent::AllowPrivileges));
            kill_those_with_ways_around(cgroup, &inspection).map_err(failed)?;
            for (process, error) in inspection.cut_flows() {
                tracing::warn!(pid = process.pid, %error, "failed to cut a flow");
            }
        }
        Err(failed(anyhow::anyhow!("what was killed in `{}` is there still", cgroup.path().display())))
    }

    fn begin(&self, id: AgentId, cgroup: &Cgroup) -> anyhow::Result<()> {
        let was_frozen = Frozen::is_frozen(cgroup).context("the cgroup cannot be frozen")?;
        let begun = Begun { id: id.0, cgroup: cgroup.path().to_owned(), was_frozen };
        let path = self.adoption();
        fs::write(&path, serde_json::to_vec(&begun)?)
            .with_context(|| format!("failed to write `{}`", path.display()))
    }

    fn forget_adoption(&self) {
        if let Err(error) = fs::remove_file(self.adoption()) {
            tracing::warn!(%error, "failed to forget an adoption that is done");
        }
    }

    fn adoption(&self) -> PathBuf {
        self.options.config.run_dir.join("adopting")
    }
}

/// What the next daemon must know should this one be killed in the middle of an adoption.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    id: u32,
    cgroup: PathBuf,
    was_frozen: bool,
}

/// How often it is looked whether what was killed is gone: nothing that stands still makes anew.
const ROUNDS: usize = 3;

/// How long killed processes may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// Whether its folder is there, and no other one in its place.
fn is_there(cgroup: &Cgroup) -> bool {
    Cgroup::open(cgroup.path().to_owned()).is_ok_and(|found| found.id() == cgroup.id())
}

fn kill_those_with_ways_around(cgroup: &Cgroup, inspection: &Inspection) -> anyhow::Result<()> {
    let is_way = |what: &What| matches!(what, What::Foreign(_) | What::WayAround(_));
    let ways = inspection.findings.iter().filter(|finding| is_way(&finding.what));
    let doomed: Vec<_> = ways.map(|finding| finding.process.clone()).collect();
    for process in &doomed {
        adopt::kill(process).with_context(|| format!("failed to kill process {}", process.pid))?;
    }
    let deadline = Instant::now() + LAST_BREATH;
    while adopt::members(cgroup)?.iter().any(|process| doomed.contains(process) && !process.is_gone()) {
        anyhow::ensure!(Instant::now() < deadline, "a killed process is there still");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn invalid(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Invalid, error)
}

fn failed(error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("{:#}", error.into()))
}
