//! Whether what was adopted is still fenced whole.

use super::super::{Daemon, agents::Running};
use crate::{
    control::protocol::{Boundary, Check},
    datapath::adopt::{self, Finding},
};
use std::sync::{Arc, atomic::Ordering};

impl Daemon {
    /// Looks whether sockets from elsewhere have come into adopted cgroups, which nothing prevents.
    pub(in crate::daemon) fn look_for_strangers(&self) {
        for running in self.adopted() {
            let found = adopt::strangers(&running.home.cgroup);
            let before = running.strangers.swap(found.len(), Ordering::Relaxed);
            let is_news = found.len() > before;
            for Finding { process, what } in found.iter().take(MAX_LISTED).filter(|_| is_news) {
                let (agent, command) = (running.agent.name(), &process.command);
                tracing::error!(%agent, pid = process.pid, command, ?what, "a socket from outside came in");
            }
        }
    }

    /// Whether adopted agents are fenced by every program, and by nothing else.
    pub(in crate::daemon) fn adopted_are_fenced(&self) -> Check {
        let trouble = |running: Arc<Running>| {
            let name = running.agent.name();
            let missing = adopt::missing(&self.pins, &self.security_hooks, running.agent.id());
            if !missing.is_empty() {
                return Some(format!("not pinned for `{name}`: {}; restart egressd", missing.join(", ")));
            }
            match running.strangers.load(Ordering::Relaxed) {
                0 => None,
                count => Some(format!(
                    "{count} socket(s) from outside came into `{name}`: end the processes that hold them"
                )),
            }
        };
        let adopted = self.adopted();
        let count = adopted.len();
        let troubles: Vec<String> = adopted.into_iter().filter_map(trouble).collect();
        Check {
            name: "adopted agents".to_owned(),
            passed: troubles.is_empty(),
            detail: if troubles.is_empty() { format!("{count} are fenced") } else { troubles.join("; ") },
        }
    }

    fn adopted(&self) -> Vec<Arc<Running>> {
        let mut agents = self.agents.all();
        agents.retain(|running| running.home.boundary == Boundary::Adopted);
        agents
    }

    /// Whether the process `pid` is in the cgroup of an adopted agent.
    pub(in crate::daemon) fn is_adopted(&self, pid: u32) -> bool {
        self.adopted().iter().any(|running| self.hierarchy.holds(&running.home.cgroup, pid))
    }
}

/// Sockets that the daemon's own log tells of at one time.
const MAX_LISTED: usize = 8;
