//! Policy files of this host: read again as they change, and what is said of those that cannot be.

use super::{
    Daemon, Options,
    watch::{Told, Wanted, Watch},
};
use crate::{
    audit::Time,
    config::Reload,
    control::protocol::{Check, Refusal},
};
use anyhow::{Context, Result};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

/// What is known of the policy files beside what is in force.
#[derive(Debug, Default)]
pub struct Files {
    failure: Mutex<Option<Failure>>,
    /// How often they were read and refused.
    refusals: AtomicU64,
    /// Why changes are not seen.
    unwatched: Mutex<Option<String>>,
    /// What somebody writes to and does not close.
    unfinished: Mutex<Option<String>>,
    /// An agent came with a policy file of its own.
    others: Notify,
}

/// Why the files are not in force as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    why: String,
    since: Time,
}

/// After a look that found nothing: files that change on and on take no more than a tenth of a processor.
const PAUSE: Duration = Duration::from_millis(200);

impl Daemon {
    /// Reads policy files again when they change, until the daemon ends.
    pub(super) async fn keep_reading(self: Arc<Self>, mut watch: Watch) {
        loop {
            // Before they are read: a change meanwhile is told.
            self.files.watched(watch.arm(&self.wanted()));
            // What is half written may lack what denies.
            if !watch.is_unfinished() && !self.replace_changed().await {
                sleep(PAUSE).await;
            }
            let told = tokio::select! {
                told = watch.settled() => told.map(Some),
                () = self.files.others.notified() => Ok(None),
            };
            match told {
                Ok(Some(Told::Unfinished(name))) => self.files.writing(Some(&name)),
                Ok(Some(Told::Changed)) => self.files.writing(None),
                Ok(None) => {}
                Err(error) => {
                    self.files.watched(Err(error));
                    return;
                }
            }
        }
    }

    /// The files whose changes matter.
    fn wanted(&self) -> Wanted {
        let own = self.agents.all().into_iter().filter_map(|running| running.own_policy());
        wanted(&self.options, own.map(|own| own.watched()))
    }

    /// Has the file of an agent's own policy watched, too.
    pub(super) fn watch_own_policy(&self) {
        self.files.others.notify_one();
    }

    /// Keeps in mind why the files are not in force as they are, or that they are.
    pub(super) fn note(&self, refusal: Option<&Refusal>) {
        self.files.refusals.fetch_add(u64::from(refusal.is_some()), Ordering::Relaxed);
        let why = refusal.map(|refusal| brief(&refusal.message));
        let mut failure = self.files.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().map(|failure| &failure.why) == why.as_ref() {
            return;
        }
        match refusal {
            Some(refusal) => {
                tracing::error!("policy files are not in force as they are\n{}", refusal.message)
            }
            None => tracing::info!("policy files are in force as they are"),
        }
        *failure = why.map(|why| Failure { why, since: Time::now() });
    }

    pub(super) fn policy_files_are_in_force(&self) -> Check {
        let failure = self.files.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unwatched = self.files.unwatched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unfinished = self.files.unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (passed, detail) = match (failure, unwatched, unfinished) {
            (Some(Failure { why, since }), ..) => {
                (false, format!("not in force as they are since {since}: {why}"))
            }
            (None, Some(why), _) => (false, format!("changes are not seen: {why}; run `egressctl reload`")),
            (None, None, Some(name)) => {
                (false, format!("changes wait until `{name}` is closed, to which somebody writes"))
            }
            (None, None, None) => (true, "in force as they are".to_owned()),
        };
        Check { name: "policy files".to_owned(), passed, detail }
    }
}

impl Files {
    /// Whether they are not in force as they are.
    pub fn are_refused(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    fn writing(&self, name: Option<&OsStr>) {
        let name = name.map(|name| name.to_string_lossy().into_owned());
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(name), None) = (&name, &*unfinished) {
            tracing::warn!(%name, "policy file is being written: changes wait until it is closed");
        }
        *unfinished = name;
    }

    fn watched(&self, outcome: std::io::Result<()>) {
        if let Err(error) = &outcome {
            tracing::error!(%error, "changes of policy files are not seen");
        }
        let why = outcome.err().map(|error| error.to_string());
        *self.unwatched.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Tells of changes of the policy files that `options` name, if it is to.
pub fn watch(options: &Options) -> Result<Option<Watch>> {
    if options.config.reload == Reload::Manual {
        return Ok(None);
    }
    let mut watch = Watch::new().context("failed to watch policy files")?;
    watch.arm(&wanted(options, std::iter::empty())).context("failed to watch policy files")?;
    Ok(Some(watch))
}

/// The files whose changes matter to a daemon of these `options`, and those of agents' `own` policies.
pub fn wanted(options: &Options, own: impl Iterator<Item = Wanted>) -> Wanted {
    let config = &options.config;
    let mut wanted = Wanted::default();
    wanted.folders.extend(config.allowlist_dirs.iter().cloned());
    if options.policies.is_empty() && config.source.is_none() {
        wanted.folders.extend(with_allowlists(&config.policy_dir));
    }
    for file in &options.policies {
        wanted.folders.extend(with_allowlists(file.parent().unwrap_or(Path::new(""))));
        wanted.files.push(file.clone());
    }
    for Wanted { folders, files } in own {
        wanted.folders.extend(folders);
        wanted.files.extend(files);
    }
    for path in wanted.folders.iter_mut().chain(&mut wanted.files) {
        if let Ok(absolute) = std::path::absolute(&path) {
            *path = absolute;
        }
    }
    wanted
}

/// Folders in which nothing but policies lies, and which no agent is to write, whoever it is.
pub fn kept(options: &Options) -> Vec<PathBuf> {
    let config = &options.config;
    let is_used = options.policies.is_empty() && config.source.is_none();
    let policies = is_used.then(|| config.policy_dir.clone());
    config.allowlist_dirs.iter().cloned().chain(policies).collect()
}

/// A folder of policies, and where their allowlists may be beside it.
pub fn with_allowlists(folder: &Path) -> [PathBuf; 2] {
    [folder.to_owned(), folder.join("allowlists")]
}

/// The first thing that a message of several lines says, with its place.
pub fn brief(message: &str) -> String {
    let mut lines = message.lines().map(str::trim);
    let title = lines.next().unwrap_or_default();
    let title = title.strip_prefix("error: ").unwrap_or(title);
    match lines.next().and_then(|line| line.strip_prefix("--> ")) {
        Some(place) => format!("{place}: {title}"),
        None => title.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_one_line_with_its_place() {
        let message = "error: unknown key `privat`\n --> /etc/p.yaml:6:9\n  |\n6 | privat: true";
        assert_eq!(brief(message), "/etc/p.yaml:6:9: unknown key `privat`");
        assert_eq!(brief("error: failed to read `p`: gone"), "failed to read `p`: gone");
        assert_eq!(brief("nothing was replaced"), "nothing was replaced");
        assert_eq!(brief(""), "");
    }
}
