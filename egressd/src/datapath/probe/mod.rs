//! What this kernel and host give, level by level. What can be tried is tried, on a cgroup and in
//! network namespaces of its own; what is only looked up says so by being about the host.

mod host;
mod kernel;
mod trial;

pub use kernel::{KernelTooOld, must_serve};

use serde::Serialize;
use std::path::Path;

/// Everything that was found, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What stands in the way of agents in `cgroup` mode; empty where they can be had.
    pub cgroup: Vec<String>,
    /// The same for `sealed` mode.
    pub sealed: Vec<String>,
}

/// One thing that this host has, or has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub level: Level,
    pub name: String,
    pub state: State,
    /// What was seen.
    pub found: String,
    /// What it is for.
    pub protects: String,
    /// What to do about it.
    pub remedy: Option<String>,
    #[serde(skip)]
    need: Need,
}

/// Where a finding belongs, from the bottom up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Kernel,
    /// The programs on the cgroup of agents.
    Hooks,
    /// The link of sealed agents, and the nft table.
    Network,
    /// What is around agents.
    Host,
    /// All of it together, as the daemon does it.
    Proof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// It works, with less than there could be.
    Degraded,
    Missing,
}

/// Which agents need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Every,
    Sealed,
    /// None could be had: something else does its work.
    None,
}

/// Looks at everything. `egressd` is the program of the daemon, whose canary proves the whole.
#[must_use]
pub fn examine(egressd: &Path) -> Report {
    let mut findings = kernel::findings();
    if nix::unistd::Uid::effective().is_root() {
        findings.extend(trial::findings(egressd));
    } else {
        let root = Finding::new(Level::Hooks, "root", "trying the hooks of the kernel");
        findings.push(root.missing(
            Need::Every,
            "you are not root, so nothing was tried",
            "run `sudo egressctl doctor`",
        ));
    }
    findings.extend(host::findings());
    let in_the_way = |needs: &[Need]| {
        let missing = findings
            .iter()
            .filter(|finding| finding.state == State::Missing && needs.contains(&finding.need));
        missing.map(|finding| format!("{}: {}", finding.name, finding.found)).collect()
    };
    Report { cgroup: in_the_way(&[Need::Every]), sealed: in_the_way(&[Need::Every, Need::Sealed]), findings }
}

impl Finding {
    fn new(level: Level, name: &str, protects: &str) -> Self {
        Self {
            level,
            name: name.to_owned(),
            state: State::Ok,
            found: String::new(),
            protects: protects.to_owned(),
            remedy: None,
            need: Need::None,
        }
    }

    fn ok(self, found: impl Into<String>) -> Self {
        Self { found: found.into(), ..self }
    }

    fn degraded(self, found: impl Into<String>, remedy: &str) -> Self {
        Self { state: State::Degraded, found: found.into(), remedy: Some(remedy.to_owned()), ..self }
    }

    fn missing(self, need: Need, found: impl Into<String>, remedy: &str) -> Self {
        Self { state: State::Missing, found: found.into(), remedy: Some(remedy.to_owned()), need, ..self }
    }
}
