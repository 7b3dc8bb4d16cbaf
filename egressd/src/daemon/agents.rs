//! The agents that run: how each starts, is taken over, changes its policy, and ends.

use super::{
    Daemon, listeners,
    listeners::Bound,
    load, loader,
    memory::{Memory, Remembered},
};
use crate::{
    audit::Time,
    config::{self, DaemonConfig, Installed, Policies},
    control::protocol::{PolicyText, Refusal, RefusalKind, ReloadSummary, StartAgent, StartedAgent},
    datapath::{self, Cgroup, Fence, Listeners, Names},
    dns,
    policy::{Agent, AgentId, AgentName, Policy},
    proxy,
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    pub cgroup: Cgroup,
    pub listeners: Listeners,
    pub started: Time,
    /// A policy that came with the request to start it; else the daemon's own files.
    pub own_policy: Mutex<Option<PolicyText>>,
    /// A process was seen in its cgroup: from then on an empty cgroup is the end.
    lived: AtomicBool,
    /// Events that the kernel lost, as far as the log was told.
    lost_told: AtomicU64,
    /// Aborted when this is dropped.
    _serving: JoinSet<()>,
}

impl Running {
    pub fn own_policy(&self) -> Option<PolicyText> {
        self.own_policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An agent of an earlier daemon, known again and not yet served.
struct Recognised {
    agent: Arc<Agent>,
    cgroup: Cgroup,
    bound: Bound,
    own_policy: Option<PolicyText>,
}

/// What one agent is to obey instead.
struct Replacement {
    running: Arc<Running>,
    policy: Arc<Policy>,
    own_policy: Option<PolicyText>,
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

/// How long a killed agent may take to be gone: what its processes do in the kernel ends first.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How long the launcher may take from asking for an agent to its first process.
const BIRTH: Duration = Duration::from_secs(60);

impl Daemon {
    /// Starts what `request` asks for, up to a cgroup that is ready for its first process.
    pub(super) async fn start_agent_now(&self, request: StartAgent) -> Result<StartedAgent, Refusal> {
        let _turn = self.changes.lock().await;
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Invalid, error);
        let name = request.name.as_deref().unwrap_or("agent");
        let name = AgentName::parse(name).map_err(|error| invalid(&error))?;
        let policy = self.policy_for(&name, request.policy.as_ref()).map_err(|error| invalid(&error))?;
        Fence::holds(&policy).map_err(|error| invalid(&error))?;
        if self.agents.all().len() >= usize::try_from(egress_common::MAX_AGENTS).unwrap_or(0) {
            return Err(Refusal::new(RefusalKind::Busy, "the daemon serves as many agents as it can"));
        }
        let name = self.free_name(name);
        let started = block_in_place(|| self.prepare(name, policy, request));
        let running = started.map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))?;
        Ok(self.describe(&running))
    }

    /// Everything that an agent needs but a process; nothing of it stays where that fails.
    fn prepare(
        &self,
        name: AgentName,
        policy: Arc<Policy>,
        request: StartAgent,
    ) -> anyhow::Result<Arc<Running>> {
        let id = self.memory().next_id()?;
        let bound = Bound::fresh(request.explicit_proxy)?;
        let cgroup = self.root.child(&format!("{name}.{id}"))?;
        cgroup.bound_descendants()?;
        let remembered = Remembered {
            id: id.0,
            name: name.to_string(),
            cgroup: cgroup.path().to_owned(),
            cgroup_id: cgroup.id(),
            listeners: listeners::remember(bound.ports),
            own_policy: request.policy.clone(),
        };
        let agent = Arc::new(Agent::new(id, name, policy));
        let admitted = self
            .memory()
            .write(&remembered)
            .and_then(|()| Ok(self.fence.admit(&agent, &cgroup, bound.ports)?));
        match admitted {
            Ok(()) => Ok(self.serve_agent(agent, cgroup, bound, request.policy)),
            Err(error) => {
                self.deny_all(id, cgroup.id());
                self.memory().forget(id);
                let _ = cgroup.remove();
                Err(error)
            }
        }
    }

    /// `name`, or, where an agent of that name runs, the same with a number: records and summaries
    /// tell agents apart by their names.
    fn free_name(&self, name: AgentName) -> AgentName {
        let taken: Vec<String> =
            self.agents.all().iter().map(|running| running.agent.name().to_string()).collect();
        let stem: String = name.as_str().chars().take(40).collect();
        let numbered = (2..).map(|number: u32| format!("{stem}-{number}"));
        let mut candidates = std::iter::once(name.to_string()).chain(numbered);
        let free = candidates.find(|candidate| !taken.contains(candidate));
        free.and_then(|free| AgentName::parse(&free).ok()).unwrap_or(name)
    }

    fn policy_for(
        &self,
        name: &AgentName,
        own: Option<&PolicyText>,
    ) -> Result<Arc<Policy>, config::ConfigError> {
        Ok(match own {
            Some(text) => block_in_place(|| self.compile(text))?.for_agent(name),
            None => self.policies.load().policies.for_agent(name),
        })
    }

    /// Takes away whatever the kernel still lets an agent do that cannot be served.
    fn deny_all(&self, id: AgentId, cgroup_id: u64) {
        if let Err(error) = self.fence.dismiss(id, cgroup_id) {
            tracing::error!(%id, %error, "agent is denied by the programs alone");
        }
    }

    /// Ends an agent: its processes first, so that nothing of it waits for a daemon that forgot it.
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
            let is_populated = running.cgroup.is_populated();
            let lived = running.lived.fetch_or(is_populated, Ordering::Relaxed) || is_populated;
            let age = Time::now().timestamp().duration_since(running.started.timestamp()).unsigned_abs();
            if !is_populated && (lived || age > BIRTH) && self.put_down(&running).await.is_ok() {
                tracing::info!(agent = %running.agent.name(), "ended: no process is left");
            }
        }
    }

    /// Serves again the agents that an earlier daemon left fenced. Together: their flows are open,
    /// and the table is replaced whole.
    pub(super) fn take_over(&self) -> anyhow::Result<()> {
        let mut recognised = Vec::new();
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
        for Recognised { agent, cgroup, bound, own_policy } in recognised {
            let name = agent.name().clone();
            match self.fence.open(&agent, &cgroup, bound.ports) {
                Ok(()) => {
                    self.serve_agent(agent, cgroup, bound, own_policy);
                    tracing::info!(agent = %name, "taken over");
                }
                Err(error) => {
                    tracing::error!(agent = %name, "stays denied: {error:#}");
                    self.deny_all(agent.id(), cgroup.id());
                }
            }
        }
        Ok(())
    }

    fn recognise(&self, remembered: Remembered) -> anyhow::Result<Recognised> {
        let id = AgentId(remembered.id);
        if !remembered.cgroup.is_dir() {
            self.memory().forget(id);
            anyhow::bail!("its cgroup is gone");
        }
        let name = AgentName::parse(&remembered.name)?;
        let policy = match &remembered.own_policy {
            Some(text) => self.compile(text)?.for_agent(&name),
            None => self.policies.load().policies.for_agent(&name),
        };
        Fence::holds(&policy)?;
        let agent = Arc::new(Agent::new(id, name, Arc::clone(&policy)));
        let now = datapath::now();
        let mut grants = self.fence.remembered_grants(id);
        // The policy may be another than the one that earned them.
        grants.retain(|grant| grant.expires > now && policy.opens(grant));
        agent.remember(&grants, now)?;
        let bound = Bound::again(listeners::recall(remembered.listeners))?;
        let cgroup = Cgroup::open(remembered.cgroup)?;
        self.fence.announce(&agent, &cgroup, bound.ports)?;
        Ok(Recognised { agent, cgroup, bound, own_policy: remembered.own_policy })
    }

    /// Replaces every policy, or none.
    pub(super) async fn replace_policies(&self) -> Result<ReloadSummary, Refusal> {
        let _turn = self.changes.lock().await;
        block_in_place(|| {
            let loaded = load(&self.options).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
            let replacements = self.compile_all(&loaded.policies)?;
            let changed = replacements.iter().filter(|new| *new.running.agent.policy() != *new.policy);
            let changed_agents = changed.map(|new| new.running.agent.name().to_string()).collect();
            self.replace_all(replacements)?;
            let policies = loaded.files.clone();
            self.policies.store(Arc::new(loaded));
            Ok(ReloadSummary { policies, changed_agents, warnings: Vec::new() })
        })
    }

    /// What every agent is to obey; nothing is changed yet.
    fn compile_all(&self, policies: &Policies) -> Result<Vec<Replacement>, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Invalid, error);
        let mut replacements = Vec::new();
        for running in self.agents.all() {
            let name = running.agent.name();
            let own_policy = running.own_policy().map(read_again);
            let policy = match &own_policy {
                Some(text) => self.compile(text).map_err(|error| invalid(&error))?.for_agent(name),
                None => policies.for_agent(name),
            };
            Fence::holds(&policy).map_err(|error| invalid(&error))?;
            replacements.push(Replacement { running, policy, own_policy });
        }
        Ok(replacements)
    }

    /// Puts all of `replacements` in force; where the kernel fails half way, what was before.
    fn replace_all(&self, replacements: Vec<Replacement>) -> Result<(), Refusal> {
        let mut before: Vec<Replacement> = Vec::new();
        for new in replacements {
            let (running, policy) = (Arc::clone(&new.running), new.running.agent.policy());
            before.push(Replacement { policy, own_policy: running.own_policy(), running });
            if let Err(error) = self.put_in_force(new) {
                before.into_iter().for_each(|old| self.put_back(old));
                let message = format!("nothing was replaced: {error:#}");
                return Err(Refusal::new(RefusalKind::Failed, message));
            }
        }
        Ok(())
    }

    fn put_in_force(&self, new: Replacement) -> anyhow::Result<()> {
        let Replacement { running, policy, own_policy } = new;
        // First what the next daemon is to obey, should this one be killed.
        self.memory().write(&Remembered {
            id: running.agent.id().0,
            name: running.agent.name().to_string(),
            cgroup: running.cgroup.path().to_owned(),
            cgroup_id: running.cgroup.id(),
            listeners: listeners::remember(running.listeners),
            own_policy: own_policy.clone(),
        })?;
        *running.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = own_policy;
        running.agent.replace_policy(policy);
        self.fence.replace_policy(&running.agent, running.listeners)?;
        self.server_names.rejudge(&running.agent, datapath::now());
        Ok(())
    }

    /// What cannot be put back is denied.
    fn put_back(&self, old: Replacement) {
        let running = Arc::clone(&old.running);
        if let Err(error) = self.put_in_force(old) {
            tracing::error!(agent = %running.agent.name(), "is denied everything: {error:#}");
            self.deny_all(running.agent.id(), running.cgroup.id());
        }
    }

    fn serve_agent(
        &self,
        agent: Arc<Agent>,
        cgroup: Cgroup,
        bound: Bound,
        own_policy: Option<PolicyText>,
    ) -> Arc<Running> {
        let mut serving = JoinSet::new();
        let names = Arc::clone(&self.names);
        serving.spawn(dns::serve(Arc::clone(&agent), bound.dns, names, Arc::clone(&self.fence) as _));
        serving.spawn(proxy::serve(Arc::clone(&agent), bound.proxy, Arc::clone(&self.server_names)));
        let running = Arc::new(Running {
            agent,
            cgroup,
            listeners: bound.ports,
            started: Time::now(),
            own_policy: Mutex::new(own_policy),
            lived: AtomicBool::new(false),
            lost_told: AtomicU64::new(0),
            _serving: serving,
        });
        self.agents.insert(Arc::clone(&running));
        running
    }

    async fn put_down(&self, running: &Arc<Running>) -> anyhow::Result<()> {
        let id = running.agent.id();
        let deadline = tokio::time::Instant::now() + LAST_BREATH;
        while running.cgroup.is_populated() && tokio::time::Instant::now() < deadline {
            running.cgroup.kill()?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if running.cgroup.path().is_dir() {
            running.cgroup.remove()?;
        }
        let lost = self.fence.lost_events(id);
        block_in_place(|| self.fence.dismiss(id, running.cgroup.id()))?;
        self.recorder.lose(lost.saturating_sub(running.lost_told.load(Ordering::Relaxed)));
        // What it was denied last must be there for whoever asks after its end.
        self.recorder.settled().await;
        self.agents.remove(id);
        self.feed.forget(running.agent.name().as_str());
        self.memory().forget(id);
        Ok(())
    }

    fn compile(&self, text: &PolicyText) -> Result<Policies, config::ConfigError> {
        let config = &self.options.config;
        let registries = Installed::new(config.cache_dir.clone());
        loader(config, &registries).load_str(&text.file, &text.text, &text.base_dir)
    }

    fn describe(&self, running: &Running) -> StartedAgent {
        let Listeners { dns_v4, dns_v6, explicit_v4, explicit_v6, .. } = running.listeners;
        let at = |ip: IpAddr, port: u16| (port != 0).then(|| SocketAddr::new(ip, port));
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        StartedAgent {
            id: running.agent.id().0,
            name: running.agent.name().to_string(),
            cgroup: running.cgroup.path().to_owned(),
            proxy_v4: at(v4, explicit_v4),
            proxy_v6: at(v6, explicit_v6),
            dns_v4: at(v4, dns_v4),
            dns_v6: at(v6, dns_v6),
            hidden: self.hidden(),
            next_seq: self.feed.next_seq(),
        }
    }

    /// Folders of every daemon, not only of this one; a log elsewhere only by its file, because its
    /// folder may be anybody's.
    fn hidden(&self) -> Vec<PathBuf> {
        let config = &self.options.config;
        let own = DaemonConfig::default();
        let log_folder = own.audit_log.parent().map(Path::to_owned);
        let mut hidden: Vec<PathBuf> = [Some(own.run_dir), log_folder].into_iter().flatten().collect();
        for path in [&config.run_dir, &config.audit_log] {
            if !hidden.iter().any(|folder| path.starts_with(folder)) {
                hidden.push(path.clone());
            }
        }
        hidden
    }

    fn memory(&self) -> Memory {
        Memory::at(&self.options.config.run_dir)
    }
}

/// The policy as its file is by now; as it was, where root alone does not decide what the file says:
/// an agent must not write its own policy.
fn read_again(text: PolicyText) -> PolicyText {
    let path = PathBuf::from(&text.file);
    let is_roots =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0);
    let is_safe = is_roots(&path) && path.parent().is_some_and(is_roots);
    match fs::read_to_string(&path) {
        Ok(new) if is_safe => PolicyText { text: new, ..text },
        Ok(_) | Err(_) => text,
    }
}
