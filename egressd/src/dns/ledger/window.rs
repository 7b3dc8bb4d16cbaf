//! What happened lately.

use super::limits::DAY;
use crate::policy::Moment;

/// The last `N` events, exactly, each with a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent<const N: usize> {
    /// Its second, from 1: zero is none.
    at: [u32; N],
    figure: [u32; N],
}

impl<const N: usize> Recent<N> {
    /// Puts an event in the place of the oldest.
    pub fn push(&mut self, figure: u32, now: Moment) {
        let oldest = (0..N).min_by_key(|index| self.at[*index]).unwrap_or_default();
        self.at[oldest] = seconds(now).saturating_add(1);
        self.figure[oldest] = figure;
    }

    /// The figures of the last `span` seconds, in no order.
    pub fn within(&self, span: u32, now: Moment) -> impl Iterator<Item = u32> + '_ {
        self.ages(now).filter(move |(_, age)| *age < span).map(|(index, _)| self.figure[index])
    }

    /// Seconds since the first event of the last `span` seconds.
    pub fn since_first(&self, span: u32, now: Moment) -> u32 {
        self.ages(now).map(|(_, age)| age).filter(|age| *age < span).max().unwrap_or_default()
    }

    /// Takes the events out for which `wanted` holds, given figure and age in seconds.
    pub fn take(&mut self, now: Moment, wanted: impl Fn(u32, u32) -> bool) -> usize {
        let taken: Vec<usize> = self
            .ages(now)
            .filter(|(index, age)| wanted(self.figure[*index], *age))
            .map(|(index, _)| index)
            .collect();
        taken.iter().for_each(|index| self.at[*index] = 0);
        taken.len()
    }

    /// Whether an event would push out no other.
    pub fn has_room(&self) -> bool {
        self.at.contains(&0)
    }

    fn ages(&self, now: Moment) -> impl Iterator<Item = (usize, u32)> + '_ {
        let now = seconds(now).saturating_add(1);
        self.at
            .iter()
            .enumerate()
            .filter(|(_, at)| **at != 0)
            .map(move |(index, at)| (index, now.saturating_sub(*at)))
    }
}

impl<const N: usize> Default for Recent<N> {
    fn default() -> Self {
        Self { at: [0; N], figure: [0; N] }
    }
}

/// How many events there were, to a bucket of `WIDTH` seconds: of the last `N` of them, the one that has
/// just begun included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count<const N: usize, const WIDTH: u32> {
    counts: [u16; N],
    /// The bucket of the last event.
    last: u32,
}

impl<const N: usize, const WIDTH: u32> Count<N, WIDTH> {
    /// Counts `amount` of them.
    pub fn add(&mut self, amount: u32, now: Moment) {
        let bucket = seconds(now) / WIDTH;
        let passed = bucket.saturating_sub(self.last);
        (0..passed.min(Self::SPAN)).for_each(|back| self.counts[Self::place(bucket - back)] = 0);
        self.last = self.last.max(bucket);
        let count = &mut self.counts[Self::place(self.last)];
        *count = count.saturating_add(u16::try_from(amount).unwrap_or(u16::MAX));
    }

    pub fn sum(&self, now: Moment) -> u32 {
        let passed = (seconds(now) / WIDTH).saturating_sub(self.last);
        let live = Self::SPAN.saturating_sub(passed).min(self.last.saturating_add(1));
        (0..live).map(|back| u32::from(self.counts[Self::place(self.last - back)])).sum()
    }

    const SPAN: u32 = {
        assert!(N as u64 * WIDTH as u64 <= DAY as u64);
        N as u32
    };

    fn place(bucket: u32) -> usize {
        usize::try_from(bucket % Self::SPAN).unwrap_or_default()
    }
}

impl<const N: usize, const WIDTH: u32> Default for Count<N, WIDTH> {
    fn default() -> Self {
        Self { counts: [0; N], last: 0 }
    }
}

/// Whole seconds, rounded down; 136 years of them.
pub fn seconds(now: Moment) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_events_are_known_to_the_second() {
        let mut recent = Recent::<3>::default();
        assert_eq!(recent.within(60, at(0)).count(), 0);
        (0..5).for_each(|event| recent.push(event, at(u64::from(event) * 10)));
        assert_eq!(recent.within(60, at(40)).sum::<u32>(), 2 + 3 + 4);
        assert_eq!((recent.within(20, at(40)).count(), recent.since_first(60, at(41))), (2, 21));
        assert_eq!(recent.take(at(40), |figure, age| figure == 3 && age == 10), 1);
        assert_eq!(recent.within(60, at(40)).count(), 2);
    }

    #[test]
    fn a_count_forgets_what_is_older_than_its_span() {
        let mut count = Count::<12, 300>::default();
        (0..12).for_each(|turn| count.add(1, at(turn * 300)));
        assert_eq!(count.sum(at(3599)), 12);
        assert_eq!(count.sum(at(3600)), 11);
        assert_eq!(count.sum(at(6600)), 1);
        assert_eq!(count.sum(at(6900)), 0);
        count.add(1, at(100_000));
        assert_eq!(count.sum(at(100_000)), 1);
    }

    fn at(seconds: u64) -> Moment {
        Moment::default().after(Duration::from_secs(seconds))
    }
}
