//! The lookups of one agent: what is on its way, and what is still fresh.
//!
//! Nothing is shared between agents: neither an agent's flood nor what it asked for shows in how
//! soon another gets its answer.

use super::{
    chain::Found,
    query::Family,
    upstream::{Ask, DEADLINE, LookupError},
};
use crate::policy::{HostName, Moment};
use futures_util::{FutureExt, future::Shared};
use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most lookups of one agent that wait for upstream at one time. A page of a browser or a
/// package manager starts a few dozen.
pub const MAX_IN_FLIGHT: usize = 256;

/// The most answers that are kept for one agent: some 200 KiB, and 5 MiB if each is as large as
/// [`super::chain::MAX_RECORDS`] lets it be.
pub const MAX_KEPT: usize = 1024;

/// The least and the most time that an answer is used, whatever its TTL says: an agent can neither
/// be made to ask all the time, nor hold an address long after its name left it.
pub const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// For how long a failure is not tried again (RFC 9520, section 3.2: at least one second).
pub const FAILURE_TTL: Duration = Duration::from_secs(1);

/// Lookups on their way, and answers that are still fresh.
pub struct Lookups {
    clock: fn() -> Moment,
    slots: Mutex<HashMap<Key, Slot>>,
    quota: Arc<Semaphore>,
}

type Key = (HostName, Family);
type Outcome = (Result<Found, LookupError>, Moment);
type Fetch = Shared<Pin<Box<dyn Future<Output = Outcome> + Send>>>;

/// One fetch, shared by all who wait for it. Once it is done, it holds its outcome.
struct Slot {
    started: Moment,
    fetch: Fetch,
}

impl Lookups {
    #[must_use]
    pub fn new(clock: fn() -> Moment) -> Self {
        Self { clock, slots: Mutex::default(), quota: Arc::new(Semaphore::new(MAX_IN_FLIGHT)) }
    }

    /// Leave to start a lookup, to be held until its answer is sent. None beyond
    /// [`MAX_IN_FLIGHT`].
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.quota).try_acquire_owned().ok()
    }

    /// What `name` resolves to, with the rest of its TTL in whole seconds, kept within [`TTL`].
    ///
    /// # Errors
    /// Upstream brought nothing.
    pub async fn find(
        &self,
        upstream: &Arc<dyn Ask>,
        name: &HostName,
        family: Family,
    ) -> Result<Found, LookupError> {
        let (found, fresh_until) = self.fetch(upstream, name, family).await;
        let rest = fresh_until.since((self.clock)());
        let seconds = Duration::from_secs(rest.as_secs() + u64::from(rest.subsec_nanos() > 0));
        found.map(|found| with_ttl(found, |_| seconds))
    }

    fn fetch(&self, upstream: &Arc<dyn Ask>, name: &HostName, family: Family) -> Fetch {
        let now = (self.clock)();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.clone(), family);
        if let Some(slot) = slots.get(&key).filter(|slot| slot.is_usable(now)) {
            return slot.fetch.clone();
        }
        if slots.len() >= MAX_KEPT {
            make_room(&mut slots, now);
        }
        let fetch = fetch(Arc::clone(upstream), key.clone(), self.clock);
        slots.insert(key, Slot { started: now, fetch: fetch.clone() });
        fetch
    }
}

impl Slot {
    /// Fresh, or on its way. A fetch that everybody stopped waiting for stands still, so that
    /// beyond the deadline it is not on its way.
    fn is_usable(&self, now: Moment) -> bool {
        self.lasts_until() > now
    }

    fn lasts_until(&self) -> Moment {
        self.fetch.peek().map_or(self.started.after(DEADLINE), |(_, fresh_until)| *fresh_until)
    }
}

fn fetch(upstream: Arc<dyn Ask>, (name, family): Key, clock: fn() -> Moment) -> Fetch {
    let outcome = async move {
        let found = upstream.ask(&name, family).await;
        let found = found.map(|found| with_ttl(found, |ttl| ttl));
        let lasts = found.as_ref().map_or(FAILURE_TTL, Found::ttl);
        (found, clock().after(lasts))
    };
    outcome.boxed().shared()
}

/// Drops what is no longer usable, else what would be the first to go.
fn make_room(slots: &mut HashMap<Key, Slot>, now: Moment) {
    slots.retain(|_, slot| slot.is_usable(now));
    if slots.len() < MAX_KEPT {
        return;
    }
    let done = slots.iter().filter(|(_, slot)| slot.fetch.peek().is_some());
    let first = done.min_by_key(|(_, slot)| slot.lasts_until()).map(|(key, _)| key.clone());
    if let Some(key) = first {
        slots.remove(&key);
    }
}

fn with_ttl(mut found: Found, change: impl Fn(Duration) -> Duration) -> Found {
    let (Found::Addresses { ttl, .. } | Found::NoData { ttl } | Found::NoName { ttl }) = &mut found;
    *ttl = change(*ttl).clamp(*TTL.start(), *TTL.end());
    found
}
