//! How long a rule counts.

use super::moment::Moment;
use jiff::Timestamp;
use std::time::Duration;

/// How long a rule counts. By default, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Term {
    /// Before this moment of the calendar.
    pub until: Option<Timestamp>,
    /// While its agent is younger than this.
    pub within: Option<Duration>,
}

/// A moment in the life of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occasion {
    pub time: Timestamp,
    /// Since the agent was started or adopted.
    pub age: Duration,
}

impl Term {
    /// Whether there is an end at all.
    #[must_use]
    pub fn is_bounded(self) -> bool {
        self.until.is_some() || self.within.is_some()
    }

    /// Whether the rule counts at `occasion`; where there is none yet, only one without an end does.
    #[must_use]
    pub fn holds(self, occasion: Option<Occasion>) -> bool {
        let Some(Occasion { time, age }) = occasion else { return !self.is_bounded() };
        self.until.is_none_or(|until| time < until) && self.within.is_none_or(|within| age < within)
    }

    /// The moment from which on the rule does not count, where it is `now` at `occasion`; None where there is
    /// no end.
    #[must_use]
    pub fn end(self, occasion: Occasion, now: Moment) -> Option<Moment> {
        let rest = |until: Timestamp| until.duration_since(occasion.time);
        let until = self.until.map(|until| Duration::try_from(rest(until)).unwrap_or_default());
        let within = self.within.map(|within| within.saturating_sub(occasion.age));
        Some(now.after(until.into_iter().chain(within).min()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_term_is_the_first_of_its_ends_and_never_before_this_moment() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let end = |until: Option<i64>, within: Option<u64>| {
            let term = Term { until: until.map(at), within: within.map(Duration::from_secs) };
            let occasion = Occasion { time: at(100), age: Duration::from_secs(10) };
            term.end(occasion, Moment(5_000_000_000)).map(|end| end.0 / 1_000_000_000)
        };
        for (until, within, expected) in [
            (None, None, None),
            (Some(103), None, Some(8)),
            (Some(103), Some(11), Some(6)),
            (Some(101), Some(60), Some(6)),
            (Some(7), Some(60), Some(5)),
            (None, Some(3), Some(5)),
        ] {
            assert_eq!(end(until, within), expected, "{until:?} {within:?}");
        }
    }

    #[test]
    fn a_term_ends_at_its_moment_and_not_before() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let occasion = |second, age| Some(Occasion { time: at(second), age: Duration::from_secs(age) });
        let term = Term { until: Some(at(100)), within: Some(Duration::from_secs(10)) };
        for (second, age, holds) in [(99, 9, true), (100, 9, false), (99, 10, false), (0, 0, true)] {
            assert_eq!(term.holds(occasion(second, age)), holds, "{second} {age}");
        }
        assert!(Term::default().holds(occasion(i64::from(i32::MAX), 1 << 40)));
        assert!(Term::default().holds(None) && !term.holds(None));
    }
}
