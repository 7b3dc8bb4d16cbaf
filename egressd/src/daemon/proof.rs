//! The self-proof: before the daemon says that it is ready, and again and again. While it fails, no
//! agent runs.

use crate::{
    control::protocol::{Check, Refusal, RefusalKind},
    datapath::{
        Attached, Cgroup, Fence, Link, Pins,
        canary::{Canary, CanaryError, FOLDER, Findings, NameFindings, OURSELVES},
    },
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often the proof is made anew. A round takes some milliseconds.
const PROVE: Duration = Duration::from_secs(5);

/// The proof, and what it stands on.
pub struct Proof {
    root: Cgroup,
    pins: Pins,
    /// Is there while agents are frozen, so that the next daemon knows who froze them.
    marker: PathBuf,
    canary: tokio::sync::Mutex<Option<Canary>>,
    last: Mutex<Last>,
}

/// What the last round showed.
#[derive(Debug, Clone)]
enum Last {
    None,
    Passed { findings: Findings, took: Duration, at: Instant },
    Failed(String),
}

/// What a round changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    pub fence: Change,
    /// Of the programs that read server names.
    pub server_names: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    Fell,
    Rose,
}

impl Proof {
    /// Starts the canary below `root`, where programs may be attached yet or not.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn prepare(root: &Cgroup, pins: &Pins, run_dir: &Path) -> Result<Self> {
        let canary = start(root, pins).context("failed to start the self-proof")?;
        Ok(Self {
            root: root.clone(),
            pins: pins.clone(),
            marker: run_dir.join("frozen"),
            canary: tokio::sync::Mutex::new(Some(canary)),
            last: Mutex::new(Last::None),
        })
    }

    /// The proof that must pass before the daemon is ready.
    ///
    /// # Errors
    /// It failed, and agents that an earlier daemon left are frozen; or a program of somebody else
    /// is on our cgroup.
    pub async fn must_pass(&self, fence: &Fence) -> Result<()> {
        let attached =
            Attached::to(&self.root, &[], &self.pins).context("failed to ask for attached programs")?;
        anyhow::ensure!(
            attached.foreign.is_empty(),
            "programs of somebody else are on the cgroup of our agents, `{}`: {}; detach them",
            self.root.path().display(),
            attached.foreign.join(", ")
        );
        self.prove(fence, &[]).await;
        match self.failure() {
            None => Ok(()),
            Some(failure) => {
                self.freeze(&[]);
                anyhow::bail!("the self-proof failed: {failure}")
            }
        }
    }

    /// One round. What leaked counts at once; what proves nothing is tried once more, with a canary
    /// of its own.
    pub async fn prove(&self, fence: &Fence, links: &[Link]) -> Changes {
        let mut canary = self.canary.lock().await;
        let mut last = self.round(&mut canary, fence, links).await;
        if let Some(failure) = vacuous(&last) {
            tracing::warn!(failure, "the self-proof is made again");
            *canary = None;
            last = self.round(&mut canary, fence, links).await;
        }
        let last = last.unwrap_or_else(|unproven| Last::Failed(unproven.to_string()));
        let server_names = trust(fence, &last);
        let before = std::mem::replace(&mut *self.last(), last.clone());
        let fence = match (before, last) {
            (Last::Failed(_), Last::Passed { .. }) => Change::Rose,
            (Last::None | Last::Passed { .. }, Last::Failed(_)) => Change::Fell,
            _ => Change::None,
        };
        Changes { fence, server_names }
    }

    async fn round(
        &self,
        canary: &mut Option<Canary>,
        fence: &Fence,
        links: &[Link],
    ) -> Result<Last, Unproven> {
        let began = Instant::now();
        let attached = Attached::to(&self.root, links, &self.pins)
            .map_err(|error| Unproven::Vacuous(error.to_string()))?;
        if !attached.missing.is_empty() {
            return Err(Unproven::Detached(attached.missing.join(", ")));
        }
        let vacuous = |error: CanaryError| Unproven::Vacuous(error.to_string());
        if canary.is_none() {
            *canary = Some(start(&self.root, &self.pins).map_err(vacuous)?);
        }
        let Some(canary) = canary else { return Err(Unproven::Vacuous("there is no canary".to_owned())) };
        if canary.is_new() {
            canary.admit(fence).map_err(vacuous)?;
        }
        let findings = canary.prove(fence).await.map_err(vacuous)?;
        match findings {
            findings if findings.passed() => {
                Ok(Last::Passed { findings, took: began.elapsed(), at: Instant::now() })
            }
            Findings { leaked, .. } if !leaked.is_empty() => Err(Unproven::Leaked(first_of(&leaked))),
            Findings { lost, .. } => {
                Err(Unproven::Vacuous(format!("what must arrive did not: {}", first_of(&lost))))
            }
        }
    }

    /// Why the last round failed; None where it passed.
    pub fn failure(&self) -> Option<String> {
        match &*self.last() {
            Last::None => Some("nothing is proven yet".to_owned()),
            Last::Passed { .. } => None,
            Last::Failed(failure) => Some(failure.clone()),
        }
    }

    /// No agent starts while nothing is proven.
    ///
    /// # Errors
    /// Says why.
    pub fn admits(&self) -> Result<(), Refusal> {
        self.failure().map_or(Ok(()), |failure| {
            let reason = format!("the self-proof failed, so no agent runs: {failure}");
            Err(Refusal::new(RefusalKind::Failed, reason))
        })
    }

    pub fn check(&self) -> Check {
        let (passed, detail) = match &*self.last() {
            Last::None => (false, "nothing is proven yet".to_owned()),
            Last::Failed(failure) => {
                (false, format!("{failure}; agents are frozen: find out who did it, and restart egressd"))
            }
            Last::Passed { findings, took, at } => {
                let families =
                    if findings.families == 2 { "ipv4 and ipv6" } else { "ipv4, this host has no ipv6" };
                let (took, age) = (took.as_secs_f64() * 1000.0, at.elapsed().as_secs());
                let probes = findings.probes;
                let skipped: String =
                    findings.skipped.iter().map(|what| format!("; not proven: {what}")).collect();
                let detail = format!(
                    "{probes} probes went where they must ({families}), in {took:.1} ms, {age} s ago"
                );
                (true, detail + &skipped)
            }
        };
        Check { name: "self-proof".to_owned(), passed, detail }
    }

    /// Whether the programs that read server names, where there are any, were seen to do it.
    pub fn check_server_names(&self, fence: &Fence) -> Check {
        let (passed, detail) = match (fence.has_reader(), fence.proxied_because()) {
            (false, why) => (true, format!("no programs to prove: {}", why.unwrap_or_default())),
            (true, Some(why)) => (false, format!("{why}; flows that start go through the proxy")),
            (true, None) => (true, format!("{} probes went where they must", self.name_probes())),
        };
        Check { name: "server-name proof".to_owned(), passed, detail }
    }

    fn name_probes(&self) -> usize {
        match &*self.last() {
            Last::Passed { findings, .. } => findings.server_names.as_ref().map_or(0, |names| names.probes),
            Last::None | Last::Failed(_) => 0,
        }
    }

    /// Stops every agent where it is, also those that no daemon serves. Those `elsewhere` are below
    /// no cgroup of ours.
    pub fn freeze(&self, elsewhere: &[Cgroup]) {
        if let Err(error) = fs::write(&self.marker, "") {
            tracing::error!(%error, "the next daemon will not know that agents are frozen");
        }
        for agent in self.agents().chain(elsewhere.iter().cloned()) {
            if let Err(error) = agent.freeze() {
                tracing::error!(%error, "an agent runs although nothing is proven");
            }
        }
    }

    /// Lets agents go on that were frozen for want of a proof, by this daemon or an earlier one.
    pub fn thaw(&self, elsewhere: &[Cgroup]) {
        if !self.marker.exists() {
            return;
        }
        for agent in self.agents().chain(elsewhere.iter().cloned()) {
            if let Err(error) = agent.thaw() {
                tracing::error!(%error, "an agent stays frozen");
            }
        }
        match fs::remove_file(&self.marker) {
            Ok(()) => tracing::warn!("the self-proof passes: agents that were frozen are thawed"),
            Err(error) => tracing::error!(%error, "failed to note that agents are thawed"),
        }
    }

    /// Ends the canary.
    pub async fn end(&self) {
        if let Some(canary) = self.canary.lock().await.take() {
            canary.end().await;
        }
    }

    /// The cgroups right below ours, but that of the canary.
    pub(super) fn agents(&self) -> impl Iterator<Item = Cgroup> {
        let is_agent = |cgroup: &Cgroup| !cgroup.path().ends_with(FOLDER);
        self.root.children().into_iter().filter(is_agent)
    }

    // Replaced whole.
    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a round left open, because something did not arrive.
fn vacuous(round: &Result<Last, Unproven>) -> Option<String> {
    match round {
        Err(Unproven::Vacuous(failure)) => Some(failure.clone()),
        Ok(Last::Passed { findings, .. }) => {
            let lost = findings.server_names.as_ref().filter(|names| names.leaked.is_empty());
            lost.and_then(NameFindings::doubt)
        }
        Ok(Last::None | Last::Failed(_)) | Err(Unproven::Detached(_) | Unproven::Leaked(_)) => None,
    }
}

/// Has the kernel read server names if `last` shows that it can, and the proxy if not.
fn trust(fence: &Fence, last: &Last) -> Change {
    let doubt = match last {
        Last::Passed { findings, .. } => findings.doubt(),
        // Agents are frozen; what they go on with is proven first.
        Last::None | Last::Failed(_) => Some("the self-proof failed".to_owned()),
    };
    let falls = doubt.is_some();
    match (fence.has_reader() && fence.trust_reader(doubt), falls) {
        (false, _) => Change::None,
        (true, true) => Change::Fell,
        (true, false) => Change::Rose,
    }
}

fn start(root: &Cgroup, pins: &Pins) -> Result<Canary, CanaryError> {
    Canary::start(root, pins, Path::new(OURSELVES))
}

/// The first of `names`, and how many more there are.
fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Why a round proved nothing.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error("not attached: {0}")]
    Detached(String),
    #[error("what must be denied got out: {0}")]
    Leaked(String),
    #[error("{0}")]
    Vacuous(String),
}

impl super::Daemon {
    /// Proves the fence for as long as the daemon lives.
    pub(super) async fn keep_proving(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PROVE).await;
            self.prove().await;
        }
    }

    /// The cgroups of agents that are not below ours.
    pub(super) fn cgroups_elsewhere(&self) -> Vec<Cgroup> {
        let agents = self.agents.all();
        let cgroups = agents.iter().map(|running| running.home.cgroup.clone());
        cgroups.filter(|cgroup| !cgroup.path().starts_with(self.root.path())).collect()
    }

    /// The links of the sealed agents that are served.
    pub(super) fn links(&self) -> Vec<Link> {
        let agents = self.agents.all();
        agents.iter().filter_map(|running| Some(running.home.cell.as_ref()?.link().clone())).collect()
    }

    /// Makes the proof anew, and freezes or thaws the agents where it turned out otherwise.
    async fn prove(&self) {
        let changes = self.proof.prove(&self.fence, &self.links()).await;
        self.turn(changes.server_names);
        match changes.fence {
            Change::None => {}
            Change::Fell => {
                self.proof.freeze(&self.cgroups_elsewhere());
                let failure = self.proof.failure().unwrap_or_default();
                tracing::error!(failure, "the self-proof failed: agents are frozen");
                // Again, for one that was about to start.
                let _turn = self.changes.lock().await;
                self.proof.freeze(&self.cgroups_elsewhere());
            }
            Change::Rose => {
                let _turn = self.changes.lock().await;
                self.proof.thaw(&self.cgroups_elsewhere());
            }
        }
    }

    /// Has flows that start go to the proxy, or past it, where it turned out that they must or may.
    fn turn(&self, change: Change) {
        match change {
            Change::None => return,
            Change::Fell => {
                let why = self.fence.proxied_because().unwrap_or_default();
                tracing::error!(why, "server names are read by the proxy: the proof of the programs failed");
            }
            Change::Rose => tracing::warn!("server names are read by the kernel: the programs are proven"),
        }
        for running in self.agents.all() {
            if let Err(error) = tokio::task::block_in_place(|| self.fence.turn(&running.agent)) {
                tracing::error!(agent = %running.agent.name(), %error, "is denied everything");
                self.deny_all(running.agent.id(), running.home.cgroup.id());
            }
        }
    }
}
