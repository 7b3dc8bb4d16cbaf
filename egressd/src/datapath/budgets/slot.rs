//! One budget, as it lies in memory that the programs use too.

use crate::policy::{Budget, BudgetMark, Reason, Usage};
use egress_common::Budget as Shared;
use std::{
    mem::offset_of,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// [`egress_common::Budget`], of which every word is shared.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    bytes: AtomicU64,
    flows: AtomicU64,
    max_bytes: AtomicU64,
    max_flows: AtomicU64,
    next: AtomicU64,
    interval: AtomicU64,
    early: AtomicU64,
    ends: AtomicU64,
    agent: AtomicU32,
    rule: AtomicU32,
    told_bytes: AtomicU64,
    told_flows: AtomicU64,
    idle: AtomicU64,
    _zero: [AtomicU64; 4],
}

const _: () = assert!(size_of::<Slot>() == size_of::<Shared>());
const _: () = assert!(offset_of!(Slot, ends) == offset_of!(Shared, ends));
const _: () = assert!(offset_of!(Slot, idle) == offset_of!(Shared, idle));

/// How much of one bound is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub used: u64,
    /// None: without bound.
    pub most: Option<u64>,
}

impl Level {
    /// What is left; None: without bound.
    #[must_use]
    pub fn left(self) -> Option<u64> {
        self.most.map(|most| most.saturating_sub(self.used))
    }
}

impl Slot {
    /// Makes it the empty budget of `rule` of `agent`.
    pub fn open(&self, agent: u32, rule: u32) {
        self.clear();
        self.agent.store(agent, Relaxed);
        self.rule.store(rule, Relaxed);
    }

    /// Makes it nobody's.
    pub fn clear(&self) {
        let Self { bytes, flows, next, ends, told_bytes, told_flows, idle, agent, rule, .. } = self;
        [bytes, flows, next, ends, told_bytes, told_flows, idle]
            .iter()
            .for_each(|word| word.store(0, Relaxed));
        [agent, rule].iter().for_each(|word| word.store(0, Relaxed));
        self.bound(Budget::default());
    }

    /// Whose it is, and of which rule; None where it is nobody's.
    pub fn owner(&self) -> Option<(u32, u32)> {
        let agent = self.agent.load(Relaxed);
        (agent != 0).then(|| (agent, self.rule.load(Relaxed)))
    }

    /// Sets what may be used up; what is used stays.
    pub fn bound(&self, budget: Budget) {
        let nanos = |length: std::time::Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let rate = budget.rate.map_or((0, 0), |rate| (nanos(rate.interval()), nanos(rate.per)));
        self.max_bytes.store(budget.max_bytes.unwrap_or(Shared::UNBOUNDED), Relaxed);
        self.max_flows.store(budget.max_connections.unwrap_or(Shared::UNBOUNDED), Relaxed);
        self.early.store(rate.1.saturating_sub(rate.0), Relaxed);
        self.interval.store(rate.0, Relaxed);
    }

    /// Sets when it ends, in nanoseconds on `CLOCK_BOOTTIME`; 0 for never. What was said before stays where it is
    /// about the same: who computes it again from another clock is a little late.
    pub fn end_at(&self, ends: u64) {
        if ends == 0 || self.ends.load(Relaxed).abs_diff(ends) > SLACK {
            self.ends.store(ends, Relaxed);
        }
    }

    /// 0: never.
    pub fn ends(&self) -> u64 {
        self.ends.load(Relaxed)
    }

    /// Says whether the policy of its agent bounds its rule.
    pub fn set_idle(&self, is_idle: bool) {
        self.idle.store(u64::from(is_idle), Relaxed);
    }

    pub fn is_idle(&self) -> bool {
        self.idle.load(Relaxed) != 0
    }

    /// Bytes, and flows.
    pub fn levels(&self) -> (Level, Level) {
        let level = |used: &AtomicU64, most: &AtomicU64| {
            let most = most.load(Relaxed);
            Level { used: used.load(Relaxed), most: (most != Shared::UNBOUNDED).then_some(most) }
        };
        (level(&self.bytes, &self.max_bytes), level(&self.flows, &self.max_flows))
    }

    /// The last marks that are passed since they were asked for last, of bytes and of flows.
    pub fn passed(&self) -> (Option<BudgetMark>, Option<BudgetMark>) {
        let (bytes, flows) = self.levels();
        (passed(bytes, &self.told_bytes), passed(flows, &self.told_flows))
    }

    /// Takes `usage` at `now`, or nothing: as the programs do (egress-ebpf, `budget`).
    ///
    /// # Errors
    /// Why not.
    pub fn take(&self, usage: Usage, now: u64) -> Result<(), Reason> {
        let ends = self.ends();
        if ends != 0 && now >= ends {
            return Err(Reason::RuleExpired);
        }
        if usage.octets != 0 && !add_up_to(&self.bytes, &self.max_bytes, usage.octets) {
            return Err(Reason::BudgetSpent);
        }
        if self.has_no_octet_for(usage) {
            return Err(Reason::BudgetSpent);
        }
        if usage.flows != 0 && !add_up_to(&self.flows, &self.max_flows, usage.flows) {
            self.bytes.fetch_sub(usage.octets, Relaxed);
            return Err(Reason::BudgetSpent);
        }
        if usage.flows != 0 && !self.is_on_time(now) {
            self.bytes.fetch_sub(usage.octets, Relaxed);
            self.flows.fetch_sub(usage.flows, Relaxed);
            return Err(Reason::RateExceeded);
        }
        Ok(())
    }

    /// Whether [`Self::take`] would take `usage` at `now`. Takes nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn has_room(&self, usage: Usage, now: u64) -> Result<(), Reason> {
        let ends = self.ends();
        let (bytes, flows) = self.levels();
        let lacks = |level: Level, amount: u64| level.left().is_some_and(|left| left < amount);
        if ends != 0 && now >= ends {
            return Err(Reason::RuleExpired);
        }
        if lacks(bytes, usage.octets) || self.has_no_octet_for(usage) || lacks(flows, usage.flows) {
            return Err(Reason::BudgetSpent);
        }
        let ahead = self.next.load(Relaxed).saturating_sub(now);
        let is_late = self.interval.load(Relaxed) == 0 || ahead <= self.early.load(Relaxed);
        if usage.flows == 0 || is_late { Ok(()) } else { Err(Reason::RateExceeded) }
    }

    /// Gives back what [`Self::take`] took.
    pub fn give_back(&self, usage: Usage) {
        self.bytes.fetch_sub(usage.octets, Relaxed);
        if usage.flows != 0 {
            self.flows.fetch_sub(usage.flows, Relaxed);
            self.next.fetch_sub(self.interval.load(Relaxed), Relaxed);
        }
    }

    /// Whether a flow would start that could not send an octet: that it starts says something.
    fn has_no_octet_for(&self, usage: Usage) -> bool {
        usage.flows != 0 && usage.octets == 0 && self.levels().0.left() == Some(0)
    }

    /// Whether a flow may start by the rate, which it then uses up (GCRA, ITU-T I.371).
    fn is_on_time(&self, now: u64) -> bool {
        let (interval, early) = (self.interval.load(Relaxed), self.early.load(Relaxed));
        let next = |held: u64| {
            let from = held.max(now);
            (from - now <= early).then(|| from.saturating_add(interval))
        };
        interval == 0 || self.next.fetch_update(Relaxed, Relaxed, next).is_ok()
    }
}

/// Adds `amount` to what is used, unless that is more than the most then.
fn add_up_to(used: &AtomicU64, most: &AtomicU64, amount: u64) -> bool {
    let most = most.load(Relaxed);
    let add = |used: u64| (most.saturating_sub(used) >= amount).then(|| used.wrapping_add(amount));
    used.fetch_update(Relaxed, Relaxed, add).is_ok()
}

fn passed(level: Level, told: &AtomicU64) -> Option<BudgetMark> {
    let most = level.most?;
    let is_passed =
        |mark: &BudgetMark| u128::from(level.used) * 100 >= u128::from(most) * u128::from(mark.percent());
    let mark = BudgetMark::ALL.into_iter().rev().find(is_passed);
    let percent = mark.map_or(0, BudgetMark::percent);
    // Where a bound was raised, its marks may be passed again.
    let before = told.swap(percent, Relaxed);
    mark.filter(|_| percent > before)
}

/// Two seconds.
const SLACK: u64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Rate;
    use std::{sync::Arc, thread, time::Duration};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_used_never_passes_its_bound_whoever_takes_at_once() {
        let slot =
            Arc::new(slot(Budget { max_bytes: Some(1_000_003), max_connections: Some(77), rate: None }));
        let takers: Vec<_> = (1..=8_u64)
            .map(|octets| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || {
                    let begun = (0..50).filter(|_| slot.take(usage(0, 1), 1).is_ok()).count();
                    let taken = (0..100_000).filter(|_| slot.take(usage(octets, 0), 1).is_ok()).count();
                    (octets * taken as u64, begun)
                })
            })
            .collect();
        let taken: Vec<_> = takers.into_iter().map(|taker| taker.join().unwrap()).collect();
        assert_eq!(taken.iter().map(|taken| taken.0).sum::<u64>(), 1_000_003);
        assert_eq!(taken.iter().map(|taken| taken.1).sum::<usize>(), 77);
        assert_eq!((slot.levels().0.used, slot.levels().1.used), (1_000_003, 77));
    }

    #[test]
    fn a_rate_lets_so_many_start_at_once_and_then_one_in_each_interval() {
        let rate = Rate { flows: 10, per: Duration::from_secs(1) };
        let slot = slot(Budget { rate: Some(rate), ..Budget::default() });
        let at = |now| (0..20).filter(|_| slot.take(usage(0, 1), now).is_ok()).count();
        assert_eq!([at(SECOND), at(SECOND + SECOND / 20), at(SECOND + SECOND / 10)], [10, 0, 1]);
        assert_eq!(at(9 * SECOND), 10);
        assert_eq!(slot.take(usage(0, 1), 9 * SECOND), Err(Reason::RateExceeded));
        slot.give_back(usage(0, 1));
        assert_eq!(slot.take(usage(0, 1), 9 * SECOND), Ok(()));
    }

    #[test]
    fn whether_there_is_room_is_what_taking_says() {
        let rate = Rate { flows: 3, per: Duration::from_secs(1) };
        let slot = slot(Budget { max_bytes: Some(5), max_connections: Some(7), rate: Some(rate) });
        for now in (0..40).map(|tenth| SECOND + tenth * SECOND / 10) {
            for usage in [usage(0, 1), usage(1, 0), usage(3, 1)] {
                let has_room = slot.has_room(usage, now);
                assert_eq!(slot.has_room(usage, now), has_room, "asking uses nothing up");
                assert_eq!(slot.take(usage, now), has_room, "{usage:?} at {now}");
            }
        }
        slot.end_at(100 * SECOND);
        assert_eq!(slot.has_room(usage(0, 1), 100 * SECOND), Err(Reason::RuleExpired));
    }

    #[test]
    fn what_is_refused_uses_nothing_up() {
        let rate = Rate { flows: 1, per: Duration::from_secs(1) };
        let slot = slot(Budget { max_bytes: Some(10), max_connections: Some(2), rate: Some(rate) });
        assert_eq!(slot.take(usage(11, 1), SECOND), Err(Reason::BudgetSpent));
        assert_eq!(slot.take(usage(4, 1), SECOND), Ok(()));
        assert_eq!(slot.take(usage(4, 1), SECOND), Err(Reason::RateExceeded));
        assert_eq!((slot.levels().0.used, slot.levels().1.used), (4, 1));
    }

    #[test]
    fn nothing_is_taken_from_the_end_on() {
        let slot = slot(Budget::default());
        slot.end_at(100 * SECOND);
        slot.end_at(101 * SECOND);
        assert_eq!(slot.take(usage(1, 0), 100 * SECOND - 1), Ok(()));
        assert_eq!(slot.take(usage(0, 0), 100 * SECOND), Err(Reason::RuleExpired));
        slot.end_at(0);
        assert_eq!(slot.take(usage(1, 0), 200 * SECOND), Ok(()));
    }

    #[test]
    fn each_mark_is_told_once_and_again_where_the_bound_was_raised() {
        let slot = slot(Budget { max_bytes: Some(100), ..Budget::default() });
        let told = |octets| {
            slot.take(usage(octets, 0), 1).unwrap();
            slot.passed().0
        };
        let (half, most, all) = (Some(BudgetMark::Half), Some(BudgetMark::Most), Some(BudgetMark::All));
        assert_eq!([49, 1, 1, 40, 9].map(told), [None, half, None, most, all]);
        slot.bound(Budget { max_bytes: Some(1000), ..Budget::default() });
        assert_eq!(slot.passed(), (None, None));
        assert_eq!(told(500), half);
    }

    fn slot(budget: Budget) -> Slot {
        // SAFETY: of atomic numbers, every bit pattern is a value.
        let slot: Slot = unsafe { std::mem::zeroed() };
        slot.open(1, 2);
        slot.bound(budget);
        slot
    }

    fn usage(octets: u64, flows: u64) -> Usage {
        Usage { octets, flows }
    }
}
