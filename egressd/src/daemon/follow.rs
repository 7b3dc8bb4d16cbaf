//! Policies of a repository: put in force as it moves, and taken back when somebody says so.

use super::{
    Daemon, Loaded, Options, loader,
    reload::Cause,
    source::{Candidate, Files, Refused, Source},
};
use crate::{
    audit::Time,
    config::{ConfigError, Installed},
    control::protocol::{Check, PastRevision, Refusal, RefusalKind, ReloadSummary, Rollback},
};
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use tokio::{task::block_in_place, time::sleep};

/// The policies of the revision that is to be in force when a daemon starts: what was when the last one ended; else
/// the newest.
///
/// # Errors
/// There is none that may be put in force.
pub fn first(source: &Source, options: &Options) -> Result<Loaded> {
    let remembered = source.remembered().map(|found| {
        let candidate = found?;
        let loaded = load(options, &candidate.files).map_err(|error| refused(&candidate, &error))?;
        Ok((candidate, loaded))
    });
    let why = match remembered {
        Some(Ok((candidate, loaded))) => {
            source.stays(candidate);
            return Ok(loaded);
        }
        Some(Err(refused)) => {
            source.refused(&refused);
            format!("; what was in force before: {}", in_words(&refused))
        }
        None => String::new(),
    };
    let newest = || -> Result<Loaded, Refused> {
        let candidate = source.newest()?.ok_or_else(|| Refused {
            commit: None,
            why: format!(
                "newer commits wait for the end of a rollback: to end it, remove `{}`",
                source.file()
            ),
        })?;
        let loaded = load(options, &candidate.files).map_err(|error| refused(&candidate, &error))?;
        source.entered(candidate);
        source.is_well();
        Ok(loaded)
    };
    newest().map_err(|refused| {
        source.refused(&refused);
        anyhow!("{}{why}", in_words(&refused))
    })
}

/// Compiles the policies of a revision.
pub fn load(options: &Options, files: &Files) -> Result<Loaded, ConfigError> {
    let config = &options.config;
    let registries = Installed::new(config.cache_dir.clone());
    let policies = loader(config, &registries).of_revision(&files.tree).load(&files.files)?;
    let revision = Some(files.tree.revision.clone());
    Ok(Loaded { policies, files: files.names(), revision, time: Time::now() })
}

impl Daemon {
    /// Asks the repository again and again, until the daemon ends.
    pub(super) async fn keep_following(self: Arc<Self>) {
        let Some(source) = &self.source else { return };
        loop {
            // Whoever asks for the status is told; there is nobody else.
            let _ = self.catch_up(source, Cause::by_nobody("new commit")).await;
            match source.interval() {
                Some(interval) => sleep(interval).await,
                None => return,
            }
        }
    }

    /// Puts the newest revision in force, if it may be and nobody rolled back. None: it is.
    pub(super) async fn catch_up(
        &self,
        source: &Source,
        cause: Cause,
    ) -> Result<Option<ReloadSummary>, Refusal> {
        let _turn = source.turn.lock().await;
        let found = block_in_place(|| source.newest());
        let outcome = match found {
            Ok(None) => {
                source.is_well();
                return Ok(None);
            }
            Ok(Some(candidate)) => self.enter(source, candidate, Source::entered, cause).await,
            Err(refused) => Err(refused),
        };
        self.settle(source, outcome).map(Some)
    }

    pub(super) fn history(&self) -> Result<Vec<PastRevision>, Refusal> {
        Ok(self.source()?.history())
    }

    pub(super) async fn roll_back(&self, request: Rollback, cause: Cause) -> Result<ReloadSummary, Refusal> {
        let source = self.source()?;
        let _turn = source.turn.lock().await;
        let outcome = match block_in_place(|| source.past(request.revision.as_deref())) {
            Ok(candidate) => self.enter(source, candidate, Source::rolled_back, cause).await,
            Err(refused) => Err(refused),
        };
        // Nobody's commit is at fault where somebody asked for what cannot be.
        outcome.map_err(|refused| Refusal::new(RefusalKind::Invalid, in_words(&refused)))
    }

    pub(super) async fn follow(&self, cause: Cause) -> Result<ReloadSummary, Refusal> {
        let source = self.source()?;
        let unpinned = source.unpin();
        unpinned.map_err(|error| Refusal::new(RefusalKind::Failed, format!("{error:#}")))?;
        let summary = self.catch_up(source, cause).await?;
        let files = || self.policies.load().files.clone();
        let nothing =
            || ReloadSummary { policies: files(), changed_agents: Vec::new(), warnings: Vec::new() };
        Ok(summary.unwrap_or_else(nothing))
    }

    pub(super) fn newest_revision_is_in_force(&self) -> Option<Check> {
        let status = self.source.as_ref()?.status();
        let short = |commit: &str| commit.chars().take(12).collect::<String>();
        let (passed, detail) = match (&status.failure, &status.revision) {
            (Some(failure), _) => {
                let commit = failure.commit.as_deref().map(|commit| format!("{} ", short(commit)));
                let (commit, why) = (commit.unwrap_or_default(), super::local::brief(&failure.why));
                (false, format!("{commit}is not in force since {}: {why}", failure.since))
            }
            (None, Some(revision)) if status.pinned => {
                (true, format!("{} was rolled back to; `egressctl policy follow` goes on", short(revision)))
            }
            (None, Some(revision)) => (true, format!("{} is in force", short(revision))),
            (None, None) => (false, "no revision is in force".to_owned()),
        };
        Some(Check { name: "policy source".to_owned(), passed, detail })
    }

    /// Compiles `candidate` and puts it in force; then `remember` is told. Where that fails, all stays as it was.
    async fn enter(
        &self,
        source: &Source,
        candidate: Candidate,
        remember: fn(&Source, Candidate),
        cause: Cause,
    ) -> Result<ReloadSummary, Refused> {
        let _turn = self.changes.lock().await;
        block_in_place(|| {
            let loaded =
                load(&self.options, &candidate.files).map_err(|error| refused(&candidate, &error))?;
            let summary =
                self.put_loaded_in_force(loaded, cause).map_err(|error| refused(&candidate, &error))?;
            tracing::info!(revision = %candidate.files.tree.revision, "policies are in force");
            remember(source, candidate);
            Ok(summary)
        })
    }

    /// Keeps the outcome in mind.
    fn settle(
        &self,
        source: &Source,
        outcome: Result<ReloadSummary, Refused>,
    ) -> Result<ReloadSummary, Refusal> {
        match outcome {
            Ok(summary) => {
                source.is_well();
                Ok(summary)
            }
            Err(refused) => {
                source.refused(&refused);
                Err(Refusal::new(RefusalKind::Invalid, in_words(&refused)))
            }
        }
    }

    fn source(&self) -> Result<&Source, Refusal> {
        let none = "policies of this daemon are files of this host: give it a `source` in its own file";
        self.source.as_ref().ok_or_else(|| Refusal::new(RefusalKind::Invalid, none))
    }
}

fn refused(candidate: &Candidate, error: &dyn std::fmt::Display) -> Refused {
    Refused::of(&candidate.files.tree.revision, error)
}

fn in_words(refused: &Refused) -> String {
    match &refused.commit {
        Some(commit) => format!("commit {commit} was not put in force: {}", refused.why),
        None => refused.why.clone(),
    }
}

/// The source of a daemon with these `options`, and what is to be in force at its start.
pub fn open(options: &Options) -> Result<(Option<Source>, Loaded)> {
    match Source::open(options)? {
        Some(source) => {
            let loaded = first(&source, options).context("no policy was put in force")?;
            Ok((Some(source), loaded))
        }
        None => Ok((None, super::load(options).context("no policy was put in force")?)),
    }
}
