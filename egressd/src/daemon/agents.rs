//! The agents that run: how each starts, is taken over, changes its policy, and ends.

use super::{
    Daemon, listeners,
    listeners::Bound,
    load, loader,
    memory::{Memory, Remembered},
};
use crate::{
    audit::Time,
    config::{self, Installed, Policies},
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
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

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
    /// Aborted when this is dropped.
    _serving: JoinSet<()>,
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
        let policy = match &request.policy {
            Some(text) => self.compile(text).map_err(|error| invalid(&error))?.for_agent(&name),
            None => self.policies.load().policies.for_agent(&name),
        };
        Fence::holds(&policy).map_err(|error| invalid(&error))?;
        let failed = |error: anyhow::Error| Refusal::new(RefusalKind::Failed, format!("{error:#}"));
        if self.agents.all().len() >= usize::try_from(egress_common::MAX_AGENTS).unwrap_or(0) {
            return Err(Refusal::new(RefusalKind::Busy, "the daemon serves as many agents as it can"));
        }
        let id = self.memory().next_id().map_err(failed)?;
        let agent = Arc::new(Agent::new(id, name.clone(), policy));
        let bound = Bound::fresh(request.explicit_proxy).map_err(failed)?;
        let cgroup = self.root.child(&format!("{name}.{id}")).map_err(|error| failed(error.into()))?;
        let remembered = Remembered {
            id: id.0,
            name: name.to_string(),
            cgroup: cgroup.path().to_owned(),
            listeners: listeners::remember(bound.ports),
            own_policy: request.policy,
        };
        self.memory().write(&remembered).map_err(failed)?;
        let running = self.admit(agent, cgroup, bound, remembered.own_policy).map_err(failed)?;
        Ok(self.describe(&running))
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

    /// Ends the agents whose last process is gone, and forgets grants that expired long ago.
    pub(super) async fn sweep(&self) {
        let _turn = self.changes.lock().await;
        self.fence.sweep();
        for running in self.agents.all() {
            let is_populated = running.cgroup.is_populated();
            let lived = running.lived.fetch_or(is_populated, Ordering::Relaxed) || is_populated;
            let age = Time::now().timestamp().duration_since(running.started.timestamp()).unsigned_abs();
            if !is_populated && (lived || age > BIRTH) && self.put_down(&running).await.is_ok() {
                tracing::info!(agent = %running.agent.name(), "ended: no process is left");
            }
        }
    }

    /// Serves again the agents that an earlier daemon left fenced.
    pub(super) async fn take_over(&self) -> anyhow::Result<()> {
        for remembered in self.memory().read_all() {
            let name = remembered.name.clone();
            match self.take_over_one(remembered) {
                Ok(()) => tracing::info!(agent = %name, "taken over"),
                // It stays in its cgroup, where everything is denied.
                Err(error) => tracing::error!(agent = %name, "stays denied: {error:#}"),
            }
        }
        self.fence.apply_table().context("failed to apply the nft table")
    }

    fn take_over_one(&self, remembered: Remembered) -> anyhow::Result<()> {
        let name = AgentName::parse(&remembered.name)?;
        if !remembered.cgroup.is_dir() {
            self.memory().forget(AgentId(remembered.id));
            anyhow::bail!("its cgroup is gone");
        }
        let policy = match &remembered.own_policy {
            Some(text) => self.compile(text)?.for_agent(&name),
            None => self.policies.load().policies.for_agent(&name),
        };
        let id = AgentId(remembered.id);
        let agent = Arc::new(Agent::new(id, name, policy));
        let grants = self.fence.remembered_grants(id);
        agent.remember(&grants, datapath::now())?;
        let bound = Bound::again(listeners::recall(remembered.listeners))?;
        let cgroup = Cgroup::open(remembered.cgroup)?;
        self.admit(agent, cgroup, bound, remembered.own_policy).map(|_| ())
    }

    /// Replaces every policy, or none.
    pub(super) async fn replace_policies(&self) -> Result<ReloadSummary, Refusal> {
        let _turn = self.changes.lock().await;
        let invalid = |error: config::ConfigError| Refusal::new(RefusalKind::Invalid, error);
        let loaded = load(&self.options).map_err(invalid)?;
        let mut replacements: Vec<(Arc<Running>, Arc<Policy>, Option<PolicyText>)> = Vec::new();
        for running in self.agents.all() {
            let name = running.agent.name();
            let own = running.own_policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let own = own.map(read_again);
            let policy = match &own {
                Some(text) => self.compile(text).map_err(invalid)?.for_agent(name),
                None => loaded.policies.for_agent(name),
            };
            Fence::holds(&policy).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
            replacements.push((running, policy, own));
        }
        let mut changed_agents = Vec::new();
        for (running, policy, own) in replacements {
            if *running.agent.policy() != *policy {
                changed_agents.push(running.agent.name().to_string());
            }
            running.agent.replace_policy(policy);
            *running.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = own;
            self.fence
                .replace_policy(&running.agent, running.listeners)
                .map_err(|error| Refusal::new(RefusalKind::Failed, error))?;
            self.server_names.rejudge(&running.agent, datapath::now());
        }
        let policies = loaded.files.clone();
        self.policies.store(Arc::new(loaded));
        Ok(ReloadSummary { policies, changed_agents, warnings: Vec::new() })
    }

    fn admit(
        &self,
        agent: Arc<Agent>,
        cgroup: Cgroup,
        bound: Bound,
        own_policy: Option<PolicyText>,
    ) -> anyhow::Result<Arc<Running>> {
        let listeners = bound.ports;
        self.fence.admit(&agent, &cgroup, listeners)?;
        let mut serving = JoinSet::new();
        let names = Arc::clone(&self.names);
        serving.spawn(dns::serve(Arc::clone(&agent), bound.dns, names, Arc::clone(&self.fence) as _));
        serving.spawn(proxy::serve(Arc::clone(&agent), bound.proxy, Arc::clone(&self.server_names)));
        let running = Arc::new(Running {
            agent,
            cgroup,
            listeners,
            started: Time::now(),
            own_policy: Mutex::new(own_policy),
            lived: AtomicBool::new(false),
            _serving: serving,
        });
        self.agents.insert(Arc::clone(&running));
        Ok(running)
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
        // What it was denied last must be there for whoever asks after its end.
        self.recorder.settled().await;
        self.agents.remove(id);
        self.feed.forget(running.agent.name().as_str());
        self.fence.dismiss(id, &running.cgroup)?;
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
            hidden: vec![self.options.config.run_dir.clone(), self.options.config.audit_log.clone()],
            next_seq: self.feed.next_seq(),
        }
    }

    fn memory(&self) -> Memory {
        Memory::at(&self.options.config.run_dir)
    }
}

/// The policy as its file is by now; as it was, where there is no such file.
fn read_again(text: PolicyText) -> PolicyText {
    match fs::read_to_string(PathBuf::from(&text.file)) {
        Ok(new) => PolicyText { text: new, ..text },
        Err(_) => text,
    }
}
