//! The agents that run: how each starts, is taken over, changes its policy, and ends.

use super::{
    Daemon, hidden, inspection,
    listeners::Bound,
    local,
    memory::{Birth, Memory, Remembered},
    own::{Given, OwnPolicy},
    terms,
};
use crate::{
    audit::Time,
    control::protocol::{Boundary, Recorded, Refusal, RefusalKind, Seal, StartAgent, StartedAgent},
    datapath::{self, Cell, Cgroup, Fence, Listeners, Names, Site},
    dns,
    policy::{Agent, AgentId, AgentName, Mode, Policy, Workload},
    proxy,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::{JoinSet, block_in_place};

/// Every agent that runs, by number.
#[derive(Debug, Default)]
pub struct Agents {
    running: Mutex<BTreeMap<AgentId, Arc<Running>>>,
}

/// One agent, and what serves it.
#[derive(Debug)]
pub struct Running {
    pub agent: Arc<Agent>,
    pub home: Home,
    pub started: Time,
    pub birth: Birth,
    /// A policy that came with the request to start it; else the daemon's own files.
    pub own_policy: Mutex<Option<OwnPolicy>>,
    /// A process was seen in its cgroup: from then on an empty cgroup is the end.
    lived: AtomicBool,
    /// Sockets from outside that were seen in its cgroup, if it was adopted.
    pub strangers: AtomicUsize,
    /// Events that the kernel lost, as far as the log was told.
    lost_told: AtomicU64,
    /// Aborted when this is dropped.
    _serving: JoinSet<()>,
}

impl Running {
    /// What the next daemon must know of it.
    pub fn remembered(&self) -> Remembered {
        Remembered::of(&self.agent, &self.home, self.own_policy(), &self.birth)
    }

    pub fn own_policy(&self) -> Option<OwnPolicy> {
        self.own_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Agents {
    pub fn all(&self) -> Vec<Arc<Running>> {
        self.lock().values().cloned().collect()
    }

    pub fn get(&self, id: AgentId) -> Option<Arc<Running>> {
        self.lock().get(&id).cloned()
    }

    fn insert(&self, running: Arc<Running>) {
        self.lock().insert(running.agent.id(), running);
    }

    fn remove(&self, id: AgentId) {
        self.lock().remove(&id);
    }

    // Entries are inserted and removed whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names for Agents {
    fn agent(&self, id: AgentId) -> Option<Arc<Agent>> {
        self.get(id).map(|running| Arc::clone(&running.agent))
    }
}

/// Where an agent lives, and which listeners serve it there.
#[derive(Debug)]
pub struct Home {
    pub cgroup: Cgroup,
    pub boundary: Boundary,
    /// Of a sealed agent.
    pub cell: Option<Cell>,
    pub listeners: Listeners,
}

impl Home {
    pub fn new(
        cgroup: Cgroup,
        boundary: Boundary,
        cell: Option<Cell>,
        ports: Listeners,
        birth: &Birth,
    ) -> Self {
        let sealed = if cell.is_some() { Listeners::SEALED } else { 0 };
        // Raw frames leave no agent but by a link whose other end judges them.
        let raw_frames = if cell.is_some() && birth.makes_frames { Listeners::RAW_FRAMES } else { 0 };
        let flags = ports.flags | sealed | raw_frames;
        Self { cgroup, boundary, cell, listeners: Listeners { flags, ..ports } }
    }

    pub fn site(&self) -> Site<'_> {
        let link = self.cell.as_ref().map(Cell::link);
        Site { cgroup: &self.cgroup, link, listeners: self.listeners }
    }
}

/// An agent that the kernel knows, and that is not served yet.
pub struct Prepared {
    pub agent: Arc<Agent>,
    pub home: Home,
    pub bound: Bound,
    pub own_policy: Option<OwnPolicy>,
    pub birth: Birth,
}

/// How long a killed agent may take to be gone: what its processes do in the kernel ends first.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How long the launcher may take from asking for an agent to its first process.
const BIRTH: Duration = Duration::from_secs(60);

impl Daemon {
    /// Starts what `request` asks for, up to a cgroup that is ready for its first process.
    pub(super) async fn start_agent_now(&self, request: StartAgent) -> Result<StartedAgent, Refusal> {
        let _turn = self.changes.lock().await;
        self.proof.admits()?;
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Invalid, error);
        let name = request.name.as_deref().unwrap_or("agent");
        let name = AgentName::parse(name).map_err(|error| invalid(&error))?;
        let workload =
            Workload { name: name.clone(), uid: request.uid, cgroup: None, labels: request.labels.clone() };
        let given = self.give(&workload, request.policy.clone()).map_err(|error| invalid(&error))?;
        let mode = if request.observe { Mode::Observe } else { Mode::Enforce };
        let makes_frames = !given.policy.capabilities().is_empty();
        let birth = Birth { workload, born: Some(datapath::now()), mode, makes_frames };
        let given = Given { policy: birth.obeyed(given.policy), ..given };
        Fence::holds(&given.policy).map_err(|error| invalid(&error))?;
        if request.boundary != Boundary::Sealed && !given.policy.capabilities().is_empty() {
            return Err(invalid(&format!(
                "the policy of `{name}` keeps capabilities, which only a sealed agent may have: \
                 start it with `--mode sealed`"
            )));
        }
        self.has_room()?;
        let name = self.free_name(name);
        let started = block_in_place(|| self.prepare(name, given, birth, request));
        let running = started.map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))?;
        Ok(self.describe(&running))
    }

    pub(super) fn has_room(&self) -> Result<(), Refusal> {
        // The canary is one.
        match self.agents.all().len() + 1 < usize::try_from(egress_common::MAX_AGENTS).unwrap_or(0) {
            true => Ok(()),
            false => Err(Refusal::new(RefusalKind::Busy, "the daemon serves as many agents as it can")),
        }
    }

    /// Everything that an agent needs but a process; nothing of it stays where that fails.
    fn prepare(
        &self,
        name: AgentName,
        given: Given,
        birth: Birth,
        request: StartAgent,
    ) -> anyhow::Result<Arc<Running>> {
        let Given { policy, own: own_policy } = given;
        let id = self.memory().next_id()?;
        let cell = match request.boundary {
            Boundary::Sealed => Some(self.take_cell_for(&policy)?),
            Boundary::Cgroup => None,
            Boundary::Adopted => anyhow::bail!("an agent is started, or it is adopted"),
        };
        let housed = self.house(id, &name, cell.clone(), &birth, request.explicit_proxy);
        let (home, bound) = match housed {
            Ok(housed) => housed,
            Err(error) => {
                cell.iter().for_each(|cell| self.fence.demolish(cell));
                return Err(error);
            }
        };
        let agent = Arc::new(Agent::new(id, name, policy));
        agent.quarantine(self.leaks.is_quarantined(agent.name()));
        agent.live(terms::occasion(birth.born), datapath::now());
        let remembered = Remembered::of(&agent, &home, own_policy.clone(), &birth);
        let prepared = Prepared { agent, home, bound, own_policy, birth };
        let admitted = self
            .memory()
            .write(&remembered)
            .and_then(|()| Ok(self.fence.admit(&prepared.agent, prepared.home.site())?));
        match admitted {
            Ok(()) => Ok(self.serve_agent(prepared)),
            Err(error) => {
                self.deny_all(id, prepared.home.cgroup.id());
                self.memory().forget(id);
                let _ = prepared.home.cgroup.remove();
                prepared.home.cell.iter().for_each(|cell| self.fence.demolish(cell));
                Err(error)
            }
        }
    }

    /// A cgroup for an agent, and its listeners: in its cell, if it has one.
    fn house(
        &self,
        id: AgentId,
        name: &AgentName,
        cell: Option<Cell>,
        birth: &Birth,
        explicit_proxy: bool,
    ) -> anyhow::Result<(Home, Bound)> {
        let boundary = if cell.is_some() { Boundary::Sealed } else { Boundary::Cgroup };
        let bound = match &cell {
            Some(cell) => Bound::inside(cell, explicit_proxy)?,
            None => Bound::fresh(explicit_proxy)?,
        };
        let cgroup = self.root.child(&format!("{name}.{id}"))?;
        cgroup.bound_descendants()?;
        let ports = bound.ports;
        Ok((Home::new(cgroup, boundary, cell, ports, birth), bound))
    }

    /// `name`, or, where an agent of that name runs, the same with a number: records and summaries
    /// tell agents apart by their names.
    pub(super) fn free_name(&self, name: AgentName) -> AgentName {
        let taken: Vec<String> =
            self.agents.all().iter().map(|running| running.agent.name().to_string()).collect();
        let stem: String = name.as_str().chars().take(40).collect();
        let numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
        let mut candidates = std::iter::once(name.to_string()).chain(numbered);
        let free = candidates.find(|candidate| !taken.contains(candidate));
        free.and_then(|free| AgentName::parse(&free).ok()).unwrap_or(name)
    }

    /// Takes away whatever the kernel still lets an agent do that cannot be served.
    pub(super) fn deny_all(&self, id: AgentId, cgroup_id: u64) {
        if let Err(error) = self.fence.dismiss(id, cgroup_id) {
            tracing::error!(%id, %error, "agent is denied by the programs alone");
        }
    }

    /// Ends an agent: its processes first, unless something else started them, so that nothing of it waits for a daemon that forgot it.
    pub(super) async fn stop(&self, id: AgentId) -> Result<(), Refusal> {
        let _turn = self.changes.lock().await;
        let running = self.agents.get(id);
        let running = running.ok_or_else(|| Refusal::new(RefusalKind::Unknown, format!("no agent {id}")))?;
        self.put_down(&running).await.map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))
    }

    /// Ends every agent.
    pub(super) async fn stop_all(&self) {
        for running in self.agents.all() {
            if let Err(refusal) = self.stop(running.agent.id()).await {
                tracing::warn!(agent = %running.agent.name(), %refusal, "failed to stop");
            }
        }
    }

    /// Ends the agents whose last process is gone, and tells of events that the kernel lost.
    pub(super) async fn reap(&self) {
        let _turn = self.changes.lock().await;
        for running in self.agents.all() {
            let lost = self.fence.lost_events(running.agent.id());
            self.recorder.lose(lost.saturating_sub(running.lost_told.swap(lost, Ordering::Relaxed)));
            if running.home.boundary == Boundary::Adopted {
                self.reap_adopted(&running).await;
                continue;
            }
            let is_populated = running.home.cgroup.is_populated();
            let lived = running.lived.fetch_or(is_populated, Ordering::Relaxed) || is_populated;
            let age = Time::now().timestamp().duration_since(running.started.timestamp()).unsigned_abs();
            if !is_populated && (lived || age > BIRTH) && self.put_down(&running).await.is_ok() {
                tracing::info!(agent = %running.agent.name(), "ended: no process is left");
            }
        }
    }

    /// Events that the kernel lost, and of which the log was not told yet.
    pub(super) fn untold_losses(&self, running: &Running) -> u64 {
        let told = running.lost_told.load(Ordering::Relaxed);
        self.fence.lost_events(running.agent.id()).saturating_sub(told)
    }

    pub(super) fn serve_agent(&self, prepared: Prepared) -> Arc<Running> {
        let Prepared { agent, home, bound, own_policy, birth } = prepared;
        let mut serving = JoinSet::new();
        let (names, workers) = (Arc::clone(&self.names), Arc::clone(&self.name_workers));
        serving.spawn(dns::serve(
            Arc::clone(&agent),
            bound.dns,
            names,
            workers,
            Arc::clone(&self.fence) as _,
        ));
        serving.spawn(proxy::serve(Arc::clone(&agent), bound.proxy, Arc::clone(&self.server_names)));
        let running = Arc::new(Running {
            agent,
            home,
            started: Time::now(),
            birth,
            own_policy: Mutex::new(own_policy),
            lived: AtomicBool::new(false),
            strangers: AtomicUsize::new(0),
            lost_told: AtomicU64::new(0),
            _serving: serving,
        });
        self.agents.insert(Arc::clone(&running));
        match running.own_policy() {
            Some(_) => self.watch_own_policy(),
            None => self.recorder.judge_by(running.agent.name(), self.policies.load().revision.clone()),
        }
        running
    }

    pub(super) async fn put_down(&self, running: &Arc<Running>) -> anyhow::Result<()> {
        let id = running.agent.id();
        // What something else started is not ours to end.
        if running.home.boundary != Boundary::Adopted {
            remove_cgroup(&running.home.cgroup).await?;
        }
        let lost = self.fence.lost_events(id);
        self.tell_budgets();
        self.fence.unreported(&running.agent).into_iter().for_each(|event| self.recorder.record(event));
        block_in_place(|| self.fence.dismiss(id, running.home.cgroup.id()))?;
        running.home.cell.iter().for_each(|cell| self.give_back(cell.clone()));
        if running.home.boundary == Boundary::Adopted {
            self.detach(id)?;
        }
        self.recorder.lose(lost.saturating_sub(running.lost_told.load(Ordering::Relaxed)));
        self.name_workers.record();
        // What it was denied last must be there for whoever asks after its end.
        self.recorder.settled().await;
        self.agents.remove(id);
        self.desk.forget(id);
        self.feed.forget(running.agent.name().as_str());
        self.recorder.judge_by(running.agent.name(), None);
        self.memory().forget(id);
        Ok(())
    }

    fn describe(&self, running: &Running) -> StartedAgent {
        let Listeners { dns_v4, dns_v6, explicit_v4, explicit_v6, .. } = running.home.listeners;
        let at = |ip: IpAddr, port: u16| (port != 0).then(|| SocketAddr::new(ip, port));
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        StartedAgent {
            id: running.agent.id().0,
            name: running.agent.name().to_string(),
            cgroup: running.home.cgroup.path().to_owned(),
            proxy_v4: at(v4, explicit_v4),
            proxy_v6: at(v6, explicit_v6),
            dns_v4: at(v4, dns_v4),
            dns_v6: at(v6, dns_v6),
            hidden: [hidden(&self.options.config), inspection::hidden(&self.options.config)].concat(),
            kept: local::kept(&self.options),
            withheld: inspection::withheld(&self.options.config),
            host_sockets: running.agent.policy().host_sockets(),
            resolv_conf: Some(self.resolv_conf()),
            authorities: self.authorities(&running.agent.policy()),
            seal: running.home.cell.as_ref().map(|cell| seal(cell, &running.agent.policy())),
            recorded: Recorded {
                sockets: self.security_hooks.hold("socket_create"),
                rings: self.security_hooks.hold("uring_allowed"),
                bpf: self.security_hooks.hold("bpf"),
                abstract_sockets: ["unix_stream_connect", "unix_may_send"]
                    .into_iter()
                    .all(|hook| self.security_hooks.hold(hook)),
            },
            next_seq: self.feed.next_seq(),
        }
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::at(&self.options.config.run_dir)
    }
}

fn seal(cell: &Cell, policy: &Policy) -> Seal {
    let namespaces = cell.namespaces();
    // As this process sees them: the asker may be in another mount namespace, as services are.
    let ours = |path: PathBuf| {
        let root = format!("/proc/{}/root", std::process::id());
        path.strip_prefix("/").map(|path| Path::new(&root).join(path)).unwrap_or(path.clone())
    };
    Seal {
        network: ours(namespaces.network()),
        user: ours(namespaces.user()),
        capabilities: policy.capabilities().iter().map(ToString::to_string).collect(),
    }
}

/// Kills what lives in `cgroup`, and removes it.
async fn remove_cgroup(cgroup: &Cgroup) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + LAST_BREATH;
    while cgroup.is_populated() && tokio::time::Instant::now() < deadline {
        cgroup.kill()?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if cgroup.path().is_dir() {
        cgroup.remove()?;
    }
    Ok(())
}
