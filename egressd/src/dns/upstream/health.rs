//! Which resolver is asked first, which next, and when one that fails is left alone.
//!
//! Pure: moments are handed in. The round trip of each server is smoothed as TCP does it (RFC 6298,
//! section 2); a server that fails three times in a row rests, longer each time, and is then asked
//! beside another until it answers.

use crate::policy::Moment;
use std::time::Duration;

/// How each of the configured resolvers does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    servers: Vec<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    /// None where nothing was measured yet.
    round_trip: Option<Duration>,
    measured: Moment,
    /// In a row.
    failures: u32,
    rests_until: Moment,
    /// A probe is on its way.
    is_probed: bool,
}

/// Whom to ask, by their place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One after the other, each once the one before it failed or let its delay pass. Never empty.
    pub order: Vec<Turn>,
    /// A server that rested, to be asked at once beside the first.
    pub probe: Option<usize>,
}

/// One server's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub server: usize,
    /// How long to wait for it before the next one is asked too.
    pub hedge: Duration,
}

impl Health {
    #[must_use]
    pub fn of(count: usize) -> Self {
        Self { servers: vec![State::default(); count] }
    }

    /// Whom to ask at `now`. A probe that is handed out has to be reported by [`Self::answered`],
    /// [`Self::unhelpful`], [`Self::failed`] or [`Self::forgone`]: until then there is no other of its
    /// server.
    pub fn plan(&mut self, now: Moment) -> Plan {
        let mut order: Vec<usize> =
            (0..self.servers.len()).filter(|index| !self.servers[*index].rests()).collect();
        order.sort_by_key(|index| self.servers[*index].rank(now));
        let due = (0..self.servers.len()).find(|index| self.servers[*index].is_due(now));
        let probe = if order.is_empty() { None } else { due };
        if let Some(probe) = probe {
            self.servers[probe].is_probed = true;
        }
        if order.is_empty() {
            order = self.soonest_back();
        }
        let turn = |server: usize| Turn { server, hedge: self.servers[server].hedge() };
        Plan { order: order.into_iter().map(turn).collect(), probe }
    }

    /// `server` gave an answer that can be used.
    pub fn answered(&mut self, server: usize, round_trip: Duration, now: Moment) {
        self.servers[server].measure(round_trip, now);
    }

    /// `server` is there, but says that it cannot help: others go first for a while.
    pub fn unhelpful(&mut self, server: usize, now: Moment) {
        self.servers[server].measure(UNHELPFUL, now);
    }

    /// `server` gave no answer, or one that no resolver gives.
    pub fn failed(&mut self, server: usize, now: Moment) {
        let state = &mut self.servers[server];
        state.failures = state.failures.saturating_add(1);
        state.is_probed = false;
        if let Some(doublings) = state.failures.checked_sub(FAILURES) {
            state.rests_until = now.after(FIRST_REST.saturating_mul(1 << doublings.min(5)).min(LONGEST_REST));
        }
    }

    /// `server` was not asked after all.
    pub fn forgone(&mut self, server: usize) {
        self.servers[server].is_probed = false;
    }

    /// All rest: whoever would be back first is asked nevertheless, and the rest after it.
    fn soonest_back(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        order.sort_by_key(|index| self.servers[*index].rests_until);
        order
    }
}

impl State {
    fn rests(&self) -> bool {
        self.failures >= FAILURES
    }

    fn is_due(&self, now: Moment) -> bool {
        self.rests() && !self.is_probed && self.rests_until <= now
    }

    /// Those that failed last come last; a server that was not measured for a while is measured anew.
    fn rank(&self, now: Moment) -> (u32, Duration) {
        let is_fresh = now.since(self.measured) < MEASURED_FOR;
        (self.failures, self.round_trip.filter(|_| is_fresh).unwrap_or_default())
    }

    fn hedge(&self) -> Duration {
        self.round_trip.map_or(FIRST_HEDGE, |trip| trip.saturating_mul(4).clamp(LEAST_HEDGE, MOST_HEDGE))
    }

    fn measure(&mut self, round_trip: Duration, now: Moment) {
        let smoothed = self.round_trip.map_or(round_trip, |before| (before * 7 + round_trip) / 8);
        *self = Self { round_trip: Some(smoothed), measured: now, ..Self::default() };
    }
}

/// So many failures in a row are not chance.
const FAILURES: u32 = 3;

/// The first rest, which doubles with each failure.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The least and the most time before a second server is asked: less would double every question to
/// a near server, more would be felt.
const LEAST_HEDGE: Duration = Duration::from_millis(50);
const MOST_HEDGE: Duration = Duration::from_secs(1);

/// For a server that was never measured: what crosses an ocean and back.
const FIRST_HEDGE: Duration = Duration::from_millis(250);

/// What counts as the round trip of an answer that is no help.
const UNHELPFUL: Duration = Duration::from_secs(1);

/// How long a measurement keeps a slower server from being tried again.
const MEASURED_FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_in_their_order_until_one_is_known_to_be_faster() {
        let mut health = Health::of(2);
        assert_eq!(order(&mut health, 1), [0, 1]);
        health.answered(0, millis(40), at(1));
        assert_eq!(order(&mut health, 2), [1, 0], "one that was never measured is measured");
        health.answered(1, millis(5), at(2));
        assert_eq!(order(&mut health, 3), [1, 0]);
        health.answered(1, millis(900), at(3));
        assert_eq!(order(&mut health, 4), [0, 1], "smoothed: 117 ms");
    }

    #[test]
    fn a_slow_server_is_tried_again_after_a_minute() {
        let mut health = Health::of(2);
        health.answered(0, millis(900), at(1));
        health.answered(1, millis(5), at(61));
        assert_eq!(order(&mut health, 60), [1, 0]);
        assert_eq!(order(&mut health, 61), [0, 1]);
    }

    #[test]
    fn the_second_is_asked_after_four_round_trips_of_the_first_within_bounds() {
        let hedge = |round_trip: Option<u64>| {
            let mut health = Health::of(1);
            if let Some(round_trip) = round_trip {
                health.answered(0, millis(round_trip), at(1));
            }
            health.plan(at(1)).order[0].hedge
        };
        assert_eq!(hedge(None), FIRST_HEDGE);
        assert_eq!(hedge(Some(0)), LEAST_HEDGE);
        assert_eq!(hedge(Some(30)), millis(120));
        assert_eq!(hedge(Some(5000)), MOST_HEDGE);
    }

    #[test]
    fn a_server_that_fails_three_times_rests_and_is_then_probed_by_one_question_at_a_time() {
        let mut health = Health::of(2);
        for _ in 0..2 {
            health.failed(0, at(10));
            assert_eq!(order(&mut health, 10), [1, 0], "one that failed is asked last");
        }
        health.failed(0, at(10));
        assert_eq!(plan(&mut health, 10), (vec![1], None));
        assert_eq!(plan(&mut health, 11), (vec![1], Some(0)));
        assert_eq!(plan(&mut health, 11), (vec![1], None), "a probe is on its way");
        health.answered(0, millis(5), at(11));
        assert_eq!(plan(&mut health, 11), (vec![1, 0], None));
    }

    #[test]
    fn a_rest_doubles_up_to_half_a_minute() {
        let mut health = Health::of(2);
        let mut now = 10;
        (0..2).for_each(|_| health.failed(0, at(now)));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            health.failed(0, at(now));
            assert_eq!(plan(&mut health, now + seconds - 1).1, None, "{seconds}");
            now += seconds;
            assert_eq!(plan(&mut health, now).1, Some(0), "{seconds}");
        }
    }

    #[test]
    fn where_all_rest_whoever_is_back_first_is_asked() {
        let mut health = Health::of(2);
        (0..4).for_each(|_| health.failed(0, at(10)));
        (0..3).for_each(|_| health.failed(1, at(10)));
        assert_eq!(plan(&mut health, 10), (vec![1, 0], None));
        assert_eq!(plan(&mut health, 99), (vec![1, 0], None));
        health.answered(0, millis(5), at(99));
        assert_eq!(plan(&mut health, 99), (vec![0], Some(1)));
    }

    #[test]
    fn a_server_that_cannot_help_goes_last_but_does_not_rest() {
        let mut health = Health::of(2);
        for _ in 0..9 {
            health.unhelpful(0, at(1));
        }
        health.answered(1, millis(90), at(1));
        assert_eq!(plan(&mut health, 2), (vec![1, 0], None));
    }

    fn order(health: &mut Health, now: u64) -> Vec<usize> {
        plan(health, now).0
    }

    fn plan(health: &mut Health, now: u64) -> (Vec<usize>, Option<usize>) {
        let plan = health.plan(at(now));
        (plan.order.iter().map(|turn| turn.server).collect(), plan.probe)
    }

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds + 1000))
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
