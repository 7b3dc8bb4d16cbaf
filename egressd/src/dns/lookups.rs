//! The names of one agent that only wildcards allow: what is on its way, what is kept warm, and what
//! they let out.
//!
//! Nothing is shared between agents: neither an agent's flood nor what it asked for shows in how
//! soon another gets its answer.

use super::{
    grid::Grid,
    ledger::{Alert, Charge, Ledger, Paid, Report},
    warm::{Hearth, Warm},
    watch::Watch,
};
use crate::policy::{
    Agent, AgentId, AgentName, HostName, LeakTerms, Moment, Policy, Reason, RecordType, Wildcard,
};
use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
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

/// The period for which a name is kept warm, from the moment when it was charged. At its end it is kept for
/// another if it was used meanwhile, which is charged too: when within a period it was used does not show.
pub const PERIOD: Duration = Duration::from_secs(3600);

/// What is kept of one agent.
pub struct Lookups {
    agent: AgentId,
    name: AgentName,
    watch: Arc<dyn Watch>,
    hearth: Hearth,
    grid: Arc<Grid>,
    quota: Arc<Semaphore>,
    books: Mutex<Books>,
}

/// Changed together: what leaves was charged.
struct Books {
    ledger: Ledger,
    /// By which names were charged last, and are kept warm.
    policy: Arc<Policy>,
    slots: HashMap<HostName, Slot>,
}

struct Slot {
    warm: Arc<Warm>,
    /// What it is asked for beside addresses.
    types: Vec<RecordType>,
    usage: Arc<Usage>,
    /// That the name does not exist was told to the ledger.
    is_absent: bool,
}

/// Whether a name was used in this period.
#[derive(Default)]
struct Usage(AtomicBool);

/// A name that may not leave.
pub struct Refused {
    pub reason: Reason,
    /// What the reason cannot say.
    pub detail: Option<&'static str>,
    pub alerts: Vec<Alert>,
}

/// What would become of a name.
pub enum Foreseen {
    /// It is told without a byte to anybody.
    Kept(Arc<Warm>),
    /// It leaves, for this price.
    Charged(Price),
    /// It leaves, or is on its way, and costs nothing.
    Free,
}

/// What a name costs, and what there is to pay with, in whole bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Rounded up.
    pub bits: u32,
    /// Left of the zone of its wildcard.
    pub zone_left: u32,
    /// Left of the agent, over all wildcards.
    pub agent_left: u32,
}

impl Price {
    fn of(Paid(cost): Paid, report: &Report, terms: &LeakTerms, wildcard: &Wildcard) -> Self {
        let of_zone = report.accounts.iter().find(|account| account.zone == wildcard.zone);
        let used = of_zone.map_or(0, |account| account.level.used);
        Self {
            bits: u32::try_from(cost.div_ceil(BIT)).unwrap_or(u32::MAX),
            zone_left: wildcard.budget.capacity().saturating_sub(used),
            agent_left: terms.budget.capacity().saturating_sub(report.total.used),
        }
    }
}

/// In the unit of [`Paid`].
const BIT: u64 = 256;

/// Says that [`MAX_KEPT`] is reached.
const TOO_MANY: &str = "names that are kept warm";

impl Lookups {
    #[must_use]
    pub fn new(agent: &Agent, hearth: Hearth, grid: Arc<Grid>, watch: Arc<dyn Watch>) -> Self {
        let hearth = Hearth { turns: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), ..hearth };
        let (ledger, policy) = (watch.open(agent), agent.whole_policy());
        let books = Mutex::new(Books { ledger, policy, slots: HashMap::new() });
        let (agent, name) = (agent.id(), agent.name().clone());
        Self { agent, name, watch, hearth, grid, quota: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), books }
    }

    /// Of the agent.
    #[must_use]
    pub fn name(&self) -> &AgentName {
        &self.name
    }

    /// Asks for nothing any more. The ledger stays.
    pub fn end(&self) {
        self.books().slots.clear();
    }

    /// Leave to start a lookup, to be held until its answer is sent. None beyond
    /// [`MAX_IN_FLIGHT`].
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.quota).try_acquire_owned().ok()
    }

    /// The name, which is used from this moment on. Where it has to leave, it is charged before, which is
    /// remembered.
    ///
    /// # Errors
    /// The ledger refuses, or cannot be remembered, or [`MAX_KEPT`] names are kept warm.
    pub fn find(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        wildcard: &Wildcard,
        name: &HostName,
        types: Vec<RecordType>,
    ) -> Result<(Arc<Warm>, Vec<Alert>), Refused> {
        let now = (self.hearth.clock)();
        let mut books = self.books();
        books.policy = Arc::clone(policy);
        let Books { ledger, slots, .. } = &mut *books;
        if let Some(slot) = slots.get(name).filter(|slot| slot.serves(&types) && !ledger.is_quarantined()) {
            slot.usage.note();
            return Ok((Arc::clone(&slot.warm), Vec::new()));
        }
        if slots.len() >= MAX_KEPT {
            slots.retain(|_, slot| slot.warm.is_kept());
        }
        if slots.len() >= MAX_KEPT {
            // To give another up would show in its zone, which nobody charged for that.
            return Err(Refused {
                reason: Reason::QuotaExceeded,
                detail: Some(TOO_MANY),
                alerts: Vec::new(),
            });
        }
        let Charge { verdict, alerts } = ledger.charge(policy.leaks(), wildcard, name, now);
        let is_remembered = !has_changed(&verdict, &alerts) || self.watch.charged(&self.name, ledger);
        if let Err(reason) = verdict {
            return Err(Refused { reason, detail: None, alerts });
        }
        if !is_remembered {
            let detail = Some("the ledger cannot be written to disk");
            return Err(Refused { reason: Reason::QuotaExceeded, detail, alerts });
        }
        let usage = Arc::new(Usage::default());
        let lease = Lease { name: name.clone(), usage: Arc::clone(&usage) };
        let leave = Arc::clone(&self.grid).tick(self.agent, name.clone());
        let is_wanted = lease.held(Arc::downgrade(self), now.after(PERIOD));
        let warm = Arc::new(Warm::new(self.hearth.clone(), name.clone(), types.clone(), leave, is_wanted));
        slots.insert(name.clone(), Slot { warm: Arc::clone(&warm), types, usage, is_absent: false });
        Ok((warm, alerts))
    }

    /// What [`Self::find`] would make of the name. Nothing of it leaves, and nothing is noted of it.
    ///
    /// # Errors
    /// Those of [`Self::find`].
    pub fn foresee(
        &self,
        policy: &Policy,
        wildcard: &Wildcard,
        name: &HostName,
        types: &[RecordType],
    ) -> Result<Foreseen, Refused> {
        let now = (self.hearth.clock)();
        let books = self.books();
        let Books { ledger, slots, .. } = &*books;
        if let Some(slot) = slots.get(name).filter(|slot| slot.serves(types) && !ledger.is_quarantined()) {
            return Ok(Foreseen::Kept(Arc::clone(&slot.warm)));
        }
        if slots.len() >= MAX_KEPT && slots.values().filter(|slot| slot.warm.is_kept()).count() >= MAX_KEPT {
            return Err(Refused {
                reason: Reason::QuotaExceeded,
                detail: Some(TOO_MANY),
                alerts: Vec::new(),
            });
        }
        // What a copy says is what the ledger would have said.
        let Charge { verdict, alerts } = ledger.clone().charge(policy.leaks(), wildcard, name, now);
        let paid = verdict.map_err(|reason| Refused { reason, detail: None, alerts })?;
        Ok(Foreseen::Charged(Price::of(paid, &ledger.report(now), policy.leaks(), wildcard)))
    }

    /// The name, asked for this once, and not charged.
    #[must_use]
    pub fn find_once(&self, name: &HostName) -> Arc<Warm> {
        Arc::new(Warm::new(self.hearth.clone(), name.clone(), Vec::new(), ready(()), |_| false))
    }

    /// Notes that `name` turned out not to exist.
    pub fn absent(&self, terms: &LeakTerms, wildcard: &Wildcard, name: &HostName) -> Vec<Alert> {
        let mut books = self.books();
        let Books { ledger, slots, .. } = &mut *books;
        match slots.get_mut(name) {
            Some(slot) if !slot.is_absent => {
                slot.is_absent = true;
                ledger.absent(terms, wildcard, name, (self.hearth.clock)())
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Does with the ledger what belongs to it alone.
    pub fn with_ledger<T>(&self, act: impl FnOnce(&mut Ledger, Moment) -> T) -> T {
        act(&mut self.books().ledger, (self.hearth.clock)())
    }

    /// Keeps names warm by `given`, the agent's policy from now on, and those no longer that it does not
    /// allow by a wildcard. Not for quarantine: its moment is the agent's to choose, and would show.
    pub fn hold(&self, given: Arc<Policy>) {
        let mut books = self.books();
        books.slots.retain(|name, _| given.lookup(name).is_ok_and(|leave| leave.wildcard().is_some()));
        books.policy = given;
    }

    /// Whether a name is kept warm for another period.
    fn renew(&self, name: &HostName) -> bool {
        let mut books = self.books();
        let Books { ledger, policy, .. } = &mut *books;
        let Ok(leave) = policy.lookup(name) else { return false };
        let renew = |wildcard| ledger.renew(policy.leaks(), wildcard, (self.hearth.clock)());
        leave.wildcard().is_some_and(renew) && self.watch.charged(&self.name, ledger)
    }

    // A name is charged before its slot is there: a panic in between costs the agent, not us.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what has to outlive this process may be another now. A name that is refused costs nothing, and
/// is free to be asked for again and again.
fn has_changed(verdict: &Result<Paid, Reason>, alerts: &[Alert]) -> bool {
    let is_refused_as_before =
        matches!(verdict, Err(Reason::NamesFrozen | Reason::LeakBudgetSpent | Reason::AgentQuarantined));
    !is_refused_as_before || !alerts.is_empty()
}

impl Slot {
    /// Whether it can tell records of all of `types` without a charge.
    fn serves(&self, types: &[RecordType]) -> bool {
        self.warm.is_kept() && types.iter().all(|kind| self.types.contains(kind))
    }
}

impl Usage {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// On what terms a name is kept warm.
struct Lease {
    name: HostName,
    usage: Arc<Usage>,
}

impl Lease {
    /// Whether the name is still to be kept, at whatever moment that is asked; `end` is that of the first
    /// period. Not the asker decides when: answers run out when they do.
    fn held(self, lookups: Weak<Lookups>, mut end: Moment) -> impl FnMut(Moment) -> bool + Send + 'static {
        move |now| {
            if now < end {
                return true;
            }
            end = end.after(PERIOD).max(now);
            let was_used = self.usage.0.swap(false, Ordering::Relaxed);
            was_used && lookups.upgrade().is_some_and(|lookups| lookups.renew(&self.name))
        }
    }
}
