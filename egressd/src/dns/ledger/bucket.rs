//! A leaky bucket in bits.

use crate::policy::{LeakBudget, Moment};

/// How full a bucket is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// 1/256 bit.
    level: u64,
    at: Moment,
}

impl Bucket {
    /// Whether `cost`, in 1/256 bit, fits at `now`.
    #[must_use]
    pub fn fits(&self, budget: LeakBudget, cost: u64, now: Moment) -> bool {
        self.level_at(budget, now).saturating_add(cost) <= u64::from(budget.capacity()) * UNIT
    }

    /// Adds `cost`, in 1/256 bit.
    pub fn add(&mut self, budget: LeakBudget, cost: u64, now: Moment) {
        self.level = self.level_at(budget, now).saturating_add(cost);
        // A clock that goes back gives nothing back twice.
        self.at = self.at.max(now);
    }

    /// What is left of the level at `now`, in 1/256 bit.
    #[must_use]
    pub fn level_at(&self, budget: LeakBudget, now: Moment) -> u64 {
        let passed = now.since(self.at).as_nanos();
        let drained = passed * u128::from(budget.hourly()) * u128::from(UNIT) / HOUR;
        self.level.saturating_sub(u64::try_from(drained).unwrap_or(u64::MAX))
    }
}

/// A bit.
pub const UNIT: u64 = 256;

/// In nanoseconds.
const HOUR: u128 = 3_600_000_000_000;
