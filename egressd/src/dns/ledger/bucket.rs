//! A leaky bucket in bits.

use super::{limits::HOUR, report::Level};
use crate::policy::{LeakBudget, Moment};

/// How full a bucket is, since when, and what it was last filled within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// 1/256 bit.
    level: u64,
    at: Moment,
    budget: LeakBudget,
}

/// How fast a bucket drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub budget: LeakBudget,
    /// Until then at an eighth.
    pub slow_until: Moment,
}

impl Bucket {
    /// A bucket that is full to `level`, in 1/256 bit, at `now`.
    #[must_use]
    pub fn filled(level: u64, budget: LeakBudget, now: Moment) -> Self {
        Self { level, at: now, budget }
    }

    /// Adds `cost`, in 1/256 bit.
    pub fn add(&mut self, pace: Pace, cost: u64, now: Moment) {
        self.level = self.level_at(pace, now).saturating_add(cost);
        self.at = self.at.max(now);
        self.budget = pace.budget;
    }

    /// What is left of the level at `now`, in 1/256 bit. Between an old budget and a changed one, the
    /// smaller counts: nobody knows when it was changed.
    #[must_use]
    pub fn level_at(&self, pace: Pace, now: Moment) -> u64 {
        let hourly = self.budget.min(pace.budget).hourly();
        let slow_end = pace.slow_until.clamp(self.at, now.max(self.at));
        let slow = drained(slow_end.since(self.at).as_nanos(), hourly, SLOW);
        let fast = drained(now.since(slow_end).as_nanos(), hourly, 1);
        self.level.saturating_sub(slow.saturating_add(fast))
    }

    /// The budget that it was last filled within.
    #[must_use]
    pub fn budget(&self) -> LeakBudget {
        self.budget
    }

    #[must_use]
    pub fn report(&self, slow_until: Moment, now: Moment) -> Level {
        let level = self.level_at(Pace { budget: self.budget, slow_until }, now);
        let hourly = self.budget.hourly();
        let hourly = if slow_until > now { hourly / 8 } else { hourly };
        Level { used: bits(level), capacity: self.budget.capacity(), hourly }
    }
}

/// In 1/256 bit.
#[must_use]
pub fn capacity(budget: LeakBudget) -> u64 {
    u64::from(budget.capacity()) * UNIT
}

/// Whole bits, rounded up.
#[must_use]
pub fn bits(level: u64) -> u32 {
    u32::try_from(level.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

/// What comes back in some nanoseconds, in 1/256 bit, rounded down.
fn drained(nanoseconds: u128, hourly: u32, divisor: u128) -> u64 {
    let drained =
        nanoseconds * u128::from(hourly) * u128::from(UNIT) / (u128::from(HOUR) * 1_000_000_000 * divisor);
    u64::try_from(drained).unwrap_or(u64::MAX)
}

/// A bit.
pub const UNIT: u64 = 256;

/// A rate that is limited is divided by so much.
const SLOW: u128 = 8;
