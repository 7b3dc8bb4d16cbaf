//! One name that is kept warm: both of its families are asked for at once, and again before they
//! expire, whether anybody uses the name or not. Upstream sees a schedule, not an agent.

use super::{
    chain::Found,
    grid::TICK,
    query::Family,
    upstream::{Ask, DEADLINE, LookupError},
};
use crate::policy::{HostName, Moment};
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

/// The outcome of asking for both families.
struct Round {
    v4: Outcome,
    v6: Outcome,
}

struct Outcome {
    found: Result<Found, LookupError>,
    fresh_until: Moment,
}

impl Warm {
    /// Asks for `name` as soon as `leave` is given, and again before its answers expire, while it
    /// `is_wanted`.
    pub fn new(
        hearth: Hearth,
        name: HostName,
        leave: impl Future<Output = ()> + Send + 'static,
        is_wanted: impl Fn(Moment) -> bool + Send + 'static,
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
                let fetched = hearth.fetch(&name).await;
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
        let mut round = self.round.clone();
        let wait = async {
            loop {
                if let Some(found) =
                    round.borrow_and_update().as_ref().and_then(|r| r.tell(family, self.now()))
                {
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
    async fn fetch(&self, name: &HostName) -> Round {
        let (v4, v6) = tokio::join!(self.upstream.ask(name, Family::V4), self.upstream.ask(name, Family::V6));
        let now = (self.clock)();
        Round { v4: Outcome::of(v4, now), v6: Outcome::of(v6, now) }
    }
}

impl Round {
    /// None where what is known has expired: then another round is on its way.
    fn tell(&self, family: Family, now: Moment) -> Option<Result<Found, LookupError>> {
        let Outcome { found, fresh_until } = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        match found {
            Ok(found) if *fresh_until > now => {
                Some(Ok(with_ttl(found.clone(), whole_seconds(fresh_until.since(now)))))
            }
            Ok(_) => None,
            // Until it was tried again, which nobody's asking hastens.
            Err(error) => Some(Err(error.clone())),
        }
    }

    fn is_fresh(&self, now: Moment) -> bool {
        [&self.v4, &self.v6].into_iter().all(|outcome| outcome.found.is_ok() && outcome.fresh_until > now)
    }

    fn has_failed(&self) -> bool {
        self.v4.found.is_err() || self.v6.found.is_err()
    }

    /// When to ask again: before the first answer expires, or when a failure may have passed.
    fn next(&self, now: Moment, failures: u32) -> Duration {
        let retry = (*RETRY.start() * (1 << failures.saturating_sub(1).min(5))).min(*RETRY.end());
        let due = |outcome: &Outcome| match &outcome.found {
            Ok(_) => outcome.fresh_until.since(now) * 9 / 10,
            Err(_) => retry,
        };
        due(&self.v4).min(due(&self.v6))
    }
}

impl Outcome {
    fn of(found: Result<Found, LookupError>, now: Moment) -> Self {
        let lasts =
            found.as_ref().map_or(*RETRY.start(), |found| found.ttl().clamp(*TTL.start(), *TTL.end()));
        Self { found, fresh_until: now.after(lasts) }
    }
}

fn whole_seconds(rest: Duration) -> Duration {
    Duration::from_secs(rest.as_secs() + u64::from(rest.subsec_nanos() > 0))
}

fn with_ttl(mut found: Found, rest: Duration) -> Found {
    let (Found::Addresses { ttl, .. } | Found::NoData { ttl } | Found::NoName { ttl }) = &mut found;
    *ttl = rest;
    found
}
