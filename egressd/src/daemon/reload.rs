//! Policies: compiled, and replaced all at once or not at all.

use super::{
    Daemon, Loaded, agents::Running, follow, load, local, memory::Remembered, own::OwnPolicy, source::Source,
    terms,
};
use crate::{
    audit::Change,
    control::protocol::{Refusal, RefusalKind, ReloadSummary},
    datapath::{self, Fence},
    policy::{Operator, Policy, Revision},
};
use std::sync::{Arc, PoisonError};
use tokio::task::block_in_place;

/// What one agent is to obey instead.
struct Replacement {
    running: Arc<Running>,
    policy: Arc<Policy>,
    own_policy: Option<OwnPolicy>,
    /// That the policy is of.
    revision: Option<Revision>,
}

impl Replacement {
    /// The line of the log.
    fn told(&self, loaded: &Loaded, Cause { how, by }: &Cause) -> Change {
        let origin = self.own_policy.as_ref().map_or_else(|| origin(loaded), |own| own.file.clone());
        Change::of_policy(Some(self.running.agent.name()), origin, how, by.clone())
    }
}

/// Where policies are from.
fn origin(loaded: &Loaded) -> String {
    match &loaded.revision {
        Some(revision) => revision.to_string(),
        None => {
            let files = loaded.files.iter().map(|file| file.display().to_string());
            files.collect::<Vec<_>>().join(", ")
        }
    }
}

/// How policies came to be replaced, and who asked for it, where somebody did.
#[derive(Debug, Clone)]
pub struct Cause {
    how: &'static str,
    by: Option<Operator>,
}

impl Cause {
    pub fn of(how: &'static str, operator: Operator) -> Self {
        Self { how, by: Some(operator) }
    }

    pub fn by_nobody(how: &'static str) -> Self {
        Self { how, by: None }
    }
}

impl Daemon {
    /// Replaces every policy by what the files say, or none.
    pub(super) async fn replace_policies(&self, cause: Cause) -> Result<ReloadSummary, Refusal> {
        if let Some(source) = &self.source
            && let Some(summary) = self.catch_up(source, cause.clone()).await?
        {
            return Ok(summary);
        }
        let _turn = self.changes.lock().await;
        let outcome = block_in_place(|| self.put_loaded_in_force(self.load_again()?, cause));
        self.note(outcome.as_ref().err());
        outcome
    }

    /// The same, where the files changed by themselves: nothing is done where they say what is in force, and
    /// nothing of what others than root may write. Says whether policies were replaced.
    pub(super) async fn replace_changed(&self) -> bool {
        let _turn = self.changes.lock().await;
        let outcome = block_in_place(|| self.replace_if_other());
        self.note(outcome.as_ref().err());
        match outcome {
            Ok(None) | Err(_) => false,
            Ok(Some(summary)) => {
                let (files, agents) = (summary.policies.len(), summary.changed_agents.join(", "));
                tracing::info!(files, %agents, "policy files changed: reloaded");
                true
            }
        }
    }

    fn replace_if_other(&self) -> Result<Option<ReloadSummary>, Refusal> {
        let before = self.policies.load();
        let config = &self.options.config;
        let is_folder = self.options.policies.is_empty() && self.source.is_none();
        if is_folder && !before.files.is_empty() && !config.policy_dir.is_dir() {
            // Somebody may be about to put another in its place; to deny everything takes an empty folder.
            let message = format!("there is no folder `{}`", config.policy_dir.display());
            return Err(Refusal::new(RefusalKind::Invalid, message));
        }
        let loaded = self.load_again()?;
        let mut replacements = self.compile_all(&loaded)?;
        // An agent whose policy is as it was costs nothing: others wait for theirs.
        replacements.retain(|new| *new.running.agent.given_policy() != *new.policy);
        if loaded.policies == before.policies && replacements.is_empty() {
            return Ok(None);
        }
        if let Some(path) = local::wanted(&self.options, std::iter::empty()).writable_by_others() {
            let message = format!(
                "`{}` may be written by others than root, so that changes are not taken by themselves: \
                 look at them and run `egressctl reload`",
                path.display()
            );
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        }
        self.put_all_in_force(loaded, replacements, Cause::by_nobody("files changed")).map(Some)
    }

    /// Replaces every policy by what was `loaded`, or none.
    pub(super) fn put_loaded_in_force(&self, loaded: Loaded, cause: Cause) -> Result<ReloadSummary, Refusal> {
        let replacements = self.compile_all(&loaded)?;
        self.put_all_in_force(loaded, replacements, cause)
    }

    /// What the files say by now: those of this host, or of the revision in force with the allowlists of this host.
    fn load_again(&self) -> Result<Loaded, Refusal> {
        let loaded = match self.source.as_ref().and_then(Source::files) {
            Some(files) => follow::load(&self.options, &files),
            None => load(&self.options),
        };
        loaded.map_err(|error| Refusal::new(RefusalKind::Invalid, error))
    }

    fn put_all_in_force(
        &self,
        loaded: Loaded,
        replacements: Vec<Replacement>,
        cause: Cause,
    ) -> Result<ReloadSummary, Refusal> {
        let is_changed = |new: &&Replacement| *new.running.agent.given_policy() != *new.policy;
        let mut changed: Vec<Change> =
            replacements.iter().filter(is_changed).map(|new| new.told(&loaded, &cause)).collect();
        let changed_agents =
            changed.iter().filter_map(|change| change.agent.as_ref()).map(ToString::to_string).collect();
        let before = self.policies.load();
        if changed.is_empty() && (before.policies != loaded.policies || before.revision != loaded.revision) {
            let Cause { how, by } = cause;
            changed.push(Change::of_policy(None, origin(&loaded), how, by));
        }
        self.replace_all(replacements)?;
        changed.into_iter().for_each(|change| self.recorder.change(change));
        let policies = loaded.files.clone();
        self.policies.store(Arc::new(loaded));
        Ok(ReloadSummary { policies, changed_agents, warnings: Vec::new() })
    }

    /// What every agent is to obey; nothing is changed yet.
    fn compile_all(&self, loaded: &Loaded) -> Result<Vec<Replacement>, Refusal> {
        let invalid = |error: &dyn std::fmt::Display| Refusal::new(RefusalKind::Invalid, error);
        let mut replacements = Vec::new();
        for running in self.agents.all() {
            let workload = &running.birth.workload;
            let (policy, own_policy) = match running.own_policy() {
                Some(own) => {
                    let (own, policies) =
                        self.compile_own(own.read_again()).map_err(|error| invalid(&error))?;
                    (policies.for_workload(workload), Some(own))
                }
                None => (loaded.policies.for_workload(workload), None),
            };
            let policy = running.birth.obeyed(policy);
            let whole = policy.lending(&running.agent.loans());
            Fence::holds(&whole).map_err(|error| invalid(&error))?;
            let revision = if own_policy.is_some() { None } else { loaded.revision.clone() };
            replacements.push(Replacement { running, policy, own_policy, revision });
        }
        Ok(replacements)
    }

    /// Puts all of `replacements` in force; where the kernel fails half way, what was before.
    fn replace_all(&self, replacements: Vec<Replacement>) -> Result<(), Refusal> {
        let mut before: Vec<Replacement> = Vec::new();
        let mut outcome = Ok(());
        for new in replacements {
            let (running, policy) = (Arc::clone(&new.running), new.running.agent.given_policy());
            let (own_policy, revision) =
                (running.own_policy(), self.recorder.revision_of(running.agent.name()));
            before.push(Replacement { policy, own_policy, revision, running });
            outcome = self.put_in_force(new);
            if outcome.is_err() {
                break;
            }
        }
        // Also what is of no single agent, should somebody have flushed it.
        outcome.and_then(|()| self.apply_policies_of(before.iter().map(|old| &*old.running))).map_err(
            |error| {
                before.into_iter().for_each(|old| self.put_back(old));
                Refusal::new(RefusalKind::Failed, format!("nothing was replaced: {error:#}"))
            },
        )
    }

    /// The second deny of those agents, in one transaction.
    fn apply_policies_of<'a>(&self, running: impl IntoIterator<Item = &'a Running>) -> anyhow::Result<()> {
        let agents = running.into_iter().map(|running| (&*running.agent, running.home.site()));
        Ok(self.fence.apply_policies(agents)?)
    }

    /// Has all but the second deny obey `new`.
    fn put_in_force(&self, new: Replacement) -> anyhow::Result<()> {
        let Replacement { running, policy, own_policy, revision } = new;
        if own_policy != running.own_policy() {
            // First what the next daemon is to obey, should this one be killed.
            let (agent, home) = (&running.agent, &running.home);
            self.memory().write(&Remembered::of(agent, home, own_policy.clone(), &running.birth))?;
            *running.own_policy.lock().unwrap_or_else(PoisonError::into_inner) = own_policy;
        }
        running.agent.replace_policy(policy);
        self.recorder.judge_by(running.agent.name(), revision);
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
        if let Err(error) = self.put_in_force(old).and_then(|()| self.apply_policies_of([&*running])) {
            tracing::error!(agent = %running.agent.name(), "is denied everything: {error:#}");
            self.deny_all(running.agent.id(), running.home.cgroup.id());
        }
    }
}
