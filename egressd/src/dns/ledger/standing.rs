//! How a zone, or an agent over all zones, stands: what has leaked at most, what its names look like, and what
//! is held against them. Nothing in it can be reset by whoever asks for names.

use super::{
    bucket::{Bucket, Pace, bits, capacity},
    cost,
    evidence::{Evidence, Short, Sign},
    limits::{self, DAY, HOUR, Limits},
    report::Level,
    trigrams::Look,
    window::{Count, Recent, seconds},
};
use crate::policy::{LeakAction, LeakBudget, LeakFlag, Moment};
use std::{ops::Range, time::Duration};

#[derive(Debug, Clone)]
pub struct Standing {
    limits: &'static Limits,
    bucket: Bucket,
    /// Whether zones share it, of which the one with the smallest budget is held to that.
    is_shared: bool,
    /// When a name left last.
    left_at: Moment,
    frozen_until: Moment,
    /// When budget comes back slowly.
    slow: Range<Moment>,
    hour: Count<12, 300>,
    day: Count<24, 3600>,
    /// Bits of the new names of a day.
    day_bits: Count<24, 3600>,
    /// Bits of each name.
    encoded: Recent<{ Limits::AGENT.encoded_names }>,
    random: Recent<{ Limits::AGENT.random_names }>,
    /// The lower half of each fingerprint.
    absent: Recent<{ Limits::AGENT.absent_names }>,
    awaited: Recent<{ limits::LOOKED_UP }>,
    /// One if it was connected to.
    settled: Recent<{ limits::LOOKED_UP }>,
    /// The second from 1 at which each flag was spoken of last.
    told: [u32; LeakFlag::ALL.len()],
}

/// What is new about a name.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer<'a> {
    pub prefix: &'a str,
    /// Of the name alone, in 1/256 bit.
    pub cost: u64,
    pub look: Look,
}

impl Newcomer<'_> {
    /// Whether it says more than a name has to.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.look.random_cost > limits::LONG_LABELS || self.cost > limits::LONG_NAME
    }
}

impl Standing {
    #[must_use]
    pub fn new(limits: &'static Limits, bucket: Bucket, left_at: Moment) -> Self {
        Self {
            limits,
            bucket,
            is_shared: false,
            left_at,
            frozen_until: Moment::default(),
            slow: Moment::default()..Moment::default(),
            hour: Count::default(),
            day: Count::default(),
            day_bits: Count::default(),
            encoded: Recent::default(),
            random: Recent::default(),
            absent: Recent::default(),
            awaited: Recent::default(),
            settled: Recent::default(),
            told: [0; LeakFlag::ALL.len()],
        }
    }

    /// The signs that `newcomer` would be, were it to leave.
    pub fn signs(&self, newcomer: Newcomer<'_>, now: Moment, signs: &mut Vec<Sign>) {
        let Newcomer { prefix, look, .. } = newcomer;
        let cost = look.random_cost;
        let (looked_up, connected) = self.followed(now);
        let divisor = if hardly_any(connected, looked_up) { limits::ABANDONED } else { 1 };
        let label = Short::label(prefix, look);
        if look.is_encoded {
            let (names, all) = with(self.encoded.within(HOUR, now), cost);
            // One name alone is what E2 is for.
            let is_much = names > 1 && all >= self.limits.encoded_bits / divisor;
            if names >= self.limits.encoded_names || is_much {
                let (names, seconds) = (number(names), self.encoded.since_first(HOUR, now));
                let per_character = look.per_character;
                signs.push(Sign::EncodedNames { names, bits: all, seconds, label, per_character });
            }
        }
        if look.is_random {
            let (names, all) = with(self.random.within(DAY, now), cost);
            if names >= self.limits.random_names || all >= self.limits.random_bits / divisor {
                let (names, per_character) = (number(names), look.per_character);
                signs.push(Sign::SlowDrip { names, bits: all, label, per_character });
            }
        }
        let (hour, day) = (self.hour.sum(now) + 1, self.day.sum(now) + 1);
        if hour >= self.limits.names_an_hour {
            signs.push(Sign::ManyNames { names: hour });
        }
        let all = self.day_bits.sum(now).saturating_add(bits(newcomer.cost));
        if day >= self.limits.names_a_day || all >= self.limits.bits_a_day {
            signs.push(Sign::ManyNamesADay { names: day, bits: all });
        }
    }

    /// Notes that `newcomer` leaves.
    pub fn welcome(&mut self, newcomer: Newcomer<'_>, now: Moment) {
        let look = newcomer.look;
        self.hour.add(1, now);
        self.day.add(1, now);
        self.day_bits.add(bits(newcomer.cost), now);
        if look.is_encoded {
            self.encoded.push(bits(look.random_cost), now);
        }
        if look.is_random {
            self.random.push(bits(look.random_cost), now);
        }
    }

    /// Waits for a connection to a name that left. Of a burst, the first names are watched.
    pub fn await_connection(&mut self, fingerprint: u64, now: Moment) {
        if self.awaited.has_room() {
            self.awaited.push(low(fingerprint), now);
        }
    }

    /// Notes that a name does not exist.
    pub fn absent(&mut self, prefix: &str, fingerprint: u64, now: Moment) -> Option<Sign> {
        if !self.absent.within(HOUR, now).any(|name| name == low(fingerprint)) {
            self.absent.push(low(fingerprint), now);
        }
        let names = self.absent.within(HOUR, now).count();
        let seconds = self.absent.since_first(HOUR, now);
        let sign = Sign::AbsentNames { names: number(names), seconds, name: Short::new(prefix) };
        (names >= self.limits.absent_names).then_some(sign)
    }

    /// Notes that a name was connected to.
    pub fn connected(&mut self, fingerprint: u64, now: Moment) {
        let is_it = |name, age| name == low(fingerprint) && age <= limits::CONNECTS_WITHIN;
        if self.awaited.take(now, is_it) > 0 {
            self.settled.push(1, now);
        }
    }

    /// Stops waiting for connections that did not follow.
    pub fn settle(&mut self, now: Moment) -> Option<Sign> {
        let given_up = self.awaited.take(now, |_, age| age > limits::CONNECTS_WITHIN);
        (0..given_up).for_each(|_| self.settled.push(0, now));
        let (looked_up, connected) = self.followed(now);
        let is_sign = looked_up >= limits::LOOKED_UP && hardly_any(connected, looked_up);
        is_sign.then_some(Sign::NeverConnected)
    }

    /// What is to be said of `sign`; None where its flag was spoken of within the hour.
    pub fn tell(&mut self, sign: Sign, now: Moment) -> Option<Evidence> {
        let second = seconds(now).saturating_add(1);
        let told = &mut self.told[sign.flag() as usize];
        if *told != 0 && second.saturating_sub(*told) < HOUR {
            return None;
        }
        *told = second;
        let (looked_up, connected) = self.followed(now);
        let level = self.report(now);
        let small = |count| u8::try_from(count).unwrap_or(u8::MAX);
        Some(Evidence {
            sign,
            // A name that half spends a budget has not been charged yet.
            used: if let Sign::HalfSpent { used } = sign { used } else { level.used },
            capacity: level.capacity,
            looked_up: small(looked_up),
            connected: small(connected),
            is_over_all: self.limits.is_over_all,
        })
    }
}

/// What is held against names, and what they may cost.
impl Standing {
    /// Puts in force what `action` holds against names.
    pub fn hold(&mut self, action: LeakAction, now: Moment) {
        let until = now.after(duration(limits::QUIET));
        if action >= LeakAction::RateLimit {
            // What it was slow for before is not given back.
            let since = if self.slow.end > self.bucket.at() { self.slow.start } else { now };
            self.slow = since..self.slow.end.max(until);
        }
        if action >= LeakAction::Freeze {
            self.frozen_until = self.frozen_until.max(until);
        }
    }

    /// Puts in force what is in force at `other`.
    pub fn hold_as(&mut self, other: &Self) {
        self.frozen_until = self.frozen_until.max(other.frozen_until);
        if other.slow.end > self.slow.end {
            self.slow = other.slow.clone();
        }
    }

    /// Lifts what is held against names, and counts them anew. The level stays.
    pub fn approve(&mut self) {
        let Self { limits, bucket, is_shared, left_at, .. } = *self;
        *self = Self { is_shared, ..Self::new(limits, bucket, left_at) };
    }

    #[must_use]
    pub fn is_frozen(&self, now: Moment) -> bool {
        self.frozen_until > now
    }

    #[must_use]
    pub fn is_slow(&self, now: Moment) -> bool {
        self.slow.end > now
    }

    /// Whether nothing is lost if it is forgotten.
    #[must_use]
    pub fn is_idle(&self, now: Moment) -> bool {
        let is_held = self.is_frozen(now) || self.is_slow(now);
        !is_held && self.day.sum(now) == 0 && self.last_level(now) == 0
    }

    #[must_use]
    pub fn fits(&self, budget: LeakBudget, cost: u64, now: Moment) -> bool {
        self.level(budget, now).saturating_add(cost) <= capacity(budget)
    }

    pub fn add(&mut self, budget: LeakBudget, cost: u64, now: Moment) {
        self.bucket.add(&self.pace(budget), cost, now);
        self.left_at = now;
    }

    /// What it costs to tell for how many runs of ticks nothing left, in 1/256 bit.
    #[must_use]
    pub fn silence(&self, now: Moment) -> u64 {
        cost::silence(now.since(self.left_at))
    }

    /// In 1/256 bit.
    #[must_use]
    pub fn level(&self, budget: LeakBudget, now: Moment) -> u64 {
        self.bucket.level_at(&self.pace(budget), now)
    }

    /// The same within the budget that it was last filled within.
    #[must_use]
    pub fn last_level(&self, now: Moment) -> u64 {
        self.level(self.last_budget(), now)
    }

    fn last_budget(&self) -> LeakBudget {
        self.bucket.budget().unwrap_or(self.limits.budget)
    }

    /// From `now` on, what is left of the time before a restart comes back within `budget`.
    pub fn know(&mut self, budget: LeakBudget, now: Moment) {
        self.bucket.know(budget, now);
    }

    fn pace(&self, budget: LeakBudget) -> Pace {
        let smallest = self.bucket.budget().filter(|_| self.is_shared);
        let budget = smallest.map_or(budget, |smallest| smallest.min(budget));
        Pace { budget, slow: self.slow.clone() }
    }

    /// The same, for all zones that find no room.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Takes over what `other` knows of further zones.
    pub fn join(&mut self, other: &Self, now: Moment) {
        let level = self.last_level(now).max(other.last_level(now));
        self.bucket = Bucket::restored(level, now);
        self.hold_as(other);
    }

    #[must_use]
    pub fn report(&self, now: Moment) -> Level {
        self.bucket.report(&self.pace(self.last_budget()), now)
    }

    /// New names that left in the last hour, and in the last day.
    #[must_use]
    pub fn names(&self, now: Moment) -> (u32, u32) {
        (self.hour.sum(now), self.day.sum(now))
    }

    /// How many names were looked up, and connected to, of those that are watched.
    fn followed(&self, now: Moment) -> (usize, usize) {
        let settled = self.settled.within(DAY, now);
        settled.fold((0, 0), |(all, connected), one| (all + 1, connected + usize::from(one == 1)))
    }
}

/// How many figures there are with one of `cost`, and their sum.
fn with(figures: impl Iterator<Item = u32>, cost: u64) -> (usize, u32) {
    figures.fold((1, bits(cost)), |(count, sum), figure| (count + 1, sum.saturating_add(figure)))
}

fn hardly_any(connected: usize, looked_up: usize) -> bool {
    connected * limits::CONNECTED_ONE_IN < looked_up
}

fn low(fingerprint: u64) -> u32 {
    u32::try_from(fingerprint & u64::from(u32::MAX)).unwrap_or_default()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn duration(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}
