//! What the next daemon must know of the agents of this one.

use super::{
    agents::Home,
    listeners::{self, RememberedPorts},
    own::OwnPolicy,
};
use crate::{
    audit::{RecordedOperator, Time},
    config::{LentRule, lent},
    control::protocol::Boundary,
    datapath::Cell,
    policy::{
        Agent, AgentId, AgentName, Budget, Loan, Mode, Moment, Policy, Protocol, Rule, RuleId, Workload,
    },
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
    pub own_policy: Option<OwnPolicy>,
    /// When its life began, on the clock of [`Moment`]. None: nobody knows, and it is older than any term.
    #[serde(default)]
    pub born: Option<u64>,
    /// What was said of it when it came; None: nothing but its name.
    #[serde(default)]
    pub workload: Option<RememberedWorkload>,
    /// Whether it was started to be observed, whatever its policy says.
    #[serde(default)]
    pub observe: bool,
    /// Whether it was started with capabilities by which it makes frames, whatever its policy says since. None:
    /// nobody knows.
    #[serde(default)]
    pub makes_frames: Option<bool>,
    /// What somebody lent to it.
    #[serde(default)]
    pub loans: Vec<RememberedLoan>,
}

/// [`Loan`] as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RememberedLoan {
    number: u32,
    /// By which the kernel's maps know its rule.
    rule: u32,
    host: String,
    ports: Vec<u16>,
    protocol: Option<String>,
    private: bool,
    reason: Option<String>,
    until: Time,
    max_bytes: Option<u64>,
    max_connections: Option<u64>,
    lender: RecordedOperator,
    since: Time,
}

impl RememberedLoan {
    /// None of one that has no end: none is lent.
    fn of(loan: &Loan) -> Option<Self> {
        let rule = &loan.rule;
        let Budget { max_bytes, max_connections, rate: _ } = rule.budget;
        Some(Self {
            number: loan.number,
            rule: rule.id.0,
            host: rule.subject.to_string(),
            ports: rule.ports.clone(),
            protocol: rule.protocol.map(Protocol::as_str).map(str::to_owned),
            private: rule.private,
            reason: rule.reason.clone(),
            until: rule.term.until?.into(),
            max_bytes,
            max_connections,
            lender: RecordedOperator::of(&loan.lender),
            since: loan.since.into(),
        })
    }

    pub fn into_loan(self) -> Result<Loan> {
        let Self { number, rule: id, host, ports, protocol, private, reason, until, .. } = self;
        let budget = Budget { max_bytes: self.max_bytes, max_connections: self.max_connections, rate: None };
        let until = until.timestamp();
        let rule = lent(&LentRule { host, ports, protocol, private, reason, until, budget })?;
        let rule = Rule { id: RuleId(id), source: Loan::source(number), ..rule };
        Ok(Loan { number, rule, lender: self.lender.into(), since: self.since.timestamp() })
    }
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
    /// Whether it was started with capabilities by which it makes frames, whatever its policy says since.
    pub makes_frames: bool,
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
    pub fn of(agent: &Agent, home: &Home, own_policy: Option<OwnPolicy>, birth: &Birth) -> Self {
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
            makes_frames: Some(birth.makes_frames),
            loans: agent.loans().iter().filter_map(RememberedLoan::of).collect(),
        }
    }
}

impl Memory {
    pub fn at(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("agents") }
    }

    /// A number that no agent of this run folder had before.
    pub fn next_id(&self) -> Result<AgentId> {
        self.next("last-id", "every agent number was used").map(AgentId)
    }

    /// A number that nothing that was lent by a daemon of this run folder had before.
    pub fn next_grant(&self) -> Result<u32> {
        self.next("last-grant", "every grant number was used")
    }

    /// One more than the number in `file`, which then holds it.
    fn next(&self, file: &str, used_up: &'static str) -> Result<u32> {
        let path = self.folder.join(file);
        let last = match fs::read_to_string(&path) {
            Ok(text) => {
                text.trim().parse().with_context(|| format!("`{}` holds no number", path.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0_u32,
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        };
        let next = last.checked_add(1).context(used_up)?;
        replace(&path, next.to_string().as_bytes())?;
        Ok(next)
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
