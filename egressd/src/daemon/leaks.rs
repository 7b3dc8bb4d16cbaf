//! What agents let out through names: remembered beyond this daemon's life, told, and stopped.

use super::{Daemon, agents::Running, memory};
use crate::{
    audit::{self, Recorder},
    control::protocol::{Refusal, RefusalKind},
    datapath,
    dns::{
        self,
        ledger::{AccountLevel, Alert, Key, Ledger, Levels, Report},
    },
    policy::{Agent, AgentId, AgentName, HostName, Moment, Resolve as _},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The ledgers of this run folder: a file for each name of an agent, so that an agent that is started
/// again goes on where it was.
pub struct Leaks {
    folder: PathBuf,
    recorder: Recorder,
    quarantined: Sender<AgentId>,
}

/// Agents that are to be cut, which others wait for to be known. An agent comes here a few times in its
/// life.
const MAX_WAITING: usize = 1024;

impl Leaks {
    /// The ledgers in `run_dir`, and the agents whose wildcards are to be closed, as they come.
    pub fn at(run_dir: &Path, recorder: Recorder) -> (Self, Receiver<AgentId>) {
        let (quarantined, waiting) = channel(MAX_WAITING);
        (Self { folder: run_dir.join("ledgers"), recorder, quarantined }, waiting)
    }

    /// Whether agents of this name are in quarantine.
    pub fn is_quarantined(&self, name: &AgentName) -> bool {
        // What cannot be read is the worst that can have been written.
        self.read(name).map_or(true, |kept| kept.is_some_and(|kept| kept.quarantined))
    }

    /// Forgets the ledgers that have run empty, of agents that came under ever other names; but not of those
    /// that are `running`, which may be charged at this very moment.
    pub fn tidy(&self, running: &[AgentName]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let kept: Vec<PathBuf> = running.iter().map(|name| self.file(name)).collect();
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            let age =
                fs::metadata(&path).and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
            let is_held = || {
                let kept = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
                kept.is_none_or(|kept| kept.quarantined)
            };
            if age.is_some_and(|age| age > EMPTY) && !is_held() {
                // Another time, else.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Lifts what is held against an agent that does not run, and would be when it starts again.
    fn approve_ended(&self, name: &str) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| {
            Refusal::new(RefusalKind::Failed, format!("failed to change the ledger of `{name}`: {error:#}"))
        };
        let agent = AgentName::parse(name).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
        let Some(mut kept) = self.read(&agent).map_err(|error| failed(error.into()))? else {
            return Err(Refusal::new(RefusalKind::Unknown, format!("no agent `{name}`")));
        };
        kept.quarantined = false;
        for account in &mut kept.accounts {
            (account.frozen, account.rate_limited) = (false, false);
        }
        self.write(&agent, &kept).map_err(failed)
    }

    fn read(&self, name: &AgentName) -> io::Result<Option<Kept>> {
        match fs::read(self.file(name)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &AgentName, kept: &Kept) -> anyhow::Result<()> {
        memory::replace(&self.file(name), &serde_json::to_vec(kept)?)
    }

    fn file(&self, name: &AgentName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

impl dns::Watch for Leaks {
    fn open(&self, agent: &Agent) -> Ledger {
        let now = datapath::now();
        match self.read(agent.name()).and_then(|kept| kept.map(Kept::into_levels).transpose()) {
            Ok(Some(levels)) => Ledger::restore(levels, key(), now),
            Ok(None) => Ledger::new(key()),
            Err(error) => {
                tracing::error!(agent = %agent.name(), %error, "ledger cannot be read: it is taken as full");
                let budget = agent.given_policy().leaks().budget;
                let full = Levels { total: u64::from(budget.capacity()) * BIT, ..Levels::default() };
                Ledger::restore(full, key(), now)
            }
        }
    }

    fn charged(&self, agent: &AgentName, ledger: &Ledger) -> bool {
        let written = self.write(agent, &Kept::of(&ledger.levels()));
        if let Err(error) = &written {
            tracing::error!(%agent, "ledger is not remembered: names of wildcards are refused: {error:#}");
        }
        written.is_ok()
    }

    fn raised(&self, agent: &Agent, alert: Alert) {
        tracing::warn!(agent = %agent.name(), flag = %alert.flag, action = %alert.action, "{}", alert.evidence);
        self.recorder.alert(audit::Alert {
            agent: agent.name().clone(),
            sign: audit::Sign::Leak(alert.flag, alert.action),
            rule: agent.given_policy().wildcard_above(&alert.zone).cloned(),
            zone: Some(alert.zone),
            evidence: alert.evidence,
        });
    }

    fn quarantine(&self, agent: &Agent, ledger: &Ledger) {
        agent.quarantine(true);
        // What was not remembered is remembered with the next charge, or there is none.
        let _ = self.charged(agent.name(), ledger);
        if let Err(error) = self.quarantined.try_send(agent.id()) {
            tracing::error!(agent = %agent.name(), %error, "flows of wildcards are not cut");
        }
    }
}

/// After this, any bucket that nothing was added to is empty, and no name is frozen: a bucket holds eight
/// hours of what comes back, and an eighth of that comes back where the rate is limited.
const EMPTY: Duration = Duration::from_secs(65 * 3600);

/// In the unit of [`Levels`].
const BIT: u64 = 256;

/// Nobody outside can know it, so nobody can choose names that collide.
fn key() -> Key {
    let state = RandomState::new();
    [state.hash_one(0), state.hash_one(1)]
}

/// [`Levels`] as a file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    total: u64,
    quarantined: bool,
    accounts: Vec<KeptAccount>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptAccount {
    zone: String,
    is_shared: bool,
    level: u64,
    frozen: bool,
    rate_limited: bool,
}

impl Kept {
    fn of(levels: &Levels) -> Self {
        let account = |account: &AccountLevel| KeptAccount {
            zone: account.zone.to_string(),
            is_shared: account.is_shared,
            level: account.level,
            frozen: account.frozen,
            rate_limited: account.rate_limited,
        };
        Self {
            total: levels.total,
            quarantined: levels.quarantined,
            accounts: levels.accounts.iter().map(account).collect(),
        }
    }

    fn into_levels(self) -> io::Result<Levels> {
        let account = |account: KeptAccount| {
            let KeptAccount { zone, is_shared, level, frozen, rate_limited } = account;
            let zone = HostName::parse(&zone).map_err(io::Error::other)?;
            Ok(AccountLevel { zone, is_shared, level, frozen, rate_limited })
        };
        let accounts = self.accounts.into_iter().map(account).collect::<io::Result<_>>()?;
        Ok(Levels { total: self.total, quarantined: self.quarantined, accounts })
    }
}

impl Daemon {
    /// Closes wildcards in the kernel as they are closed in the policy.
    pub(super) async fn cut_quarantined(&self, mut waiting: Receiver<AgentId>) {
        while let Some(id) = waiting.recv().await {
            let _turn = self.changes.lock().await;
            let Some(running) = self.agents.get(id) else { continue };
            self.apply_or_deny(&running);
        }
    }

    /// Has the ledgers know which names were connected to since `moment`, and returns the moment from which
    /// on the next call is to look.
    pub(super) fn follow_names(&self, since: Moment) -> Moment {
        let next = datapath::now();
        for running in self.agents.all() {
            for name in self.fence.used_names(&running.agent, since) {
                self.names.connected(&running.agent, &name);
            }
            self.names.settle(&running.agent);
        }
        next
    }

    /// What the ledgers of the agents, or of the one of this name, hold.
    pub(super) fn leaks(&self, name: Option<&str>) -> Vec<(AgentName, Report)> {
        let running = self.agents.all().into_iter();
        running
            .filter(|running| name.is_none_or(|name| running.agent.name().as_str() == name))
            .map(|running| {
                let report = self.names.with_ledger(&running.agent, |ledger, now| ledger.report(now));
                (running.agent.name().clone(), report)
            })
            .collect()
    }

    /// Lifts what flags did to an agent, or to one zone of it. Levels stay as they are.
    pub(super) async fn approve(&self, name: &str, zone: Option<&HostName>) -> Result<(), Refusal> {
        let _turn = self.changes.lock().await;
        let named = |running: &Arc<Running>| running.agent.name().as_str() == name;
        let Some(running) = self.agents.all().into_iter().find(named) else {
            let approved = self.leaks.approve_ended(name);
            AgentName::parse(name).into_iter().for_each(|name| self.names.forget_ended(&name));
            return approved;
        };
        self.names.with_ledger(&running.agent, |ledger, _| {
            ledger.approve(zone);
            // A file that still says more than this errs on the safe side.
            let _ = dns::Watch::charged(&*self.leaks, running.agent.name(), ledger);
            running.agent.quarantine(ledger.is_quarantined());
        });
        tokio::task::block_in_place(|| self.apply(&running))
            .map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))
    }

    /// As [`Self::apply`]; what cannot be obeyed is denied.
    pub(super) fn apply_or_deny(&self, running: &Running) {
        if let Err(error) = tokio::task::block_in_place(|| self.apply(running)) {
            tracing::error!(agent = %running.agent.name(), "is denied everything: {error:#}");
            self.deny_all(running.agent.id(), running.home.cgroup.id());
        }
    }

    /// Makes kernel and proxy obey the policy that an agent has by now.
    pub(super) fn apply(&self, running: &Running) -> anyhow::Result<()> {
        let cut = self.fence.replace_policy(&running.agent, running.home.site())?;
        self.fence.apply_policies([(&*running.agent, running.home.site())])?;
        self.tell_cut(running, cut);
        self.server_names.rejudge(&running.agent, datapath::now());
        Ok(())
    }
}
