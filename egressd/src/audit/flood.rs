//! One agent's flood of events must neither push the records of others out of the log and the
//! feed, nor hide the one of its own that matters. Pure.

use super::event::{Event, Gate, Spoken, Verdict};
use crate::policy::{AgentName, Destination, Reason};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    time::{Duration, Instant},
};

/// What each agent may still have recorded one by one.
///
/// Beyond that, events that look the same are folded into one that counts them, and those that
/// find no place to be folded into are counted alone. Allowed and denied flows are measured apart:
/// neither hides the other.
#[derive(Debug, Default)]
pub struct Flood {
    shares: HashMap<(AgentName, Verdict), Share>,
    alerts: HashMap<AgentName, AlertShare>,
}

impl Flood {
    /// Returns the event where it may be recorded by itself, and keeps it otherwise.
    pub fn admit(&mut self, event: Event, now: Instant) -> Option<Event> {
        let share = match self.shares.entry((event.agent.clone(), event.verdict)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Share::full(now)),
        };
        if share.bucket.spend(BURST, RATE, now) {
            return Some(event);
        }
        share.fold(event);
        None
    }

    /// Whether an alert of `agent` may be recorded; it is counted as lost otherwise, for no two alerts
    /// are alike enough to be one.
    pub fn admits_alert_of(&mut self, agent: &AgentName, now: Instant) -> bool {
        let full = || AlertShare { bucket: Bucket::full(ALERT_BURST, now), lost: 0 };
        let share = self.alerts.entry(agent.clone()).or_insert_with(full);
        let is_admitted = share.bucket.spend(ALERT_BURST, ALERT_RATE, now);
        share.lost = share.lost.saturating_add(u64::from(!is_admitted));
        is_admitted
    }

    /// What was kept since the last call: events that count several flows, and, by agent, how many
    /// flows found no place. Forgets agents that have been quiet.
    pub fn release(&mut self, now: Instant) -> (Vec<Event>, Vec<(AgentName, u64)>) {
        let (mut events, mut lost) = (Vec::new(), Vec::new());
        for ((agent, _), share) in &mut self.shares {
            events.extend(share.folded.drain().map(|(_, event)| event));
            if share.lost > 0 {
                lost.push((agent.clone(), std::mem::take(&mut share.lost)));
            }
        }
        for (agent, share) in self.alerts.iter_mut().filter(|(_, share)| share.lost > 0) {
            lost.push((agent.clone(), std::mem::take(&mut share.lost)));
        }
        self.shares.retain(|_, share| !share.bucket.is_full_after(QUIET, now));
        self.alerts.retain(|_, share| !share.bucket.is_full_after(ALERT_QUIET, now));
        (events, lost)
    }
}

/// Records that an agent may cause at once, by verdict: a build that opens a thousand flows is shown whole.
const BURST: u32 = 2000;
/// Records a second after that. At some 600 octets each, the logs that are kept hold an hour of it.
const RATE: u32 = 200;
/// Events of different looks that are folded between two releases.
const MAX_FOLDED: usize = 64;
/// Time after which an agent's share is full again, and needs no memory.
const QUIET: Duration = Duration::from_secs((BURST / RATE) as u64 + 1);
/// The same of alerts: each flag once in each of a dozen zones.
const ALERT_BURST: u32 = 128;
const ALERT_RATE: u32 = 1;
const ALERT_QUIET: Duration = Duration::from_secs((ALERT_BURST / ALERT_RATE) as u64 + 1);

#[derive(Debug)]
struct Share {
    bucket: Bucket,
    folded: HashMap<Look, Event>,
    lost: u64,
}

#[derive(Debug)]
struct AlertShare {
    bucket: Bucket,
    lost: u64,
}

/// Lines that may still be recorded.
#[derive(Debug)]
struct Bucket {
    left: u32,
    /// When it was last filled up.
    filled_at: Instant,
    spent_at: Instant,
}

/// What two events must have in common to be one that counts both.
type Look = (Gate, Option<Destination>, Option<IpAddr>, Option<u16>, Spoken, [Option<Reason>; 2]);

impl Share {
    fn full(now: Instant) -> Self {
        Self { bucket: Bucket::full(BURST, now), folded: HashMap::new(), lost: 0 }
    }

    fn fold(&mut self, event: Event) {
        let Event { gate, address, port, protocol, reason, observed, count, .. } = event;
        let is_full = self.folded.len() >= MAX_FOLDED;
        match self.folded.entry((
            gate,
            event.destination.clone(),
            address,
            port,
            protocol,
            [reason, observed],
        )) {
            Entry::Occupied(mut held) => {
                let held = held.get_mut();
                held.count = held.count.saturating_add(count);
            }
            Entry::Vacant(_) if is_full => self.lost = self.lost.saturating_add(count),
            Entry::Vacant(place) => {
                place.insert(event);
            }
        }
    }
}

impl Bucket {
    fn full(burst: u32, now: Instant) -> Self {
        Self { left: burst, filled_at: now, spent_at: now }
    }

    /// Takes one out, of a bucket that holds `burst` and gets `rate` back in a second.
    fn spend(&mut self, burst: u32, rate: u32, now: Instant) -> bool {
        let ticks = now.saturating_duration_since(self.filled_at).as_millis() * u128::from(rate) / 1000;
        let earned = u32::try_from(ticks).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(burst);
            self.filled_at = now;
        }
        self.spent_at = now;
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Whether nothing was taken out for as long as it takes to fill it.
    fn is_full_after(&self, quiet: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.spent_at) >= quiet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Denial;

    #[test]
    fn a_flood_is_folded_and_the_others_are_recorded_as_ever() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        assert_eq!(admitted(&mut flood, "flooder", 1..=10_000, now), BURST as usize);
        assert_eq!(admitted(&mut flood, "other", 1..=1, now), 1);
        let (events, lost) = flood.release(now);
        let folded: u64 = events.iter().map(|event| event.count).sum();
        assert_eq!(events.len(), MAX_FOLDED);
        assert_eq!(lost, [(AgentName::parse("flooder").unwrap(), 10_000 - u64::from(BURST) - folded)]);
        assert!(flood.release(now).0.is_empty(), "what was kept is told once");
    }

    #[test]
    fn what_looks_the_same_is_counted_exactly() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        for _ in 0..BURST + 500 {
            flood.admit(denied("flooder", 1), now);
        }
        let (events, lost) = flood.release(now);
        assert_eq!((events.len(), events[0].count, lost.len()), (1, 500, 0));
    }

    #[test]
    fn a_share_fills_up_again_and_is_then_forgotten() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        admitted(&mut flood, "flooder", 1..=3000, now);
        let later = now + Duration::from_secs(1);
        assert_eq!(admitted(&mut flood, "flooder", 1..=3000, later), RATE as usize);
        flood.release(later + QUIET);
        assert!(flood.shares.is_empty());
    }

    /// How many denials at these ports are recorded by themselves.
    fn admitted(flood: &mut Flood, agent: &str, ports: std::ops::RangeInclusive<u16>, now: Instant) -> usize {
        ports.filter(|port| flood.admit(denied(agent, *port), now).is_some()).count()
    }

    fn denied(agent: &str, port: u16) -> Event {
        let agent = AgentName::parse(agent).unwrap();
        let denial = Denial::because(Reason::AddressNotGranted);
        Event { port: Some(port), ..Event::denied(&agent, Gate::Address, Spoken::Ip(17), &denial) }
    }
}
