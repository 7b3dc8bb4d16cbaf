//! Policies from a repository: which commit is in force, which may follow it, and what was seen.

mod access;
mod complaint;
mod git;
mod memory;
mod signature;
mod store;
#[cfg(test)]
mod tests;

use super::{Options, watch::is_roots};
use crate::{
    audit::Time,
    config::{self, GitSource, Rewrites, Tree, Verify},
    control::protocol::{PastRevision, PolicySource, SourceFailure},
    policy::Revision,
};
use anyhow::{Context, Result, anyhow, ensure};
use memory::Memory;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use store::{About, Dated, Store};

/// The repository that policies come from.
#[derive(Debug)]
pub struct Source {
    config: GitSource,
    store: Store,
    file: PathBuf,
    state: Mutex<State>,
    /// How often a commit was looked at in vain.
    refusals: AtomicU64,
    /// One look at a time.
    pub turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    in_force: Option<Files>,
    /// A commit that waits for the end of a rollback.
    waiting: Option<Revision>,
    checked: Option<Time>,
    failure: Option<SourceFailure>,
}

/// The policy files of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub tree: Tree,
    pub files: Vec<PathBuf>,
}

impl Files {
    /// As people know them.
    pub fn names(&self) -> Vec<PathBuf> {
        let name = |path: &PathBuf| path.strip_prefix(&self.tree.root).unwrap_or(path).to_owned();
        self.files.iter().map(name).collect()
    }
}

/// A commit that may be put in force, as far as can be told without compiling it.
#[derive(Debug)]
pub struct Candidate {
    pub files: Files,
    about: About,
}

/// Why a commit is not put in force, or none could be looked at.
#[derive(Debug)]
pub struct Refused {
    pub commit: Option<Revision>,
    pub why: String,
}

impl Refused {
    pub fn of(commit: &Revision, why: impl ToString) -> Self {
        Self { commit: Some(commit.clone()), why: why.to_string() }
    }

    fn unasked(error: &anyhow::Error) -> Self {
        Self { commit: None, why: format!("{error:#}") }
    }
}

impl Source {
    /// The source that `options` name.
    ///
    /// # Errors
    /// What is remembered of it cannot be read, or its folder not be written.
    pub fn open(options: &Options) -> Result<Option<Self>> {
        let Some(config) = options.config.source.clone() else { return Ok(None) };
        ensure!(
            options.policies.is_empty(),
            "policies come from `{}`: leave `--policy` out, or `source` in the daemon's own file",
            config.repository
        );
        let folder = folder(options);
        let source = Self::at(config, &folder).context("failed to make policies from git ready")?;
        ensure!(
            is_roots(&folder),
            "`{}` could be replaced by others than root: give egressd a `state_dir` of root's",
            folder.display()
        );
        Ok(Some(source))
    }

    /// The source that keeps everything in `folder`.
    fn at(config: GitSource, folder: &Path) -> Result<Self> {
        let store = Store::open(&config, folder)?;
        let file = folder.join("memory.json");
        let state = Mutex::new(State { memory: Memory::read(&file)?, ..State::default() });
        Ok(Self {
            config,
            store,
            file,
            state,
            refusals: AtomicU64::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// What was in force when the last daemon ended, if it still may be; without asking anybody.
    pub fn remembered(&self) -> Option<Result<Candidate, Refused>> {
        let commit = self.state().memory.in_force()?;
        Some(self.candidate(&commit, Dated::AsItSays))
    }

    /// Asks the repository for a commit that is to be put in force. None: what is in force is the newest, or
    /// newer ones wait.
    ///
    /// # Errors
    /// It cannot be asked, or the commit may not be put in force.
    pub fn newest(&self) -> Result<Option<Candidate>, Refused> {
        let kept = self.state().memory.kept();
        let commit = self.store.fetch(&kept).map_err(|error| Refused::unasked(&error))?;
        let (in_force, newest) = {
            let mut state = self.state();
            state.checked = Some(Time::now());
            if state.memory.pinned {
                state.waiting = (state.memory.in_force() != Some(commit.clone())).then_some(commit);
                return Ok(None);
            }
            let is_in_force = state.in_force.as_ref().map(|files| files.tree.revision.clone());
            (is_in_force, state.memory.newest())
        };
        if in_force.as_ref() == Some(&commit) {
            return Ok(None);
        }
        self.follows(newest.as_ref(), &commit)?;
        let was_in_force = newest.as_ref() == Some(&commit);
        self.candidate(&commit, if was_in_force { Dated::AsItSays } else { Dated::Today }).map(Some)
    }

    /// A commit that was in force: see [`Memory::past`].
    ///
    /// # Errors
    /// There is none such, or it may not be put in force any more.
    pub fn past(&self, wanted: Option<&str>) -> Result<Candidate, Refused> {
        let commit = self.state().memory.past(wanted).map_err(|error| Refused::unasked(&error))?;
        self.candidate(&commit, Dated::AsItSays)
    }

    /// `candidate` was put in force, because it is the newest.
    pub fn entered(&self, candidate: Candidate) {
        let Candidate { files, about } = candidate;
        let mut state = self.state();
        state.memory.entered(&files.tree.revision, about);
        self.settle(state, files);
    }

    /// `candidate` was put in force, because somebody said so.
    pub fn rolled_back(&self, candidate: Candidate) {
        let Candidate { files, about } = candidate;
        let mut state = self.state();
        state.memory.rolled_back(&files.tree.revision, about);
        self.settle(state, files);
    }

    /// What the last daemon had put in force is in force again.
    pub fn stays(&self, candidate: Candidate) {
        self.state().in_force = Some(candidate.files);
    }

    /// Newer commits wait no longer.
    ///
    /// # Errors
    /// That cannot be remembered.
    pub fn unpin(&self) -> Result<()> {
        let mut state = self.state();
        let mut memory = state.memory.clone();
        memory.pinned = false;
        memory.write(&self.file)?;
        (state.memory, state.waiting) = (memory, None);
        Ok(())
    }

    /// Everything that was asked for is in force.
    pub fn is_well(&self) {
        if self.state().failure.take().is_some() {
            tracing::info!("the newest revision of the policies is in force");
        }
    }

    /// Keeps in mind why the newest commit is not in force, and says so once.
    pub fn refused(&self, refused: &Refused) {
        let Refused { commit, why } = refused;
        self.refusals.fetch_add(u64::from(commit.is_some()), Ordering::Relaxed);
        let mut state = self.state();
        if let Some(commit) = commit {
            state.memory.refused(commit, why);
            self.write(&state.memory);
        }
        let commit = commit.as_ref().map(|commit| commit.as_str().to_owned());
        let is_known =
            state.failure.as_ref().is_some_and(|known| known.commit == commit && known.why == *why);
        if !is_known {
            let named = commit.as_deref().unwrap_or("none");
            tracing::error!(commit = named, "policies stay as they are: the newest are refused\n{why}");
            state.failure = Some(SourceFailure { commit, why: why.clone(), since: Time::now() });
        }
    }

    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// The files in force.
    pub fn files(&self) -> Option<Files> {
        self.state().in_force.clone()
    }

    /// Where it is remembered what was in force.
    pub fn file(&self) -> std::path::Display<'_> {
        self.file.display()
    }

    /// How often it is to be asked.
    pub fn interval(&self) -> Option<std::time::Duration> {
        self.config.interval
    }

    pub fn status(&self) -> PolicySource {
        let state = self.state();
        let text = |revision: &Revision| revision.as_str().to_owned();
        PolicySource {
            git: self.config.repository.to_string(),
            reference: self.config.reference.clone(),
            path: self.config.path.clone(),
            signed: self.config.verify != Verify::No,
            revision: state.in_force.as_ref().map(|files| text(&files.tree.revision)),
            since: state.memory.since,
            pinned: state.memory.pinned,
            waiting: state.waiting.as_ref().map(text),
            checked: state.checked,
            failure: state.failure.clone(),
        }
    }

    /// Newest first.
    pub fn history(&self) -> Vec<PastRevision> {
        self.state().memory.history()
    }

    /// Whether `commit` may take the place of what was the newest. A remote that goes back would undo what was
    /// denied since.
    fn follows(&self, newest: Option<&Revision>, commit: &Revision) -> Result<(), Refused> {
        let (Some(newest), Rewrites::Refuse) = (newest, self.config.rewrites) else { return Ok(()) };
        match self.store.leads_to(newest, commit) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refused::of(
                commit,
                format!(
                    "does not stand on {newest}, which was in force: the ref went back, or was rewritten. Give it a \
                     commit that does, or say `allow_rewrite: true`"
                ),
            )),
            Err(error) => Err(Refused::of(commit, format!("{error:#}"))),
        }
    }

    fn candidate(&self, commit: &Revision, dated: Dated) -> Result<Candidate, Refused> {
        let act = || -> Result<Candidate> {
            let about = self.store.verify(commit, dated)?;
            let root = self.store.tree(commit, &self.config.path)?;
            let files = config::load_dir(&root.join(&self.config.path))?;
            ensure!(!files.is_empty(), "holds no policy file (`*.yaml`) in `{}`", self.config.path);
            let may_name_secrets = self.config.verify != Verify::No;
            let tree = Tree { root, revision: commit.clone(), may_name_secrets };
            Ok(Candidate { files: Files { tree, files }, about })
        };
        act().map_err(|error| Refused::of(commit, format!("{error:#}")))
    }

    fn settle(&self, mut state: MutexGuard<'_, State>, files: Files) {
        self.store.forget_trees_but(&files.tree.revision);
        state.in_force = Some(files);
        self.write(&state.memory);
    }

    fn write(&self, memory: &Memory) {
        if let Err(error) = memory.write(&self.file) {
            tracing::error!("the revision in force is forgotten with this daemon: {error:#}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where everything of the source of a daemon is.
pub fn folder(options: &Options) -> PathBuf {
    options.config.state_dir.join("source").join(&options.instance)
}

/// Removes it.
pub fn remove(options: &Options) -> Result<()> {
    match options.config.source {
        Some(_) => fs::remove_dir_all(folder(options)).map_err(|error| anyhow!(error)),
        None => Ok(()),
    }
}
