//! Policies: compiled, and replaced all at once or not at all.

use super::{Daemon, agents::Running, load, loader, memory::Remembered, terms};
use crate::{
    config::{self, Installed, Policies},
    control::protocol::{PolicyText, Refusal, RefusalKind, ReloadSummary},
    datapath::{self, Fence},
    policy::{Policy, Workload},
};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};
use tokio::task::block_in_place;

/// What one agent is to obey instead.
struct Replacement {
    running: Arc<Running>,
    policy: Arc<Policy>,
    own_policy: Option<PolicyText>,
}

impl Daemon {
    /// Replaces every policy, or none.
    pub(super) async fn replace_policies(&self) -> Result<ReloadSummary, Refusal> {
        let _turn = self.changes.lock().await;
        block_in_place(|| {
            let loaded = load(&self.options).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
            let replacements = self.compile_all(&loaded.policies)?;
            let changed = replacements.iter().filter(|new| *new.running.agent.given_policy() != *new.policy);
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
            let workload = &running.birth.workload;
            let own_policy = running.own_policy().map(read_again);
            let policy = match &own_policy {
                Some(text) => self.compile(text).map_err(|error| invalid(&error))?.for_workload(workload),
                None => policies.for_workload(workload),
            };
            let policy = running.birth.obeyed(policy);
            let whole = policy.lending(&running.agent.loans());
            Fence::holds(&whole).map_err(|error| invalid(&error))?;
            replacements.push(Replacement { running, policy, own_policy });
        }
        Ok(replacements)
    }

    /// Puts all of `replacements` in force; where the kernel fails half way, what was before.
    fn replace_all(&self, replacements: Vec<Replacement>) -> Result<(), Refusal> {
        let mut before: Vec<Replacement> = Vec::new();
        for new in replacements {
            let (running, policy) = (Arc::clone(&new.running), new.running.agent.given_policy());
            before.push(Replacement { policy, own_policy: running.own_policy(), running });
            if let Err(error) = self.put_in_force(new) {
                before.into_iter().for_each(|old| self.put_back(old));
                let message = format!("nothing was replaced: {error:#}");
                return Err(Refusal::new(RefusalKind::Failed, message));
            }
        }
        // Also what is of no single agent, should somebody have flushed it.
        self.fence.apply_table().map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))
    }

    fn put_in_force(&self, new: Replacement) -> anyhow::Result<()> {
        let Replacement { running, policy, own_policy } = new;
        // First what the next daemon is to obey, should this one be killed.
        self.memory().write(&Remembered::of(
            &running.agent,
            &running.home,
            own_policy.clone(),
            &running.birth,
        ))?;
        *running.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = own_policy;
        running.agent.replace_policy(policy);
        running.agent.live(terms::occasion(running.birth.born), datapath::now());
        // At once: a name that the agent asks for first would leave at a moment of its choice.
        self.names.keep_warm(&running.agent);
        let cut = self.fence.replace_policy(&running.agent, running.home.site())?;
        self.tell_cut(&running, cut);
        self.server_names.rejudge(&running.agent, datapath::now());
        Ok(())
    }

    /// What cannot be put back is denied.
    fn put_back(&self, old: Replacement) {
        let running = Arc::clone(&old.running);
        if let Err(error) = self.put_in_force(old) {
            tracing::error!(agent = %running.agent.name(), "is denied everything: {error:#}");
            self.deny_all(running.agent.id(), running.home.cgroup.id());
        }
    }

    /// The policy of an agent: its own, or what the daemon's files say for it.
    pub(super) fn policy_for(
        &self,
        workload: &Workload,
        own: Option<&PolicyText>,
    ) -> Result<Arc<Policy>, config::ConfigError> {
        Ok(match own {
            Some(text) => block_in_place(|| self.compile(text))?.for_workload(workload),
            None => self.policies.load().policies.for_workload(workload),
        })
    }

    pub(super) fn compile(&self, text: &PolicyText) -> Result<Policies, config::ConfigError> {
        let config = &self.options.config;
        let registries = Installed::new(config.cache_dir.clone());
        loader(config, &registries).load_str(&text.file, &text.text, &text.base_dir)
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
