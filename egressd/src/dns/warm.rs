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
    round: watch::Receiver<Round>,
    late: Arc<Notify>,
    task: AbortHandle,
}

/// The outcome of asking for everything that may be asked of the name; None where nothing came yet.
struct Round {
    v4: Option<Outcome<Found>>,
    v6: Option<Outcome<Found>>,
    /// Of the types that a rule allows.
    others: Vec<(RecordType, Option<Outcome<FoundRecords>>)>,
}

struct Outcome<T> {
    found: Result<T, LookupError>,
    fresh_until: Moment,
    /// Why what was found is still the one of an earlier round.
    failed: Option<LookupError>,
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
        let (sender, round) = watch::channel(Round::of(&types));
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
                hearth.fetch(&name, &types, &sender).await;
                drop(turn);
                failures = if sender.borrow().has_failed() { failures + 1 } else { 0 };
                let next = sender.borrow().next((hearth.clock)(), failures);
                if sender.is_closed() {
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
            Family::V4 => round.v4.as_ref()?.tell(now),
            Family::V6 => round.v6.as_ref()?.tell(now),
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
            found.map_or(Some(Err(LookupError::Deadline)), |(_, outcome)| outcome.as_ref()?.tell(now))
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
                let found = read(&round.borrow_and_update(), self.now());
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

    /// What the name resolves to, as far as that is known by now; asks for nothing.
    #[must_use]
    pub fn peek(&self, family: Family) -> Option<Result<Found, LookupError>> {
        let round = self.round.borrow();
        let outcome = match family {
            Family::V4 => round.v4.as_ref(),
            Family::V6 => round.v6.as_ref(),
        };
        outcome?.tell(self.now())
    }

    /// Whether the name can still be told without asking anybody, or is being asked for.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.task.is_finished() || self.round.borrow().is_fresh(self.now())
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
    /// Asks for everything, and tells each outcome as it comes: a family that nobody answers for does not
    /// hold up the other.
    async fn fetch(&self, name: &HostName, types: &[RecordType], round: &watch::Sender<Round>) {
        let family = async |family: Family| {
            let found = self.upstream.ask(name, family).await;
            let now = (self.clock)();
            round.send_modify(|round| put(round.of_family(family), found, now));
        };
        let other = async |kind: &RecordType| {
            let found = self.upstream.ask_records(name, *kind).await;
            let now = (self.clock)();
            round.send_modify(|round| {
                let held = round.others.iter_mut().find(|(held, _)| held == kind);
                held.into_iter().for_each(|(_, outcome)| put(outcome, found.clone(), now));
            });
        };
        tokio::join!(family(Family::V4), family(Family::V6), join_all(types.iter().map(other)));
    }
}

/// Replaces `outcome` by what was `found` at `now`. A failure leaves what is still good.
fn put<T: Lasting>(outcome: &mut Option<Outcome<T>>, found: Result<T, LookupError>, now: Moment) {
    match (outcome, found) {
        (Some(held), Err(error)) if held.is_fresh(now) => held.failed = Some(error),
        (outcome, found) => *outcome = Some(Outcome::of(found, now)),
    }
}

impl Round {
    fn of(types: &[RecordType]) -> Self {
        Self { v4: None, v6: None, others: types.iter().map(|kind| (*kind, None)).collect() }
    }

    fn of_family(&mut self, family: Family) -> &mut Option<Outcome<Found>> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        let mut families = [&self.v4, &self.v6].into_iter();
        families.all(|outcome| is_fresh(outcome.as_ref(), now))
            && self.others.iter().all(|(_, outcome)| is_fresh(outcome.as_ref(), now))
    }

    fn has_failed(&self) -> bool {
        let mut families = [&self.v4, &self.v6].into_iter().flatten();
        let mut others = self.others.iter().filter_map(|(_, outcome)| outcome.as_ref());
        families.any(Outcome::has_failed) || others.any(Outcome::has_failed)
    }

    /// When to ask again: before the first answer expires, or when a failure may have passed.
    fn next(&self, now: Moment, failures: u32) -> Duration {
        let retry = (*RETRY.start() * (1 << failures.saturating_sub(1).min(5))).min(*RETRY.end());
        let families = [&self.v4, &self.v6].into_iter().flatten().map(|outcome| outcome.next(now, retry));
        let others = self.others.iter().filter_map(|(_, outcome)| Some(outcome.as_ref()?.next(now, retry)));
        families.chain(others).min().unwrap_or(retry)
    }
}

fn is_fresh<T: Lasting>(outcome: Option<&Outcome<T>>, now: Moment) -> bool {
    outcome.is_some_and(|outcome| outcome.is_fresh(now))
}

impl<T: Lasting> Outcome<T> {
    fn of(found: Result<T, LookupError>, now: Moment) -> Self {
        let lasts =
            found.as_ref().map_or(*RETRY.start(), |found| found.ttl().clamp(*TTL.start(), *TTL.end()));
        Self { found, fresh_until: now.after(lasts), failed: None }
    }

    /// None where what is known has expired: then another round is on its way.
    fn tell(&self, now: Moment) -> Option<Result<T, LookupError>> {
        match &self.found {
            Ok(found) if self.fresh_until > now => {
                Some(Ok(found.clone().lasting(whole_seconds(self.fresh_until.since(now)))))
            }
            // Until it was tried again, which nobody's asking hastens.
            Ok(_) => self.failed.clone().map(Err),
            Err(error) => Some(Err(error.clone())),
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.found.is_ok() && self.fresh_until > now
    }

    fn has_failed(&self) -> bool {
        self.found.is_err() || self.failed.is_some()
    }

    fn next(&self, now: Moment, retry: Duration) -> Duration {
        if self.has_failed() { retry } else { self.fresh_until.since(now) * 9 / 10 }
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
