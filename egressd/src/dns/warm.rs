//! One name that is kept warm: both of its families are asked for at once, and again before they
//! expire, whether anybody uses the name or not. Upstream sees a schedule, not an agent.

use super::{
    chain::{Found, FoundRecords},
    grid::TICK,
    query::Family,
    upstream::{Ask, DEADLINE, LookupError},
};
use crate::policy::{HostName, Moment, RecordType};
use futures_util::future::join_all;
use std::{future::Future, ops::RangeInclusive, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::AbortHandle,
    time::timeout,
};

/// The least and the most time that an answer is used, whatever its TTL says: nobody can make us ask
/// all the time, nor be told of an address long after its name left it.
pub const TTL: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// How soon a failure is tried again, doubled at each further one (RFC 9520, section 3.2).
pub const RETRY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// What keeps a name warm.
#[derive(Clone)]
pub struct Hearth {
    pub upstream: Arc<dyn Ask>,
    pub clock: fn() -> Moment,
    /// How many names are asked for at one time.
    pub turns: Arc<Semaphore>,
}

/// A name, and the task that keeps it warm for as long as this lives, or it is wanted.
pub struct Warm {
    clock: fn() -> Moment,
    round: watch::Receiver<Option<Round>>,
    late: Arc<Notify>,
    task: AbortHandle,
}

/// The outcome of asking for everything that may be asked of the name.
struct Round {
    v4: Outcome<Found>,
    v6: Outcome<Found>,
    /// Of the types that a rule allows.
    others: Vec<(RecordType, Outcome<FoundRecords>)>,
}

struct Outcome<T> {
    found: Result<T, LookupError>,
    fresh_until: Moment,
}

impl Warm {
    /// Asks for `name` as soon as `leave` is given, and again before its answers expire, while it
    /// `is_wanted`.
    pub fn new(
        hearth: Hearth,
        name: HostName,
        types: Vec<RecordType>,
        leave: impl Future<Output = ()> + Send + 'static,
        mut is_wanted: impl FnMut(Moment) -> bool + Send + 'static,
    ) -> Self {
        let (sender, round) = watch::channel(None);
        let late = Arc::new(Notify::new());
        let (clock, waiting) = (hearth.clock, Arc::clone(&late));
        let task = tokio::spawn(async move {
            let mut leave = Some(leave);
            let mut failures = 0;
            loop {
                // Never closed. Before the leave, so that no queue of an agent's shifts when names leave.
                let turn = hearth.turns.acquire().await;
                if let Some(leave) = leave.take() {
                    leave.await;
                }
                let fetched = hearth.fetch(&name, &types).await;
                drop(turn);
                failures = if fetched.has_failed() { failures + 1 } else { 0 };
                let next = fetched.next((hearth.clock)(), failures);
                if sender.send(Some(fetched)).is_err() {
                    return;
                }
                // A clock that slept with the machine is not told by a timer that did, too.
                let _ = timeout(next, waiting.notified()).await;
                if !is_wanted((hearth.clock)()) {
                    return;
                }
            }
        });
        Self { clock, round, late, task: task.abort_handle() }
    }

    /// What the name resolves to, with the rest of its TTL in whole seconds.
    ///
    /// # Errors
    /// Upstream brought nothing.
    pub async fn find(&self, family: Family) -> Result<Found, LookupError> {
        self.tell(|round, now| match family {
            Family::V4 => round.v4.tell(now),
            Family::V6 => round.v6.tell(now),
        })
        .await
    }

    /// The records of another type that the name has, with the rest of their TTL in whole seconds.
    ///
    /// # Errors
    /// Upstream brought nothing, or was not asked for this type.
    pub async fn find_records(&self, kind: RecordType) -> Result<FoundRecords, LookupError> {
        self.tell(|round, now| {
            let found = round.others.iter().find(|(held, _)| *held == kind);
            found.map_or(Some(Err(LookupError::Deadline)), |(_, outcome)| outcome.tell(now))
        })
        .await
    }

    /// What `read` finds in the first round that is fresh.
    async fn tell<T>(
        &self,
        read: impl Fn(&Round, Moment) -> Option<Result<T, LookupError>>,
    ) -> Result<T, LookupError> {
        let mut round = self.round.clone();
        let wait = async {
            loop {
                let found = round.borrow_and_update().as_ref().and_then(|round| read(round, self.now()));
                if let Some(found) = found {
                    return found;
                }
                self.late.notify_waiters();
                if round.changed().await.is_err() {
                    return Err(LookupError::Deadline);
                }
            }
        };
        timeout(DEADLINE + TICK, wait).await.unwrap_or(Err(LookupError::Deadline))
    }

    /// Whether the name can still be told without asking anybody, or is being asked for.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.task.is_finished()
            || self.round.borrow().as_ref().is_some_and(|round| round.is_fresh(self.now()))
    }

    fn now(&self) -> Moment {
        (self.clock)()
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hearth {
    async fn fetch(&self, name: &HostName, types: &[RecordType]) -> Round {
        let others = join_all(types.iter().map(|kind| self.upstream.ask_records(name, *kind)));
        let (v4, v6, others) =
            tokio::join!(self.upstream.ask(name, Family::V4), self.upstream.ask(name, Family::V6), others);
        let now = (self.clock)();
        let others = types.iter().copied().zip(others.into_iter().map(|found| Outcome::of(found, now)));
        Round { v4: Outcome::of(v4, now), v6: Outcome::of(v6, now), others: others.collect() }
    }
}

impl Round {
    fn is_fresh(&self, now: Moment) -> bool {
        self.v4.is_fresh(now)
            && self.v6.is_fresh(now)
            && self.others.iter().all(|(_, other)| other.is_fresh(now))
    }

    fn has_failed(&self) -> bool {
        let others = self.others.iter().map(|(_, outcome)| outcome.found.is_err());
        others.chain([self.v4.found.is_err(), self.v6.found.is_err()]).any(|has_failed| has_failed)
    }

    /// When to ask again: before the first answer expires, or when a failure may have passed.
    fn next(&self, now: Moment, failures: u32) -> Duration {
        let retry = (*RETRY.start() * (1 << failures.saturating_sub(1).min(5))).min(*RETRY.end());
        let others = self.others.iter().map(|(_, outcome)| outcome.next(now, retry));
        others.fold(self.v4.next(now, retry).min(self.v6.next(now, retry)), Duration::min)
    }
}

impl<T: Lasting> Outcome<T> {
    fn of(found: Result<T, LookupError>, now: Moment) -> Self {
        let lasts =
            found.as_ref().map_or(*RETRY.start(), |found| found.ttl().clamp(*TTL.start(), *TTL.end()));
        Self { found, fresh_until: now.after(lasts) }
    }

    /// None where what is known has expired: then another round is on its way.
    fn tell(&self, now: Moment) -> Option<Result<T, LookupError>> {
        match &self.found {
            Ok(found) if self.fresh_until > now => {
                Some(Ok(found.clone().lasting(whole_seconds(self.fresh_until.since(now)))))
            }
            Ok(_) => None,
            // Until it was tried again, which nobody's asking hastens.
            Err(error) => Some(Err(error.clone())),
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.found.is_ok() && self.fresh_until > now
    }

    fn next(&self, now: Moment, retry: Duration) -> Duration {
        match &self.found {
            Ok(_) => self.fresh_until.since(now) * 9 / 10,
            Err(_) => retry,
        }
    }
}

/// What is found for a time.
trait Lasting: Clone {
    fn ttl(&self) -> Duration;

    fn lasting(self, ttl: Duration) -> Self;
}

impl Lasting for Found {
    fn ttl(&self) -> Duration {
        Self::ttl(self)
    }

    fn lasting(mut self, rest: Duration) -> Self {
        let (Self::Addresses { ttl, .. } | Self::NoData { ttl } | Self::NoName { ttl }) = &mut self;
        *ttl = rest;
        self
    }
}

impl Lasting for FoundRecords {
    fn ttl(&self) -> Duration {
        let (Self::Records { ttl, .. } | Self::NoData { ttl } | Self::NoName { ttl }) = self;
        *ttl
    }

    fn lasting(mut self, rest: Duration) -> Self {
        let (Self::Records { ttl, .. } | Self::NoData { ttl } | Self::NoName { ttl }) = &mut self;
        *ttl = rest;
        self
    }
}

fn whole_seconds(rest: Duration) -> Duration {
    Duration::from_secs(rest.as_secs() + u64::from(rest.subsec_nanos() > 0))
}
