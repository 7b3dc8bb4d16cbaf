//! The part in which an adversary who knows every threshold tries to get out as much as it can.
//!
//! It plans a day: how new names look, how many there are, how often known ones are asked for again once
//! they were forgotten. Each question leaves at a tick of its choice within its slot, and is connected to,
//! so that nothing looks abandoned. Of many plans, the best one that raises no flag counts.

use super::{
    Goal, Outcome,
    alone::{A, Alone, WARM},
    encodings::{Encoding, Payload},
    progress,
    streams::{Carried, DAY, START, Stream},
    subject::{Query, Scene, Subject, TICK},
    table::Table,
    verdict::Verdict,
};
use egressd::policy::LeakBudget;
use serde_json::{Value, json};
use std::time::Duration;

/// One day of an adversary.
#[derive(Debug, Clone, Copy)]
struct Plan {
    shape: Encoding,
    /// New names in the day, and at most in an hour.
    fresh: usize,
    fresh_hourly: usize,
    /// Questions an hour, of new names and of known ones.
    hourly: usize,
}

/// What a plan brought.
struct Score {
    plan: Plan,
    verdict: Verdict,
}

/// Tries all plans on the ledger alone, and the best ones on `subject`.
pub fn all(subject: &dyn Subject) -> Outcome {
    let mut outcome = Outcome::default();
    let quiet = best(search(Scene::of(ZONE), |score| score.verdict.found.is_none()));
    let loud = best(search(Scene::of(ZONE).only_flagging(), |_| true));
    let mut table = Table::new(
        format!("an adversary who knows every threshold, one day, one rule, {}", subject.name()),
        &["adversary", "octets in a day", "flag", "bound", "its plan"],
    );
    let bound = f64::from(LeakBudget::RULE.bytes());
    let cases = [
        (QUIET, quiet, Scene::of(ZONE)),
        ("that nobody stops when it is flagged", loud, Scene::of(ZONE).only_flagging()),
    ];
    for (name, score, scene) in cases {
        let Some(Score { plan, .. }) = score else { continue };
        progress(&format!("the adversary {name} by {}", subject.name()));
        let stream = plan.stream(scene);
        let verdict = Verdict::of(&stream, &subject.play(&stream.scene, &stream.queries));
        let flag = verdict.found.as_ref().map_or("-", |found| found.flag.id());
        let kept = if verdict.over_bound > 0.0 { "BROKEN" } else { "kept" };
        table.push([
            name.to_owned(),
            format!("{:.0}", verdict.total),
            flag.to_owned(),
            kept.to_owned(),
            plan.to_string(),
        ]);
        outcome.figures.insert(format!("adversary {name}"), to_json(&plan, &verdict));
        if name == QUIET {
            outcome.goals.push(Goal {
                metric: "octets a day that are never flagged",
                to_beat: "4096",
                ours: format!("{:.0}", verdict.total),
                is_met: verdict.total <= bound && verdict.found.is_none(),
            });
        }
    }
    outcome.tables.push(table);
    outcome
}

fn search(scene: Scene, is_wanted: impl Fn(&Score) -> bool) -> Vec<Score> {
    let mut scores = Vec::new();
    for shape in SHAPES {
        progress(&format!("plans with {shape:?}"));
        for (fresh, fresh_hourly) in FRESH {
            for hourly in HOURLY {
                let plan = Plan { shape, fresh, fresh_hourly, hourly };
                let stream = plan.stream(scene.clone());
                let verdict = Verdict::of(&stream, &Alone::WHOLE.play(&stream.scene, &stream.queries));
                let score = Score { plan, verdict };
                if is_wanted(&score) {
                    scores.push(score);
                }
            }
        }
    }
    scores
}

fn best(scores: Vec<Score>) -> Option<Score> {
    scores.into_iter().max_by(|a, b| a.verdict.total.total_cmp(&b.verdict.total))
}

impl Plan {
    fn stream(&self, scene: Scene) -> Stream {
        let mut payload = Payload::of("adaptive");
        let slot = Duration::from_secs(3600) / self.hourly as u32;
        let slot_ticks = (slot.as_millis() / TICK.as_millis()).max(1);
        let time_bits = slot_ticks.ilog2();
        let mut day = Day { plan: self, known: Vec::new(), hours: Vec::new() };
        let mut stream = Stream {
            name: "adaptive",
            what: "an adversary who knows every threshold",
            scene: Scene { connects: true, ..scene },
            queries: Vec::new(),
            carried: Vec::new(),
        };
        let mut start = START;
        while start < DAY {
            let at = start + TICK * payload.bits(time_bits) as u32;
            if let Some((label, carried)) = day.choose(at, &mut payload) {
                let name = format!("{label}.{ZONE}").into_bytes();
                stream.queries.push(Query { at, agent: 0, name, kind: A });
                stream.carried.push(Carried { gap: time_bits.into(), ..carried });
            }
            start += TICK * slot_ticks as u32;
        }
        stream
    }
}

/// How far a plan is.
struct Day<'a> {
    plan: &'a Plan,
    /// Names, and when each was used last.
    known: Vec<(String, Duration)>,
    /// How many names were new in each hour.
    hours: Vec<usize>,
}

impl Day<'_> {
    fn choose(&mut self, at: Duration, payload: &mut Payload) -> Option<(String, Carried)> {
        let hour = at.as_secs() as usize / 3600;
        self.hours.resize(self.hours.len().max(hour + 1), 0);
        if self.known.len() < self.plan.fresh && self.hours[hour] < self.plan.fresh_hourly {
            let spelt = self.plan.shape.spell(payload);
            self.hours[hour] += 1;
            self.known.push((spelt.label.clone(), at));
            return Some((spelt.label, Carried { once: spelt.bits, ..Carried::default() }));
        }
        let is_cold = |used: &Duration| at > *used + WARM + COOLING;
        let cold: Vec<usize> =
            (0..self.known.len()).filter(|number| is_cold(&self.known[*number].1)).collect();
        let bits = cold.len().checked_ilog2()?;
        let chosen = &mut self.known[cold[payload.bits(bits) as usize]];
        chosen.1 = at;
        Some((chosen.0.clone(), Carried { each: bits.into(), ..Carried::default() }))
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shape, fresh, fresh_hourly, hourly } = self;
        write!(f, "{fresh} names as {shape:?}, {fresh_hourly} new an hour, {hourly} questions an hour")
    }
}

fn to_json(plan: &Plan, verdict: &Verdict) -> Value {
    json!({
        "plan": plan.to_string(), "octets": verdict.total, "over_bound": verdict.over_bound,
        "flag": verdict.found.as_ref().map(|found| found.flag.id()),
    })
}

const QUIET: &str = "that is never flagged";
const ZONE: &str = "evil.test";

/// After the end of a name's period, until its last answer has expired.
const COOLING: Duration = Duration::from_secs(310);

const SHAPES: [Encoding; 14] = [
    Encoding::Base36(2),
    Encoding::Base36(4),
    Encoding::Base36(5),
    Encoding::Base36(6),
    Encoding::Base36(7),
    Encoding::Base36(10),
    Encoding::Syllables(3),
    Encoding::Syllables(5),
    Encoding::Syllables(8),
    Encoding::Syllables(16),
    Encoding::Words(2),
    Encoding::Words(4),
    Encoding::Words(8),
    Encoding::Deep(4),
];

/// In a day, and in an hour.
const FRESH: [(usize, usize); 8] =
    [(11, 11), (31, 31), (47, 4), (95, 4), (95, 31), (192, 31), (256, 48), (1000, 60)];
const HOURLY: [usize; 7] = [4, 10, 20, 30, 40, 60, 100];
