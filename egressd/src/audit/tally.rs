//! How often what happened since the daemon started, for those who watch from afar. Pure.

use super::{
    alert::Alert,
    event::{Event, Verdict},
    record::{Line, LostAt},
};
use crate::policy::Reason;
use std::collections::{BTreeMap, VecDeque};

/// Counters that only grow: by agent, as long as there are no more than [`MAX_COUNTED`] of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    agents: BTreeMap<String, AgentTally>,
    /// Those of `agents` that ended, the first to end first.
    ended: VecDeque<String>,
    others: AgentTally,
    lost: BTreeMap<LostAt, u64>,
    lines: BTreeMap<&'static str, u64>,
}

/// What is counted of one agent, or of all others together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentTally {
    pub permits: u64,
    pub denials: BTreeMap<Reason, u64>,
    /// Permits that would be denials, were the agent not only observed.
    pub observed: BTreeMap<Reason, u64>,
    /// By the word of the flag.
    pub alerts: BTreeMap<&'static str, u64>,
}

/// Agents that are counted by name: as many as can run at once. Names are free for the asking, and whoever stores
/// counters pays for each.
pub const MAX_COUNTED: usize = 256;

/// What those have for a name that are not counted by theirs. An agent that is called so is one of them.
pub const OTHER: &str = "other";

impl Tally {
    /// Counts the flows that `event` stands for.
    pub fn event(&mut self, event: &Event) {
        let agent = self.agent(event.agent.as_str());
        let count = match (event.verdict, event.reason, event.observed) {
            (Verdict::Deny, Some(reason), _) => agent.denials.entry(reason).or_default(),
            // No gate denies without a reason.
            (Verdict::Deny, None, _) => return,
            (Verdict::Allow, _, observed) => {
                if let Some(reason) = observed {
                    add(agent.observed.entry(reason).or_default(), event.count);
                }
                &mut agent.permits
            }
        };
        add(count, event.count);
    }

    pub fn alert(&mut self, alert: &Alert) {
        add(self.agent(alert.agent.as_str()).alerts.entry(alert.sign.word()).or_default(), 1);
    }

    /// Counts a line of the log, and the events that it says are lost.
    pub fn line(&mut self, line: &Line) {
        let kind = match line {
            Line::Record(_) => "record",
            Line::Alert(_) => "alert",
            Line::Change(_) => "change",
            Line::Gap(gap) => {
                add(self.lost.entry(gap.at).or_default(), gap.lost);
                "gap"
            }
        };
        add(self.lines.entry(kind).or_default(), 1);
    }

    /// The agent of this name has ended: its counters stay until others need their place.
    pub fn end(&mut self, agent: &str) {
        if self.agents.contains_key(agent) && !self.ended.iter().any(|ended| ended == agent) {
            self.ended.push_back(agent.to_owned());
        }
    }

    /// Counters by name, and at the end those of all others.
    pub fn agents(&self) -> impl Iterator<Item = (&str, &AgentTally)> {
        let named = self.agents.iter().map(|(name, tally)| (name.as_str(), tally));
        named.chain(std::iter::once((OTHER, &self.others)))
    }

    /// Events that left no record of their own, by where they were lost.
    pub fn lost(&self) -> impl Iterator<Item = (LostAt, u64)> {
        LostAt::ALL.into_iter().map(|at| (at, self.lost.get(&at).copied().unwrap_or_default()))
    }

    /// Lines by their kind.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |kind| (kind, self.lines.get(kind).copied().unwrap_or_default());
        ["record", "gap", "alert", "change"].into_iter().map(count)
    }

    fn agent(&mut self, name: &str) -> &mut AgentTally {
        if name == OTHER || !self.has_place_for(name) {
            return &mut self.others;
        }
        self.ended.retain(|ended| ended != name);
        self.agents.entry(name.to_owned()).or_default()
    }

    fn has_place_for(&mut self, name: &str) -> bool {
        if self.agents.contains_key(name) || self.agents.len() < MAX_COUNTED {
            return true;
        }
        let Some(first) = self.ended.pop_front() else { return false };
        if let Some(tally) = self.agents.remove(&first) {
            self.others.absorb(tally);
        }
        true
    }
}

impl AgentTally {
    fn absorb(&mut self, other: Self) {
        let Self { permits, denials, observed, alerts } = other;
        add(&mut self.permits, permits);
        denials.into_iter().for_each(|(reason, count)| add(self.denials.entry(reason).or_default(), count));
        observed.into_iter().for_each(|(reason, count)| add(self.observed.entry(reason).or_default(), count));
        alerts.into_iter().for_each(|(flag, count)| add(self.alerts.entry(flag).or_default(), count));
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Gate, Spoken},
        policy::{AgentName, Denial},
    };

    #[test]
    fn flows_are_counted_and_not_the_events_that_stand_for_them() {
        let mut tally = Tally::default();
        for _ in 0..2 {
            tally.event(&Event { count: 3, ..denied("build") });
        }
        let allowed = Event { verdict: Verdict::Allow, reason: None, ..denied("build") };
        tally.event(&Event { observed: Some(Reason::HostNotAllowed), ..allowed.clone() });
        tally.event(&allowed);
        let (name, counted) = tally.agents().next().unwrap();
        assert_eq!((name, counted.permits), ("build", 2));
        assert_eq!(counted.denials, BTreeMap::from([(Reason::AddressNotGranted, 6)]));
        assert_eq!(counted.observed, BTreeMap::from([(Reason::HostNotAllowed, 1)]));
    }

    #[test]
    fn ever_new_names_make_no_more_counters_and_lose_no_count() {
        let mut tally = Tally::default();
        let name = |number: usize| format!("agent-{number}");
        tally.event(&denied("stays"));
        for number in 0..3 * MAX_COUNTED {
            tally.event(&denied(&name(number)));
            tally.end(&name(number));
        }
        assert_eq!(tally.agents().count(), MAX_COUNTED + 1);
        assert_eq!(denials(&tally, "stays"), 1, "it runs");
        assert_eq!(denials(&tally, &name(3 * MAX_COUNTED - 1)), 1, "it ended last");
        assert_eq!(denials(&tally, &name(0)), 0, "it ended first");
        let all: u64 = tally.agents().flat_map(|(_, agent)| agent.denials.values()).sum();
        assert_eq!(all, 3 * MAX_COUNTED as u64 + 1);
    }

    #[test]
    fn where_all_run_those_that_come_late_are_counted_together() {
        let mut tally = Tally::default();
        (0..MAX_COUNTED + 2).for_each(|number| tally.event(&denied(&format!("agent-{number}"))));
        tally.event(&denied(OTHER));
        assert_eq!((tally.agents().count(), denials(&tally, OTHER)), (MAX_COUNTED + 1, 3));
    }

    #[test]
    fn an_agent_that_comes_back_goes_on_counting() {
        let mut tally = Tally::default();
        tally.event(&denied("build"));
        tally.end("build");
        tally.end("build");
        tally.event(&denied("build"));
        assert_eq!((denials(&tally, "build"), tally.ended.len()), (2, 0));
    }

    fn denials(tally: &Tally, name: &str) -> u64 {
        let found = tally.agents().find(|(agent, _)| *agent == name);
        found.map_or(0, |(_, agent)| agent.denials.values().sum())
    }

    fn denied(agent: &str) -> Event {
        let agent = AgentName::parse(agent).unwrap();
        Event::denied(&agent, Gate::Address, Spoken::Ip(17), &Denial::because(Reason::AddressNotGranted))
    }
}
