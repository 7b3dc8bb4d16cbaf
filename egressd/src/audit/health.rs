//! How the log is doing, readable while it is being written.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Counters of the log since the daemon started. Shared with whoever reports the status.
#[derive(Debug, Default)]
pub struct LogHealth {
    written: AtomicU64,
    failures: AtomicU64,
    dropped: AtomicU64,
    waiting: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// One reading of [`LogHealth`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Octets that reached the file.
    pub written: u64,
    /// Attempts to write or rotate that failed.
    pub failures: u64,
    /// Lines that were given up because too many waited; a gap line follows once writing works.
    pub dropped: u64,
    /// Octets that wait for the next attempt.
    pub waiting: u64,
    /// What the last failure said; None as long as writing works.
    pub last_error: Option<String>,
}

impl LogHealth {
    #[must_use]
    pub fn read(&self) -> Health {
        Health {
            written: self.written.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            last_error: self.error().clone(),
        }
    }

    pub(super) fn succeeded(&self, octets: u64) {
        self.wrote(octets);
        *self.error() = None;
    }

    /// Octets reached a file, and what the last failure said still holds.
    pub(super) fn wrote(&self, octets: u64) {
        self.written.fetch_add(octets, Ordering::Relaxed);
        self.waiting.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: &str, waiting: usize) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        *self.error() = Some(error.to_owned());
    }

    pub(super) fn gave_up_a_line(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    // The text is replaced whole, so that a panic while it was held leaves nothing half done.
    fn error(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
