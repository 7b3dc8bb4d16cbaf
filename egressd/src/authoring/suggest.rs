//! The least policy that covers what was recorded.

use super::lint::risks;
use crate::{
    audit::{Record, Time, Verdict},
    policy::{HostName, Leave, Policy, Protocol, Reason, host_rule, spoken},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What agents reached, or wanted to.
#[derive(Debug, Default)]
pub struct Suggestions {
    agents: BTreeMap<String, Seen>,
    /// Flows to destinations beyond [`MAX_DESTINATIONS`].
    pub beyond: u64,
}

/// The destinations of one agent that are told apart: more than a policy may have rules.
const MAX_DESTINATIONS: usize = 4096;
/// The programs that are named as evidence of one destination.
const MAX_PROGRAMS: usize = 4;
/// Names below one parent from which on a wildcard is worth a thought.
const MANY: usize = 5;

/// What one agent reached, or wanted to.
#[derive(Debug, Default)]
struct Seen {
    names: BTreeMap<(HostName, &'static str), Destination>,
    left_out: BTreeMap<(String, String), Evidence>,
}

/// One name, and what was spoken to it.
#[derive(Debug)]
struct Destination {
    protocol: Protocol,
    ports: BTreeSet<u16>,
    evidence: Evidence,
}

/// What a line is good for.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    pub flows: u64,
    /// Of these, how many were denied.
    pub denied: u64,
    /// How many were let out only to be observed.
    pub observed: u64,
    pub programs: BTreeSet<String>,
    pub first: Time,
    pub last: Time,
}

/// A rule, or what there is none for, of one agent.
#[derive(Debug, Clone, Serialize)]
pub struct Suggestion {
    pub agent: String,
    pub destination: String,
    /// A line of `rules:`.
    pub rule: Option<String>,
    /// Why there is none.
    pub left_out: Option<String>,
    pub evidence: Evidence,
}

impl Suggestions {
    /// Takes in what a record says.
    pub fn add(&mut self, record: &Record) {
        let seen = self.agents.entry(record.agent.clone()).or_default();
        if seen.names.len() + seen.left_out.len() >= MAX_DESTINATIONS {
            self.beyond += record.count;
            return;
        }
        match wanted(record) {
            Wanted::Nothing => {}
            Wanted::Name(name, protocol, port) => {
                let destination = seen.names.entry((name, protocol.as_str())).or_insert_with(|| {
                    Destination { protocol, ports: BTreeSet::new(), evidence: Evidence::none(record) }
                });
                destination.ports.insert(port);
                destination.evidence.add(record);
            }
            Wanted::Otherwise(destination, why) => {
                let evidence = seen.left_out.entry((destination, why));
                evidence.or_insert_with(|| Evidence::none(record)).add(record);
            }
        }
    }

    /// Every agent's rules, exact names in the order of the alphabet, and what was left out.
    #[must_use]
    pub fn all(&self) -> Vec<Suggestion> {
        let of_agent = |(agent, seen): (&String, &Seen)| {
            let rules = seen.names.iter().map(|((name, _), destination)| {
                let ports: Vec<u16> = destination.ports.iter().copied().collect();
                Suggestion {
                    agent: agent.clone(),
                    destination: name.to_string(),
                    rule: Some(host_rule(name, &ports, destination.protocol, false)),
                    left_out: None,
                    evidence: destination.evidence.clone(),
                }
            });
            let left_out = seen.left_out.iter().map(|((destination, why), evidence)| Suggestion {
                agent: agent.clone(),
                destination: destination.clone(),
                rule: None,
                left_out: Some(why.clone()),
                evidence: evidence.clone(),
            });
            rules.chain(left_out).collect::<Vec<_>>()
        };
        self.agents.iter().flat_map(of_agent).collect()
    }

    /// The rules of `agent` that `policy` lacks, each with what is behind it. What only observes is none.
    #[must_use]
    pub fn missing(&self, agent: &str, policy: &Policy) -> Vec<String> {
        let policy = policy.enforced();
        let seen = self.agents.get(agent).into_iter().flat_map(|seen| &seen.names);
        let lines = seen.filter_map(|((name, _), Destination { protocol, ports, evidence })| {
            let leave = policy.lookup(name).ok();
            let is_open = |port: u16| {
                let mut openings = leave.iter().flat_map(Leave::openings);
                openings.any(|open| (open.port, open.protocol) == (port, *protocol))
            };
            let missing: Vec<u16> = ports.iter().copied().filter(|port| !is_open(*port)).collect();
            let rule = (!missing.is_empty()).then(|| host_rule(name, &missing, *protocol, false))?;
            Some(format!("{rule}   # {}", evidence.told()))
        });
        lines.collect()
    }

    /// The same as a policy file.
    #[must_use]
    pub fn policy(&self) -> String {
        let mut text = "version: 1\nagents:\n".to_owned();
        let all = self.all();
        for (agent, seen) in &self.agents {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  \"{agent}\":\n    rules:");
            let own = || all.iter().filter(|suggestion| suggestion.agent == *agent);
            if seen.names.is_empty() {
                text.push_str("      []\n");
            }
            for (rule, suggestion) in own().filter_map(|own| Some((own.rule.as_ref()?, own))) {
                let _ = writeln!(text, "      {rule}   # {}", suggestion.evidence.told());
            }
            for (parent, count) in seen.crowded() {
                let _ = writeln!(
                    text,
                    "      # {count} of these names are right below {parent}; \"*.{parent}\" would cover \
                     them, and every other name there"
                );
            }
            for suggestion in own() {
                if let Some(why) = &suggestion.left_out {
                    let (destination, told) = (&suggestion.destination, suggestion.evidence.told());
                    let _ = writeln!(text, "      # left out: {destination}: {why} ({told})");
                }
            }
        }
        if self.agents.is_empty() {
            text = "version: 1\nagents: {}\n".to_owned();
        }
        text
    }
}

impl Seen {
    /// Names above many of those that were seen, with how many.
    fn crowded(&self) -> Vec<(String, usize)> {
        let mut below: BTreeMap<&str, BTreeSet<&HostName>> = BTreeMap::new();
        for (name, _) in self.names.keys() {
            if let Some((_, parent)) = name.as_str().split_once('.') {
                below.entry(parent).or_default().insert(name);
            }
        }
        let many = below.into_iter().filter(|(_, names)| names.len() >= MANY);
        many.map(|(parent, names)| (parent.to_owned(), names.len())).collect()
    }
}

/// What a record asks of a policy.
enum Wanted {
    /// What is no flow, or no rule's business.
    Nothing,
    Name(HostName, Protocol, u16),
    /// Whoever wants it writes the rule: the destination, and why.
    Otherwise(String, String),
}

fn wanted(record: &Record) -> Wanted {
    let (destination, port) = (&record.destination, record.destination.port);
    let name = destination.name.as_ref().and_then(|name| HostName::parse(name).ok());
    let reason = record.reason.as_ref().or(record.observed.as_ref());
    let reason = reason.and_then(|word| word.parse::<Reason>().ok());
    let protocol = Protocol::parse(&record.protocol);
    let is_allowed = record.verdict == Verdict::Allow && record.observed.is_none();
    match (is_allowed, name) {
        // A name that was looked up is no flow yet; where it is denied, none follows.
        (_, _) if record.verdict == Verdict::Allow && protocol.is_none() => Wanted::Nothing,
        (true, Some(name)) => {
            let (protocol, port) = (protocol.unwrap_or(Protocol::Tls), port.unwrap_or(443));
            Wanted::Name(name, protocol, port)
        }
        (false, Some(name)) => match (reason, record.remedy.is_some()) {
            (_, true) if let Some(why) = risks::of_name(&name) => {
                Wanted::Otherwise(name.to_string(), format!("shared by strangers: {why}"))
            }
            (Some(Reason::AddressSpecialPurpose), _) => {
                Wanted::Otherwise(name.to_string(), "its address is private or special".to_owned())
            }
            (_, true) => match spoken(port, protocol) {
                // The kernel sees UDP where QUIC was meant.
                (Protocol::Udp, 443) => Wanted::Name(name, Protocol::Quic, 443),
                (protocol, port) => Wanted::Name(name, protocol, port),
            },
            (Some(reason), false) if is_about_the_destination(reason) => {
                Wanted::Otherwise(name.to_string(), reason.explanation().trim_end_matches('.').to_owned())
            }
            (_, false) => Wanted::Nothing,
        },
        (_, None) => match (destination.address, port, &record.remedy) {
            (Some(address), Some(port), remedy) if remedy.is_some() || record.verdict == Verdict::Allow => {
                let destination = format!("{address} port {port}/{}", record.protocol);
                Wanted::Otherwise(destination, "an address without a name".to_owned())
            }
            (_, _, _) => Wanted::Nothing,
        },
    }
}

/// Whether no rule is offered because somebody decided so, and not because of how it was said.
fn is_about_the_destination(reason: Reason) -> bool {
    [
        Reason::DeniedByRule,
        Reason::ResolverNotAllowed,
        Reason::RuleExpired,
        Reason::ApprovalRequired,
        Reason::ApprovalDenied,
        Reason::ApprovalTimedOut,
        Reason::ApprovalsExceeded,
    ]
    .contains(&reason)
}

impl Evidence {
    fn none(record: &Record) -> Self {
        Self {
            flows: 0,
            denied: 0,
            observed: 0,
            programs: BTreeSet::new(),
            first: record.time,
            last: record.time,
        }
    }

    fn add(&mut self, record: &Record) {
        self.flows += record.count;
        if record.verdict == Verdict::Deny {
            self.denied += record.count;
        }
        if record.observed.is_some() {
            self.observed += record.count;
        }
        (self.first, self.last) = (self.first.min(record.time), self.last.max(record.time));
        if let Some(process) = record.process.as_ref().filter(|_| self.programs.len() < MAX_PROGRAMS) {
            self.programs.insert(process.name().to_owned());
        }
    }

    /// As in `12 flows, 3 of them denied, by curl, git; 2026-11-21T10:15:14Z to 10:20:00Z`.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { flows, denied, observed, programs, first, last } = self;
        let mut text = if *flows == 1 { "1 flow".to_owned() } else { format!("{flows} flows") };
        for (some, word) in [(denied, "denied"), (observed, "only observed")] {
            let _ = match (*some, flows == some) {
                (0, _) => Ok(()),
                (_, true) => write!(text, ", {word}"),
                (some, false) => write!(text, ", {some} of them {word}"),
            };
        }
        // An agent chooses what its programs are called, and this is a line of a file.
        let plain = |name: &String| -> String {
            name.chars().map(|letter| if is_plain(letter) { letter } else { '?' }).collect()
        };
        let programs: Vec<String> = programs.iter().map(plain).collect();
        if !programs.is_empty() {
            let _ = write!(text, ", by {}", programs.join(", "));
        }
        let _ = write!(text, "; {first}");
        if last != first {
            let _ = write!(text, " to {last}");
        }
        text
    }
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-_.+@".contains(letter)
}
