//! What is judged: something that agents ask, and that asks an upstream.

use egressd::{
    dns::{Family, ledger::Alert},
    policy::{
        HostName, LeakAction, LeakActions, LeakBudget, LeakFlag, LeakTerms, NameTerms, Pattern, Policy,
        Protocol, Reason, Rule, RuleId, Source, Subject as Match,
    },
};
use std::time::Duration;

/// Plays a scene from its first question to its last, by a clock of its own.
pub trait Subject {
    fn name(&self) -> &'static str;
    fn play(&self, scene: &Scene, queries: &[Query]) -> Transcript;
}

/// One question of one agent.
#[derive(Debug, Clone)]
pub struct Query {
    /// Since the beginning of the scene, never before the question before it.
    pub at: Duration,
    /// By its number, from 0.
    pub agent: usize,
    /// Labels joined by dots. Not always a host name.
    pub name: Vec<u8>,
    pub kind: u16,
}

/// Who asks, what the policy says, and how the internet is.
#[derive(Debug, Clone)]
pub struct Scene {
    pub agents: usize,
    /// There is one rule `**.zone` for each.
    pub zones: Vec<HostName>,
    pub terms: LeakTerms,
    /// Of each rule, where it says so.
    pub budget: Option<LeakBudget>,
    /// Of upstream's answers.
    pub ttl: Duration,
    /// Whether agents connect to what they resolved.
    pub connects: bool,
}

impl Scene {
    /// One agent with one rule, all else as it is by default.
    pub fn of(zone: &str) -> Self {
        Self {
            agents: 1,
            zones: vec![HostName::parse(zone).expect("zones are host names")],
            terms: LeakTerms::default(),
            budget: None,
            ttl: Duration::from_secs(5),
            connects: false,
        }
    }

    /// The same, where flags are shown and nothing else is done.
    pub fn only_flagging(mut self) -> Self {
        let milder = |actions: LeakActions, flag: &LeakFlag| actions.with(*flag, LeakAction::Flag);
        self.terms.actions = LeakFlag::ALL.iter().fold(self.terms.actions, milder);
        self
    }

    pub fn policy(&self) -> Policy {
        let rules = self.zones.iter().zip(1..).map(|(zone, number)| Rule {
            id: RuleId(number),
            source: Source { file: "policy.yaml".into(), line: number },
            subject: Match::Host(Pattern::AnyLabels(zone.clone())),
            ports: vec![443],
            protocol: Some(Protocol::Tls),
            private: false,
            reason: None,
            names: NameTerms { leak_budget: self.budget, types: Vec::new(), ..NameTerms::default() },
            tls: Default::default(),
            term: Default::default(),
            budget: Default::default(),
            mode: Default::default(),
            risk: None,
        });
        Policy::new(rules.collect(), Vec::new()).with_leaks(self.terms.clone())
    }
}

/// What became of a scene.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// In the order in which it reached the upstream.
    pub seen: Vec<Seen>,
    pub refused: Vec<Refused>,
    pub raised: Vec<Raised>,
    /// What the ledger took for each question that had to be forwarded, where it was measured.
    pub nanoseconds: Vec<u32>,
}

/// One question that reached the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub at: Duration,
    pub name: HostName,
    pub family: Family,
    /// Asked on the resolver's own schedule: anybody could have said beforehand that it would come.
    pub scheduled: bool,
}

#[derive(Debug, Clone)]
pub struct Refused {
    pub at: Duration,
    pub reason: Reason,
}

#[derive(Debug, Clone)]
pub struct Raised {
    pub at: Duration,
    /// How many questions had been asked by then, with the one that raised it.
    pub questions: usize,
    pub alert: Alert,
}

/// What forwarded questions wait for.
pub const TICK: Duration = Duration::from_millis(100);
