//! Sets of ports.

use super::draft::MAX_PORTS;

/// Ports as ranges: sorted, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortSet {
    ranges: Vec<(u16, u16)>,
}

impl PortSet {
    pub(super) fn all() -> Self {
        Self { ranges: vec![(1, u16::MAX)] }
    }

    pub(super) fn none() -> Self {
        Self { ranges: Vec::new() }
    }

    /// `443` or `1025-65535`; None for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::range(first.parse().ok()?, last.parse().ok()?)
    }

    /// The ports from `first` to `last`; None if there are none, or one is 0.
    pub(super) fn range(first: u16, last: u16) -> Option<Self> {
        (first != 0 && first <= last).then(|| Self { ranges: vec![(first, last)] })
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all: Vec<(u16, u16)> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some(held) if first <= held.1.saturating_add(1) => held.1 = held.1.max(last),
                Some(_) | None => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        for own in &self.ranges {
            for held in &other.ranges {
                let (first, last) = (own.0.max(held.0), own.1.min(held.1));
                if first <= last {
                    ranges.push((first, last));
                }
            }
        }
        Self { ranges }
    }

    pub(super) fn complement(&self) -> Self {
        let mut ranges = Vec::new();
        let mut next = 1;
        for (first, last) in &self.ranges {
            if next < *first {
                ranges.push((next, first - 1));
            }
            match last.checked_add(1) {
                Some(after) => next = after,
                None => return Self { ranges },
            }
        }
        ranges.push((next, u16::MAX));
        Self { ranges }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn holds(&self, port: u16) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// One by one, if a rule may name so many.
    pub(super) fn listed(&self) -> Option<Vec<u16>> {
        let count: usize = self.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
        (count <= MAX_PORTS).then(|| self.ranges.iter().flat_map(|(first, last)| *first..=*last).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_of_ports_are_sets(pairs in prop::collection::vec((1_u16.., 1_u16..), 0..8), at in 0..8_usize, port in 1_u16..) {
            let of = |pairs: &[(u16, u16)]| {
                pairs.iter().fold(PortSet::none(), |set, (a, b)| match PortSet::range(*a.min(b), *a.max(b)) {
                    Some(range) => set.union(&range),
                    None => set,
                })
            };
            let (left, right) = pairs.split_at(at.min(pairs.len()));
            let (left, right) = (of(left), of(right));
            prop_assert_eq!(left.complement().holds(port), !left.holds(port));
            prop_assert_eq!(left.union(&right).holds(port), left.holds(port) || right.holds(port));
            prop_assert_eq!(left.minus(&right).holds(port), left.holds(port) && !right.holds(port));
            prop_assert_eq!(left.complement().complement(), left);
        }
    }

    #[test]
    fn a_rule_names_no_more_than_64_ports() {
        assert_eq!(PortSet::parse("8000-8063").unwrap().listed().unwrap().len(), 64);
        assert_eq!(PortSet::parse("8000-8064").unwrap().listed(), None);
        assert_eq!(PortSet::all().listed(), None);
        for text in ["0", "2-1", "65536", "http", ""] {
            assert_eq!(PortSet::parse(text), None, "{text}");
        }
    }
}
