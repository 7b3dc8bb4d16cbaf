//! Where this machine's package tools download from, as the tools themselves say.
//!
//! No registry is named here: a policy says `packages: [python]`, and the installed tool is asked
//! where it is configured to go, so that a company's mirror is followed.

mod ask;
mod cache;
mod child;
mod site;

pub use child::{Ask, Child, Run, ToolError};
#[cfg(any(test, fuzzing))]
pub(super) use site::sites_in;
pub use site::{Scheme, Site};

use cache::Cache;
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tells where package tools download from. Implemented by [`Installed`], and by tests.
pub trait Registries: Send + Sync {
    /// The sites that the tool of `manager` contacts, sorted. Never empty.
    ///
    /// # Errors
    /// The tool is missing, failed, or names no site.
    fn sites(&self, manager: Manager) -> Result<Vec<Site>, ToolError>;
}

/// A package tool, by the word of `packages:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Manager {
    /// pip.
    Python,
    /// npm.
    Node,
    /// cargo.
    Rust,
    /// apt.
    Debian,
}

impl Manager {
    /// Every manager, in the order in which errors list them.
    pub const ALL: [Self; 4] = [Self::Python, Self::Node, Self::Rust, Self::Debian];

    /// The word of policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
            Self::Rust => "rust",
            Self::Debian => "debian",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The tools that are installed on this machine, asked once and remembered.
#[derive(Debug)]
pub struct Installed<R = Child> {
    run: R,
    cache: Cache,
    remembered: Mutex<HashMap<Manager, Remembered>>,
}

/// An answer.
#[derive(Debug)]
struct Remembered {
    /// Of the configuration that it was given under.
    fingerprint: u64,
    sites: Vec<Site>,
    /// None of a complete one, which counts for as long as the process lives.
    until: Option<Instant>,
}

impl Remembered {
    fn counts(&self, fingerprint: u64) -> bool {
        self.fingerprint == fingerprint && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// How long an answer counts that the registry did not complete: to ask one that is dead takes half a minute, and
/// would hold up every reload.
const KEEP_INCOMPLETE: Duration = Duration::from_secs(60);

impl Installed {
    /// The installed tools. Their answers outlive the process in `cache_dir`, where that is
    /// writable and belongs to this user.
    #[must_use]
    pub fn new(cache_dir: PathBuf) -> Self {
        Self::with(Child, cache_dir)
    }
}

impl<R: Run> Installed<R> {
    /// Tools that are run by `run`.
    #[must_use]
    pub fn with(run: R, cache_dir: PathBuf) -> Self {
        Self { run, cache: Cache::new(cache_dir), remembered: Mutex::default() }
    }
}

impl<R: Run> Registries for Installed<R> {
    fn sites(&self, manager: Manager) -> Result<Vec<Site>, ToolError> {
        let fingerprint = cache::fingerprint(manager);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = remembered.get(&manager).filter(|held| held.counts(fingerprint)) {
            return Ok(held.sites.clone());
        }
        let (sites, until) = match self.cache.read(manager, fingerprint) {
            Some(sites) => (sites, None),
            None => {
                let answer = ask::ask(manager, &self.run)?;
                if answer.complete {
                    self.cache.write(manager, fingerprint, &answer.sites);
                }
                (answer.sites, (!answer.complete).then(|| Instant::now() + KEEP_INCOMPLETE))
            }
        };
        remembered.insert(manager, Remembered { fingerprint, sites: sites.clone(), until });
        Ok(sites)
    }
}
