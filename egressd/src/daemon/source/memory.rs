//! What is remembered of a repository from one daemon to the next.

use super::store::About;
use crate::{
    audit::Time,
    control::protocol::{PastRevision, RevisionOutcome},
    daemon::memory::replace,
    policy::Revision,
};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::{fs, io::ErrorKind, path::Path};

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    in_force: Option<String>,
    pub since: Option<Time>,
    /// What newer commits must stand on, also after a rollback.
    newest: Option<String>,
    /// Newer commits wait.
    pub pinned: bool,
    /// Oldest first.
    past: Vec<PastRevision>,
}

/// Revisions that are remembered, whatever became of them.
const MAX_PAST: usize = 100;

/// Letters of why a commit was refused.
const MAX_WHY: usize = 500;

/// Digits of a commit that name it, at the least.
const MIN_DIGITS: usize = 4;

impl Memory {
    /// # Errors
    /// There is a file, and it cannot be read: what was in force is not known, nor what newer commits must stand on.
    pub fn read(path: &Path) -> Result<Self> {
        let named = || format!("failed to read `{}`", path.display());
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(named),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(named),
        }
    }

    /// # Errors
    /// The file stays as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        replace(path, &serde_json::to_vec(self)?)
    }

    pub fn in_force(&self) -> Option<Revision> {
        self.in_force.as_deref().and_then(Revision::parse)
    }

    pub fn newest(&self) -> Option<Revision> {
        self.newest.as_deref().and_then(Revision::parse)
    }

    /// What may be put in force without asking the repository, or must be known to judge what comes.
    pub fn kept(&self) -> Vec<Revision> {
        let was_in_force = self.past.iter().filter(|past| past.outcome != RevisionOutcome::Refused);
        let past = was_in_force.filter_map(|past| Revision::parse(&past.commit));
        self.in_force().into_iter().chain(self.newest()).chain(past).collect()
    }

    /// `commit` is in force, because it is the newest.
    pub fn entered(&mut self, commit: &Revision, about: About) {
        self.in_force = Some(commit.as_str().to_owned());
        self.newest.clone_from(&self.in_force);
        (self.since, self.pinned) = (Some(Time::now()), false);
        self.add(commit, RevisionOutcome::Entered, None, about);
    }

    /// `commit` is in force, because somebody said so; newer ones wait.
    pub fn rolled_back(&mut self, commit: &Revision, about: About) {
        self.in_force = Some(commit.as_str().to_owned());
        (self.since, self.pinned) = (Some(Time::now()), true);
        self.add(commit, RevisionOutcome::RolledBack, None, about);
    }

    /// `commit` is not in force. Told once, however often it is looked at.
    pub fn refused(&mut self, commit: &Revision, why: &str) {
        let is_known = self
            .past
            .last()
            .is_some_and(|last| last.commit == commit.as_str() && last.outcome == RevisionOutcome::Refused);
        if !is_known {
            let why = why.chars().take(MAX_WHY).collect();
            let about = About { subject: String::new(), author: String::new(), signer: None };
            self.add(commit, RevisionOutcome::Refused, Some(why), about);
        }
    }

    /// Newest first.
    pub fn history(&self) -> Vec<PastRevision> {
        let mut history: Vec<_> = self.past.iter().rev().cloned().collect();
        let is_in_force = |past: &&mut PastRevision| {
            past.outcome != RevisionOutcome::Refused && Some(&past.commit) == self.in_force.as_ref()
        };
        if let Some(past) = history.iter_mut().find(is_in_force) {
            past.in_force = true;
        }
        history
    }

    /// The commit that a rollback to `wanted` means: one that was in force, by its first digits; else the last
    /// that was before the one in force.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn past(&self, wanted: Option<&str>) -> Result<Revision> {
        let Some(wanted) = wanted else { return self.before() };
        let was_in_force = self.past.iter().filter(|past| past.outcome != RevisionOutcome::Refused);
        let mut commits: Vec<&str> = was_in_force.map(|past| past.commit.as_str()).collect();
        commits.sort_unstable();
        commits.dedup();
        commits.retain(|commit| wanted.len() >= MIN_DIGITS && commit.starts_with(wanted));
        match commits.as_slice() {
            [commit] => Revision::parse(commit).with_context(|| format!("`{commit}` is no commit")),
            [] => anyhow::bail!(
                "no revision that was in force begins with `{wanted}`: `egressctl policy history` shows them"
            ),
            [_, _, ..] => anyhow::bail!("more than one revision begins with `{wanted}`: write more digits"),
        }
    }

    /// The commit that the one in force took the place of when it was the newest.
    fn before(&self) -> Result<Revision> {
        let newest_first = self.past.iter().rev();
        let entered = newest_first.filter(|past| past.outcome == RevisionOutcome::Entered);
        let since = entered.skip_while(|past| Some(&past.commit) != self.in_force.as_ref());
        let mut older = since.filter(|past| Some(&past.commit) != self.in_force.as_ref());
        let before = older.next().and_then(|past| Revision::parse(&past.commit));
        before.context("no revision is known that was in force before this one")
    }

    fn add(&mut self, commit: &Revision, outcome: RevisionOutcome, why: Option<String>, about: About) {
        let About { subject, author, signer } = about;
        let (time, commit) = (Time::now(), commit.as_str().to_owned());
        self.past.push(PastRevision { time, commit, outcome, why, subject, author, signer, in_force: false });
        let surplus = self.past.len().saturating_sub(MAX_PAST);
        self.past.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_means_the_revision_before_or_one_that_was_in_force() {
        let mut memory = Memory::default();
        assert!(memory.past(None).is_err(), "nothing was in force");
        memory.entered(&commit('a'), about());
        assert!(memory.past(None).is_err(), "nothing was in force before");
        memory.refused(&commit('d'), "broken");
        memory.entered(&commit('b'), about());
        memory.entered(&commit('c'), about());
        assert_eq!(memory.past(None).unwrap(), commit('b'));
        assert_eq!(memory.past(Some("aaaa")).unwrap(), commit('a'));
        assert!(memory.past(Some("dddd")).is_err(), "what was refused was never in force");
        assert!(memory.past(Some("aa")).is_err() && memory.past(Some("")).is_err(), "too few digits");
        memory.rolled_back(&commit('b'), about());
        assert_eq!(memory.past(None).unwrap(), commit('a'), "never back to what was left");
        assert_eq!((memory.in_force(), memory.newest()), (Some(commit('b')), Some(commit('c'))));
        assert!(memory.pinned);
    }

    #[test]
    fn a_refused_revision_is_told_once_and_bounded() {
        let mut memory = Memory::default();
        memory.entered(&commit('a'), about());
        for _ in 0..3 {
            memory.refused(&commit('b'), &"x".repeat(10_000));
        }
        let history = memory.history();
        assert_eq!(history.len(), 2);
        assert_eq!(history[0].why.as_ref().unwrap().len(), MAX_WHY);
        assert!(history[1].in_force && !history[0].in_force);
        for _ in 0..MAX_PAST {
            memory.entered(&commit('c'), about());
        }
        assert_eq!(memory.history().len(), MAX_PAST);
    }

    #[test]
    fn what_was_remembered_reads_the_same_and_a_torn_file_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.json");
        assert_eq!(Memory::read(&path).unwrap(), Memory::default());
        let mut memory = Memory::default();
        memory.entered(&commit('a'), about());
        memory.write(&path).unwrap();
        assert_eq!(Memory::read(&path).unwrap(), memory);
        fs::write(&path, "{\"in_force\":").unwrap();
        assert!(Memory::read(&path).is_err());
    }

    fn commit(digit: char) -> Revision {
        Revision::parse(&digit.to_string().repeat(40)).unwrap()
    }

    fn about() -> About {
        About { subject: "say why".to_owned(), author: "me".to_owned(), signer: None }
    }
}
