//! The names of one agent that only wildcards allow: what is on its way, what is kept warm, and what
//! they let out.
//!
//! Nothing is shared between agents: neither an agent's flood nor what it asked for shows in how
//! soon another gets its answer.

use super::{
    grid::Grid,
    ledger::{Alert, Ledger},
    warm::{Hearth, Warm},
};
use crate::policy::{AgentId, HostName, LeakTerms, Moment, Reason, RecordType, Wildcard};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most lookups of one agent that wait for upstream at one time. A page of a browser or a
/// package manager starts a few dozen.
pub const MAX_IN_FLIGHT: usize = 256;

/// The most names that are kept warm for one agent: some 1 MiB, and 10 MiB if each is as large as
/// [`super::chain::MAX_RECORDS`] lets it be.
pub const MAX_KEPT: usize = 1024;

/// For how long after its last use a name is kept warm. Its end is what a zone can see of an agent, and
/// is charged when the name is used again.
pub const KEEP: Duration = Duration::from_secs(3600);

/// What is kept of one agent.
pub struct Lookups {
    agent: AgentId,
    hearth: Hearth,
    grid: Arc<Grid>,
    quota: Arc<Semaphore>,
    books: Mutex<Books>,
}

/// Changed together: what leaves was charged.
struct Books {
    ledger: Ledger,
    slots: HashMap<HostName, Slot>,
}

struct Slot {
    warm: Arc<Warm>,
    /// A [`Moment`].
    last_used: Arc<AtomicU64>,
    /// That the name does not exist was told to the ledger.
    is_absent: bool,
}

/// A name that may not leave.
pub struct Refused {
    pub reason: Reason,
    pub alerts: Vec<Alert>,
}

impl Lookups {
    #[must_use]
    pub fn new(agent: AgentId, hearth: Hearth, grid: Arc<Grid>, ledger: Ledger) -> Self {
        let hearth = Hearth { turns: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), ..hearth };
        let books = Mutex::new(Books { ledger, slots: HashMap::new() });
        Self { agent, hearth, grid, quota: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), books }
    }

    /// Leave to start a lookup, to be held until its answer is sent. None beyond
    /// [`MAX_IN_FLIGHT`].
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.quota).try_acquire_owned().ok()
    }

    /// The name, which is used from this moment on. Where it has to leave, it is charged before, and
    /// `note` hears of that.
    ///
    /// # Errors
    /// The ledger refuses.
    pub fn find(
        &self,
        terms: &LeakTerms,
        wildcard: &Wildcard,
        name: &HostName,
        types: Vec<RecordType>,
        note: impl FnOnce(&Ledger),
    ) -> Result<(Arc<Warm>, Vec<Alert>), Refused> {
        let now = (self.hearth.clock)();
        let mut books = self.books();
        let Books { ledger, slots } = &mut *books;
        if let Some(slot) = slots.get(name).filter(|slot| slot.warm.is_kept() && !ledger.is_quarantined()) {
            slot.last_used.store(now.0, Ordering::Relaxed);
            return Ok((Arc::clone(&slot.warm), Vec::new()));
        }
        let charge = ledger.charge(terms, wildcard, name, now);
        note(ledger);
        if let Err(reason) = charge.verdict {
            return Err(Refused { reason, alerts: charge.alerts });
        }
        if slots.len() >= MAX_KEPT {
            make_room(slots);
        }
        let slot = self.kindle(name, types, now);
        let warm = Arc::clone(&slot.warm);
        slots.insert(name.clone(), slot);
        Ok((warm, charge.alerts))
    }

    /// Notes that `name` turned out not to exist.
    pub fn absent(&self, terms: &LeakTerms, wildcard: &Wildcard, name: &HostName) -> Option<Alert> {
        let mut books = self.books();
        let Books { ledger, slots } = &mut *books;
        match slots.get_mut(name) {
            Some(slot) if !slot.is_absent => {
                slot.is_absent = true;
                ledger.absent(terms, wildcard, name, (self.hearth.clock)())
            }
            Some(_) | None => None,
        }
    }

    /// Does with the ledger what belongs to it alone.
    pub fn with_ledger<T>(&self, act: impl FnOnce(&mut Ledger, Moment) -> T) -> T {
        act(&mut self.books().ledger, (self.hearth.clock)())
    }

    fn kindle(&self, name: &HostName, types: Vec<RecordType>, now: Moment) -> Slot {
        let last_used = Arc::new(AtomicU64::new(now.0));
        let used = Arc::clone(&last_used);
        let is_wanted = move |now: Moment| now.since(Moment(used.load(Ordering::Relaxed))) < KEEP;
        let leave = Arc::clone(&self.grid).tick(self.agent, name.clone());
        let warm = Arc::new(Warm::new(self.hearth.clone(), name.clone(), types, leave, is_wanted));
        Slot { warm, last_used, is_absent: false }
    }

    // A name is charged before its slot is there: a panic in between costs the agent, not us.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is cold, else what was used least lately.
fn make_room(slots: &mut HashMap<HostName, Slot>) {
    slots.retain(|_, slot| slot.warm.is_kept());
    if slots.len() < MAX_KEPT {
        return;
    }
    let oldest = slots.iter().min_by_key(|(_, slot)| slot.last_used.load(Ordering::Relaxed));
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        slots.remove(&name);
    }
}
