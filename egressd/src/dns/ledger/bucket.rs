//! A leaky bucket in bits.

use super::{limits::HOUR, report::Level};
use crate::policy::{LeakBudget, Moment};
use std::{ops::Range, time::Duration};

/// How full a bucket is, since when, and what it was last filled within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// 1/256 bit.
    level: u64,
    at: Moment,
    /// None after a restart, until it is used again: nothing comes back meanwhile.
    budget: Option<LeakBudget>,
}

/// How fast a bucket drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    pub budget: LeakBudget,
    /// When it does so at an eighth of its rate.
    pub slow: Range<Moment>,
}

impl Bucket {
    /// A bucket that is full to `level`, in 1/256 bit, at `now`.
    #[must_use]
    pub fn filled(level: u64, budget: LeakBudget, now: Moment) -> Self {
        Self { level, at: now, budget: Some(budget) }
    }

    /// The same where it is not known within what.
    #[must_use]
    pub fn restored(level: u64, now: Moment) -> Self {
        Self { level, at: now, budget: None }
    }

    /// From `now` on, what is in it comes back within `budget`, unless that is known already.
    pub fn know(&mut self, budget: LeakBudget, now: Moment) {
        if self.budget.is_none() {
            *self = Self::filled(self.level, budget, now);
        }
    }

    /// Adds `cost`, in 1/256 bit.
    pub fn add(&mut self, pace: &Pace, cost: u64, now: Moment) {
        self.level = self.level_at(pace, now).saturating_add(cost);
        self.at = self.at.max(now);
        self.budget = Some(pace.budget);
    }

    /// What is left of the level at `now`, in 1/256 bit. Between an old budget and a changed one, the
    /// smaller counts: nobody knows when it was changed.
    #[must_use]
    pub fn level_at(&self, pace: &Pace, now: Moment) -> u64 {
        let hourly = self.budget.map_or(0, |budget| budget.min(pace.budget).hourly());
        let end = now.max(self.at);
        let slow = pace.slow.end.clamp(self.at, end).since(pace.slow.start.clamp(self.at, end));
        let fast = end.since(self.at).saturating_sub(slow);
        let (slow, fast) = (drained(slow, hourly, SLOW), drained(fast, hourly, 1));
        self.level.saturating_sub(slow.saturating_add(fast))
    }

    /// The budget that it was last filled within.
    #[must_use]
    pub fn budget(&self) -> Option<LeakBudget> {
        self.budget
    }

    /// When it was last filled.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.at
    }

    #[must_use]
    pub fn report(&self, pace: &Pace, now: Moment) -> Level {
        let level = self.level_at(pace, now);
        let Pace { budget, slow } = pace;
        let hourly = budget.hourly();
        let hourly = if slow.contains(&now) { hourly / 8 } else { hourly };
        Level { used: bits(level), capacity: budget.capacity(), hourly }
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

/// What comes back while `passed`, in 1/256 bit, rounded down.
fn drained(passed: Duration, hourly: u32, divisor: u128) -> u64 {
    let drained = passed.as_nanos() * u128::from(hourly) * u128::from(UNIT)
        / (u128::from(HOUR) * 1_000_000_000 * divisor);
    u64::try_from(drained).unwrap_or(u64::MAX)
}

/// A bit.
pub const UNIT: u64 = 256;

/// A rate that is limited is divided by so much.
const SLOW: u128 = 8;
