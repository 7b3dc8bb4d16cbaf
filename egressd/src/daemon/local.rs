//! Policy files of this host: read again as they change, and what is said of those that cannot be.

use super::{
    Daemon, Options,
    watch::{Wanted, Watch},
};
use crate::{
    audit::Time,
    config::Reload,
    control::protocol::{Check, PolicyText, Refusal},
};
use anyhow::{Context, Result};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};

/// What is known of the policy files beside what is in force.
#[derive(Debug, Default)]
pub struct Files {
    failure: Mutex<Option<Failure>>,
    /// Why changes are not seen.
    unwatched: Mutex<Option<String>>,
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
            if !self.replace_changed().await {
                sleep(PAUSE).await;
            }
            let others = tokio::select! {
                outcome = watch.settled() => outcome,
                () = self.files.others.notified() => Ok(()),
            };
            if others.is_err() {
                self.files.watched(others);
                return;
            }
        }
    }

    /// The files whose changes matter.
    fn wanted(&self) -> Wanted {
        let own = self.agents.all().into_iter().filter_map(|running| running.own_policy());
        wanted(&self.options, own.filter(|text| !is_for_others(text)))
    }

    /// Has the file of an agent's own policy watched, too.
    pub(super) fn watch_own_policy(&self) {
        self.files.others.notify_one();
    }

    /// Keeps in mind why the files are not in force as they are, or that they are.
    pub(super) fn note(&self, refusal: Option<&Refusal>) {
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
        let (passed, detail) = match (failure, unwatched) {
            (Some(Failure { why, since }), _) => {
                (false, format!("not in force as they are since {since}: {why}"))
            }
            (None, Some(why)) => (false, format!("changes are not seen: {why}; run `egressctl reload`")),
            (None, None) => (true, "in force as they are".to_owned()),
        };
        Check { name: "policy files".to_owned(), passed, detail }
    }
}

impl Files {
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

/// The files whose changes matter to a daemon of these `options`, and to agents with policies of their `own`.
pub fn wanted(options: &Options, own: impl Iterator<Item = PolicyText>) -> Wanted {
    let config = &options.config;
    let mut wanted = Wanted::default();
    wanted.folders.extend(config.allowlist_dirs.iter().cloned());
    if options.policies.is_empty() && config.source.is_none() {
        with_allowlists(&mut wanted, &config.policy_dir);
    }
    for file in &options.policies {
        with_allowlists(&mut wanted, file.parent().unwrap_or(Path::new("")));
        wanted.files.push(file.clone());
    }
    for text in own {
        with_allowlists(&mut wanted, &text.base_dir);
        wanted.files.push(PathBuf::from(text.file));
    }
    for path in wanted.folders.iter_mut().chain(&mut wanted.files) {
        if let Ok(absolute) = std::path::absolute(&path) {
            *path = absolute;
        }
    }
    wanted
}

/// Whether others than root may write what an agent's own policy is read from.
pub fn is_for_others(text: &PolicyText) -> bool {
    let mut wanted = Wanted::default();
    with_allowlists(&mut wanted, &text.base_dir);
    wanted.writable_by_others().is_some()
}

/// A folder of policies, and where their allowlists may be beside it.
fn with_allowlists(wanted: &mut Wanted, folder: &Path) {
    wanted.folders.extend([folder.to_owned(), folder.join("allowlists")]);
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
