//! What a stream got out, counted at the upstream, and when it was found.

use super::{
    alone::next_tick,
    streams::{Carried, Stream},
    subject::{Query, Seen, TICK, Transcript},
};
use egressd::{
    dns::Family,
    policy::{LeakBudget, LeakFlag, Reason},
};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// What became of one stream.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub name: &'static str,
    pub what: &'static str,
    pub found: Option<Found>,
    pub first_refusal: Option<(Reason, f64)>,
    /// Octets of payload that the upstream could read, in the whole of the day.
    pub total: f64,
    /// The most octets by which what could be read was ever over the bound; below zero: it was not.
    pub over_bound: f64,
}

/// The first flag.
#[derive(Debug, Clone)]
pub struct Found {
    pub flag: LeakFlag,
    pub evidence: String,
    /// Questions up to the one that raised it, with that one.
    pub queries: usize,
    /// Since the first question.
    pub after: Duration,
    /// Octets that the upstream could read by then.
    pub leaked: f64,
}

impl Verdict {
    pub fn of(stream: &Stream, transcript: &Transcript) -> Self {
        let leak = Leak::read(stream, &transcript.seen);
        let start = stream.queries.first().map_or(Duration::ZERO, |query| query.at);
        let first = transcript.raised.iter().min_by_key(|raised| raised.at);
        let found = first.map(|raised| Found {
            flag: raised.alert.flag,
            evidence: raised.alert.evidence.clone(),
            queries: raised.questions,
            after: raised.at.saturating_sub(start),
            leaked: leak.octets_until(raised.at + TICK),
        });
        let refused = transcript.refused.iter().min_by_key(|refused| refused.at);
        Self {
            name: stream.name,
            what: stream.what,
            found,
            first_refusal: refused.map(|refused| (refused.reason, leak.octets_until(refused.at + TICK))),
            total: leak.octets_until(Duration::MAX),
            over_bound: leak.most_over(bound(stream), start),
        }
    }
}

/// What several ledgers allow together: bits at once, and bits an hour.
fn bound(stream: &Stream) -> (f64, f64) {
    let agents = stream.scene.agents as f64;
    let zones = stream.scene.zones.len() as f64;
    let least = |of: fn(LeakBudget) -> u32| {
        agents * (zones * f64::from(of(LeakBudget::RULE))).min(f64::from(of(stream.scene.terms.budget)))
    };
    (least(LeakBudget::capacity), least(LeakBudget::hourly))
}

/// Bits that became readable, and when.
struct Leak(Vec<(Duration, f64)>);

impl Leak {
    /// Reads what reached the upstream, as somebody would who knows what each question means.
    fn read(stream: &Stream, seen: &[Seen]) -> Self {
        let mut reader = Reader::of(stream);
        Self(events(seen).iter().map(|event| (event.at, reader.read(event))).collect())
    }

    fn octets_until(&self, until: Duration) -> f64 {
        let read = self.0.iter().take_while(|(at, _)| *at <= until);
        read.fold(0.0, |sum, (_, bits)| sum + bits) / 8.0
    }

    fn most_over(&self, (at_once, hourly): (f64, f64), start: Duration) -> f64 {
        let mut sum = 0.0;
        let over = self.0.iter().map(|(at, bits)| {
            sum += bits;
            sum - at_once - hourly * at.saturating_sub(start).as_secs_f64() / 3600.0
        });
        over.fold(-at_once, f64::max) / 8.0
    }
}

/// Questions for one name in one tick.
struct Event<'a> {
    at: Duration,
    name: &'a str,
    families: Vec<Family>,
}

/// What came on the resolver's own schedule says nothing.
fn events(seen: &[Seen]) -> Vec<Event<'_>> {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut sorted: Vec<&Seen> = seen.iter().filter(|seen| !seen.scheduled).collect();
    sorted.sort_by_key(|seen| seen.at);
    for seen in sorted {
        let (at, name) = (seen.at, seen.name.as_str());
        let in_tick = events.iter_mut().rev().take_while(|event| event.at + TICK > at);
        match { in_tick }.find(|event| event.name == name) {
            Some(event) => event.families.push(seen.family),
            None => events.push(Event { at, name, families: vec![seen.family] }),
        }
    }
    events
}

struct Reader<'a> {
    stream: &'a Stream,
    /// The questions for each name that were not read yet, by their numbers.
    unread: HashMap<&'a [u8], VecDeque<usize>>,
    known: std::collections::HashSet<&'a [u8]>,
    before: Option<(usize, Duration)>,
}

impl<'a> Reader<'a> {
    fn of(stream: &'a Stream) -> Self {
        let mut unread: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
        for (number, query) in stream.queries.iter().enumerate() {
            unread.entry(&query.name).or_default().push_back(number);
        }
        Self { stream, unread, known: Default::default(), before: None }
    }

    fn read(&mut self, event: &Event<'_>) -> f64 {
        let Some((number, query)) = self.latest(event) else { return 0.0 };
        let carried = self.stream.carried[number];
        let once = if self.known.insert(&query.name) { carried.once } else { 0.0 };
        let kind = if event.families.len() == 1 { carried.kind } else { 0.0 };
        let time = self.time(number, event.at, carried);
        self.before = Some((number, event.at));
        once + carried.each + kind + time
    }

    /// The question that this is, the last one for its name before it.
    fn latest(&mut self, event: &Event<'_>) -> Option<(usize, &'a Query)> {
        let unread = self.unread.get_mut(event.name.as_bytes())?;
        let mut latest = None;
        while let Some(number) = unread.front().filter(|number| self.stream.queries[**number].at <= event.at)
        {
            latest = Some(*number);
            unread.pop_front();
        }
        latest.map(|number| (number, &self.stream.queries[number]))
    }

    /// What the moment says, if it is as it was meant.
    fn time(&self, number: usize, at: Duration, carried: Carried) -> f64 {
        let tick = |at: Duration| next_tick(at).as_millis();
        let meant = |number: usize| tick(self.stream.queries[number].at);
        let gap = self.before.filter(|(before, _)| before + 1 == number).filter(|(before, before_at)| {
            tick(at).saturating_sub(tick(*before_at)) == meant(number) - meant(*before)
        });
        let is_exact = !at.as_millis().is_multiple_of(TICK.as_millis());
        gap.map_or(0.0, |_| carried.gap) + if is_exact { carried.within } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::subject::Scene;
    use egressd::policy::HostName;

    #[test]
    fn a_name_is_read_once_and_a_type_only_where_it_shows() {
        let stream = stream(&[("a", 1), ("b", 1), ("a", 28)]);
        let seen = [seen(1, "a", Family::V4), seen(1, "a", Family::V6), seen(2, "b", Family::V4)];
        let leak = Leak::read(&stream, &seen);
        // Eight bits of each name, and one of the type of the second, of which the upstream saw one alone.
        assert_eq!(leak.octets_until(Duration::from_secs(1)), 1.0);
        assert_eq!(leak.octets_until(Duration::MAX), 17.0 / 8.0);
    }

    #[test]
    fn what_comes_by_the_schedule_says_nothing() {
        let stream = stream(&[("a", 1)]);
        let seen = [Seen { scheduled: true, ..seen(1, "a", Family::V4) }];
        assert_eq!(Leak::read(&stream, &seen).octets_until(Duration::MAX), 0.0);
    }

    #[test]
    fn the_bound_is_judged_at_every_moment() {
        let leak = Leak(vec![(Duration::ZERO, 16.0), (Duration::from_secs(3600), 16.0)]);
        assert_eq!(leak.most_over((8.0, 8.0), Duration::ZERO), 2.0);
        assert_eq!(leak.most_over((64.0, 8.0), Duration::ZERO), -5.0);
    }

    fn stream(asked: &[(&str, u16)]) -> Stream {
        let query = |(number, (label, kind)): (usize, &(&str, u16))| Query {
            at: Duration::from_millis(number as u64 * 1000 + 930),
            agent: 0,
            name: format!("{label}.evil.test").into_bytes(),
            kind: *kind,
        };
        Stream {
            name: "test",
            what: "a test",
            scene: Scene::of("evil.test"),
            queries: asked.iter().enumerate().map(query).collect(),
            carried: vec![Carried { once: 8.0, kind: 1.0, ..Carried::default() }; asked.len()],
        }
    }

    fn seen(second: u64, label: &str, family: Family) -> Seen {
        let name = HostName::parse(&format!("{label}.evil.test")).unwrap();
        Seen { at: Duration::from_secs(second), name, family, scheduled: false }
    }
}
