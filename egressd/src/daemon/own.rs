//! Policies that came with agents, in the place of the daemon's own files.

use super::{
    Daemon, loader, local,
    watch::{Wanted, is_roots},
};
use crate::{
    config::{Allowlists, ConfigError, Installed, Policies},
    control::protocol::PolicyText,
    policy::{Policy, Workload},
};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::block_in_place;

/// The policy of one agent, with what it included when it was read. An agent must not write its own policy: what
/// others than root may write is never read a second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnPolicy {
    /// As [`PolicyText`] has it.
    pub file: String,
    text: String,
    base_dir: PathBuf,
    /// Those beside it. Of an agent of a daemon that kept none: nothing.
    #[serde(default)]
    allowlists: Allowlists,
    /// The agent is root, and may write what root may. Not of one of a daemon that did not ask.
    #[serde(default)]
    is_of_root: bool,
}

impl OwnPolicy {
    /// What to watch for changes; nothing where these are not taken.
    pub fn watched(&self) -> Wanted {
        let files = vec![PathBuf::from(&self.file)];
        if self.is_roots() { Wanted { files, ..self.beside() } } else { Wanted::default() }
    }

    /// Its text as its file is by now, where root alone decides what the file says.
    pub fn read_again(self) -> Self {
        let path = PathBuf::from(&self.file);
        let is_safe = !self.is_of_root && is_roots(&path) && path.parent().is_some_and(is_roots);
        match fs::read_to_string(&path) {
            Ok(text) if is_safe => Self { text, ..self },
            Ok(_) | Err(_) => self,
        }
    }

    /// Whether root alone, and not the agent, decides what lies beside it. Not where nothing does: somebody may be
    /// about to put something there.
    fn is_roots(&self) -> bool {
        !self.is_of_root && is_roots(&self.base_dir) && self.beside().writable_by_others().is_none()
    }

    /// Where its allowlists may be.
    fn beside(&self) -> Wanted {
        Wanted { folders: local::with_allowlists(&self.base_dir).into(), files: Vec::new() }
    }
}

/// What an agent is to obey, and its own policy, where that says so.
pub struct Given {
    pub policy: Arc<Policy>,
    pub own: Option<OwnPolicy>,
}

impl Daemon {
    /// What a new agent is to obey: the policy that somebody brings with it, or the daemon's own files.
    pub(super) fn give(
        &self,
        workload: &Workload,
        brought: Option<PolicyText>,
    ) -> Result<Given, ConfigError> {
        let own =
            brought.map(|policy| block_in_place(|| self.first_of_its_own(workload, policy))).transpose()?;
        Ok(self.given(workload, own))
    }

    /// As [`Self::give`], for an agent that an earlier daemon gave its `own` policy, or none.
    pub(super) fn give_again(
        &self,
        workload: &Workload,
        own: Option<OwnPolicy>,
    ) -> Result<Given, ConfigError> {
        let own = own.map(|own| block_in_place(|| self.compile_own(own))).transpose()?;
        Ok(self.given(workload, own))
    }

    fn given(&self, workload: &Workload, own: Option<(OwnPolicy, Policies)>) -> Given {
        match own {
            Some((own, policies)) => Given { policy: policies.for_workload(workload), own: Some(own) },
            None => Given { policy: self.policies.load().policies.for_workload(workload), own: None },
        }
    }

    /// Compiles a policy that somebody brings with an agent.
    fn first_of_its_own(
        &self,
        workload: &Workload,
        policy: PolicyText,
    ) -> Result<(OwnPolicy, Policies), ConfigError> {
        let PolicyText { file, text, base_dir } = policy;
        let (allowlists, policies) = self.compile(&file, &text, &base_dir, None)?;
        // Of one that is adopted nobody knows whose processes it has.
        let is_of_root = workload.uid.is_none_or(|uid| uid == 0);
        Ok((OwnPolicy { file, text, base_dir, allowlists, is_of_root }, policies))
    }

    /// Compiles a policy that an agent has, with the allowlists beside it as they are by now, where root alone
    /// decides what they say.
    pub(super) fn compile_own(&self, own: OwnPolicy) -> Result<(OwnPolicy, Policies), ConfigError> {
        let OwnPolicy { file, text, base_dir, allowlists, .. } = &own;
        let kept = (!own.is_roots()).then_some(allowlists);
        let (found, policies) = self.compile(file, text, base_dir, kept)?;
        let allowlists = if kept.is_some() { own.allowlists } else { found };
        Ok((OwnPolicy { allowlists, ..own }, policies))
    }

    /// The allowlists that were found beside it, and what it all says.
    fn compile(
        &self,
        file: &str,
        text: &str,
        base_dir: &Path,
        kept: Option<&Allowlists>,
    ) -> Result<(Allowlists, Policies), ConfigError> {
        let config = &self.options.config;
        let registries = Installed::new(config.cache_dir.clone());
        let loader = loader(config, &registries);
        let loader = match kept {
            Some(kept) => loader.with_kept(kept),
            None => loader,
        };
        let policies = loader.load_str(file, text, base_dir)?;
        Ok((loader.found(), policies))
    }
}
