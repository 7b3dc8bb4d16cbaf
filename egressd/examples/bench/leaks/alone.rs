//! The ledger between an idealised cache and an idealised upstream: fast, for tuning and for what the
//! resolver cannot switch off.

use super::subject::{Query, Raised, Refused, Scene, Seen, Subject, TICK, Transcript};
use egressd::{
    dns::{Family, ledger::Ledger},
    policy::{HostName, LeakTerms, Moment, Policy, Reason, Wildcard},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// What the resolver around the ledger does. All true is what egressd does.
#[derive(Debug, Clone, Copy)]
pub struct Alone {
    /// Questions leave on the tick.
    pub grid: bool,
    /// Names are kept warm for periods of [`WARM`].
    pub refresh: bool,
    /// Whichever address is asked for, both are.
    pub both: bool,
}

impl Alone {
    pub const WHOLE: Self = Self { grid: true, refresh: true, both: true };
}

/// For how long a name is kept warm, and for as long again if it was used in that time.
pub const WARM: Duration = Duration::from_secs(3600);

impl Subject for Alone {
    fn name(&self) -> &'static str {
        "ledger alone"
    }

    fn play(&self, scene: &Scene, queries: &[Query]) -> Transcript {
        let agents = (0..scene.agents).map(|number| Agent::new(number as u64));
        let mut play = Play {
            around: *self,
            scene,
            policy: scene.policy(),
            agents: agents.collect(),
            transcript: Transcript::default(),
            settled: Duration::ZERO,
            asked: 0,
        };
        queries.iter().for_each(|query| play.ask(query));
        let end = queries.last().map_or(Duration::ZERO, |query| query.at);
        play.settle(end + Duration::from_secs(40));
        play.transcript
    }
}

struct Play<'a> {
    around: Alone,
    scene: &'a Scene,
    policy: Policy,
    agents: Vec<Agent>,
    transcript: Transcript,
    settled: Duration,
    /// Questions so far.
    asked: usize,
}

struct Agent {
    ledger: Ledger,
    /// Names that need not be asked for, by the type that was.
    kept: HashMap<(HostName, u16), Kept>,
}

/// A name that is warm until the end of its period.
struct Kept {
    until: Duration,
    was_used: bool,
}

impl Agent {
    fn new(number: u64) -> Self {
        Self { ledger: ledger(number), kept: HashMap::new() }
    }

    /// Whether `key` is answered without asking, for which its period is renewed where `renewing` says how.
    fn is_warm(
        &mut self,
        key: &(HostName, u16),
        at: Duration,
        renewing: Option<(&LeakTerms, &Wildcard)>,
    ) -> bool {
        let Some(kept) = self.kept.get_mut(key) else { return false };
        while kept.until <= at && kept.was_used {
            let is_renewed =
                renewing.is_some_and(|(terms, wildcard)| self.ledger.renew(terms, wildcard, moment(at)));
            if !is_renewed {
                return false;
            }
            *kept = Kept { until: kept.until + WARM, was_used: false };
        }
        kept.was_used = at < kept.until;
        kept.was_used
    }
}

/// That of the agent of this number, with a key that is the same in every run.
pub fn ledger(number: u64) -> Ledger {
    Ledger::new([number, 7])
}

impl Play<'_> {
    fn ask(&mut self, query: &Query) {
        self.settle(query.at);
        self.asked += 1;
        if let Err(reason) = self.judge(query) {
            self.transcript.refused.push(Refused { at: query.at, reason });
        }
    }

    fn judge(&mut self, query: &Query) -> Result<(), Reason> {
        let name = HostName::from_ascii(&query.name).map_err(|_| Reason::NameInvalid)?;
        let leave = self.policy.lookup(&name).map_err(|denial| denial.reason)?;
        let is_allowed = matches!(query.kind, A | AAAA);
        let Some(wildcard) = leave.wildcard() else { return Ok(()) };
        let Some(agent) = self.agents.get_mut(query.agent) else { return Ok(()) };
        let now = moment(query.at);
        let questions = self.asked;
        let raised = |alert| Raised { at: query.at, questions, alert };
        if !is_allowed {
            let what = format!("type {}", query.kind);
            let alerts = agent.ledger.unusual(&self.scene.terms, wildcard, &name, &what, now);
            self.transcript.raised.extend(alerts.into_iter().map(raised));
            return Err(Reason::QueryTypeNotAllowed);
        }
        let key = (name.clone(), if self.around.both { A } else { query.kind });
        if agent.is_warm(&key, query.at, self.around.refresh.then_some((&self.scene.terms, wildcard))) {
            return Ok(());
        }
        let start = Instant::now();
        let charge = agent.ledger.charge(&self.scene.terms, wildcard, &name, now);
        self.transcript.nanoseconds.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        self.transcript.raised.extend(charge.alerts.into_iter().map(raised));
        charge.verdict?;
        let lasts = if self.around.refresh { WARM } else { self.scene.ttl };
        agent.kept.insert(key, Kept { until: query.at + lasts, was_used: false });
        if self.scene.connects {
            agent.ledger.connected(&name, now);
        }
        self.forward(query, name);
        Ok(())
    }

    /// As the daemon does every few seconds.
    fn settle(&mut self, at: Duration) {
        if at < self.settled + Duration::from_secs(5) {
            return;
        }
        self.settled = at;
        for agent in &mut self.agents {
            let alerts = agent.ledger.settle(&self.scene.terms, moment(at));
            let questions = self.asked;
            let raised = |alert| Raised { at, questions, alert };
            self.transcript.raised.extend(alerts.into_iter().map(raised));
        }
    }

    fn forward(&mut self, query: &Query, name: HostName) {
        let at = if self.around.grid { next_tick(query.at) } else { query.at };
        let families: &[Family] = match (self.around.both, query.kind) {
            (true, _) => &[Family::V4, Family::V6],
            (false, AAAA) => &[Family::V6],
            (false, _) => &[Family::V4],
        };
        let seen = |family: &Family| Seen { at, name: name.clone(), family: *family, scheduled: false };
        self.transcript.seen.extend(families.iter().map(seen));
    }
}

/// The tick that is not before `at`.
pub fn next_tick(at: Duration) -> Duration {
    let ticks = at.as_nanos().div_ceil(TICK.as_nanos());
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

fn moment(at: Duration) -> Moment {
    Moment(0).after(BOOTED + at)
}

/// Scenes begin a while after the machine, at a tick.
pub const BOOTED: Duration = Duration::from_secs(1000);
pub const A: u16 = 1;
pub const AAAA: u16 = 28;
