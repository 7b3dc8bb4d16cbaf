//! What the next daemon must know of the agents of this one.

use super::{
    agents::Home,
    listeners::{self, RememberedPorts},
};
use crate::{
    control::protocol::{Boundary, PolicyText},
    datapath::Cell,
    policy::{Agent, AgentId, AgentName, Mode, Moment, Policy, Workload},
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A folder with a file an agent.
pub struct Memory {
    folder: PathBuf,
}

/// One agent. Its grants and rules are in the kernel's maps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remembered {
    pub id: u32,
    pub name: String,
    pub cgroup: PathBuf,
    /// By which the kernel's maps know it, also when the folder is gone.
    pub cgroup_id: u64,
    #[serde(default)]
    pub boundary: Boundary,
    /// The number of its cell, if it is sealed.
    #[serde(default)]
    pub cell: Option<u32>,
    pub listeners: RememberedPorts,
    pub own_policy: Option<PolicyText>,
    /// When its life began, on the clock of [`Moment`]. None: nobody knows, and it is older than any term.
    #[serde(default)]
    pub born: Option<u64>,
    /// What was said of it when it came; None: nothing but its name.
    #[serde(default)]
    pub workload: Option<RememberedWorkload>,
    /// Whether it was started to be observed, whatever its policy says.
    #[serde(default)]
    pub observe: bool,
}

/// [`Workload`] as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RememberedWorkload {
    name: String,
    uid: Option<u32>,
    cgroup: Option<String>,
    labels: BTreeMap<String, String>,
}

impl RememberedWorkload {
    fn of(workload: &Workload) -> Self {
        let Workload { name, uid, cgroup, labels } = workload.clone();
        Self { name: name.to_string(), uid, cgroup, labels }
    }

    pub fn into_workload(self) -> Result<Workload> {
        let Self { name, uid, cgroup, labels } = self;
        Ok(Workload { name: AgentName::parse(&name)?, uid, cgroup, labels })
    }
}

/// What is said of an agent once, when it comes.
#[derive(Debug, Clone)]
pub struct Birth {
    pub workload: Workload,
    /// None: nobody knows, and it is older than any term.
    pub born: Option<Moment>,
    /// Whether it was started to be observed, whatever its policy says.
    pub mode: Mode,
}

impl Birth {
    /// `policy`, as this agent obeys it.
    pub fn obeyed(&self, policy: Arc<Policy>) -> Arc<Policy> {
        match self.mode {
            Mode::Enforce => policy,
            Mode::Observe => Arc::new(Policy::clone(&policy).in_mode(Mode::Observe)),
        }
    }
}

impl Remembered {
    pub fn of(agent: &Agent, home: &Home, own_policy: Option<PolicyText>, birth: &Birth) -> Self {
        Self {
            id: agent.id().0,
            name: agent.name().to_string(),
            cgroup: home.cgroup.path().to_owned(),
            cgroup_id: home.cgroup.id(),
            boundary: home.boundary,
            cell: home.cell.as_ref().map(Cell::number),
            listeners: listeners::remember(home.listeners),
            own_policy,
            born: birth.born.map(|moment| moment.0),
            workload: Some(RememberedWorkload::of(&birth.workload)),
            observe: birth.mode == Mode::Observe,
        }
    }
}

impl Memory {
    pub fn at(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("agents") }
    }

    /// A number that no agent of this run folder had before.
    pub fn next_id(&self) -> Result<AgentId> {
        let path = self.folder.join("last-id");
        let last = match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().with_context(|| format!("`{}` holds no number", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0_u32,
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        };
        let id = last.checked_add(1).context("every agent number was used")?;
        replace(&path, id.to_string().as_bytes())?;
        Ok(AgentId(id))
    }

    pub fn write(&self, agent: &Remembered) -> Result<()> {
        replace(&self.file(AgentId(agent.id)), &serde_json::to_vec(agent)?)
    }

    pub fn forget(&self, agent: AgentId) {
        // What is not there needs no forgetting.
        let _ = fs::remove_file(self.file(agent));
    }

    /// Every agent that is remembered. A file that cannot be read is left out, with an error in
    /// the log: its agent stays denied.
    pub fn read_all(&self) -> Vec<Remembered> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut agents = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path)
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(serde_json::from_slice(&text)?))
            {
                Ok(agent) => agents.push(agent),
                Err(error) => tracing::error!(path = %path.display(), %error, "agent is not remembered"),
            }
        }
        agents.sort_by_key(|agent: &Remembered| agent.id);
        agents
    }

    fn file(&self, agent: AgentId) -> PathBuf {
        self.folder.join(format!("{agent}.json"))
    }
}

/// Writes `path`, and its folder: whole or not at all, should we be killed meanwhile.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let act = || -> io::Result<()> {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let unready = path.with_extension("new");
        fs::write(&unready, content)?;
        fs::rename(&unready, path)
    };
    act().with_context(|| format!("failed to write `{}`", path.display()))
}
