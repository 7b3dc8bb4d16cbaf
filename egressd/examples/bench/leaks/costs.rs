//! What a ledger costs: memory of an agent that fills it, and time of a question.

use super::{
    Goal, Outcome,
    alone::ledger,
    encodings::{Encoding, Payload},
    progress,
    statistics::quantile,
    subject::Scene,
    table::Table,
};
use egressd::{
    dns::ledger::Ledger,
    policy::{HostName, LeakBudget, Moment, Policy},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// Fills the ledgers of many agents, as far as an agent can.
pub fn all() -> Outcome {
    let mut outcome = Outcome::default();
    progress("what a ledger costs");
    let (policy, scene) = generous();
    let names = names(&scene);
    // Its memory is touched before, so that it is not taken for the ledgers'.
    let mut nanoseconds = vec![1.0; names.len() * LEDGERS as usize];
    nanoseconds.clear();
    let before = resident();
    let ledgers: Vec<Ledger> =
        (0..LEDGERS).map(|number| filled(number, &policy, &names, &mut nanoseconds)).collect();
    let kilobytes = resident().saturating_sub(before) as f64 / ledgers.len() as f64 / 1024.0;
    nanoseconds.sort_by(f64::total_cmp);
    let (middle, most) = (quantile(&nanoseconds, 0.5), quantile(&nanoseconds, 0.99));
    let mut table = Table::new(
        format!("a ledger that an agent filled: {ZONES} zones of {NAMES} names, {DENIED} denied zones"),
        &["kB an agent", "questions", "ns p50", "ns p99"],
    );
    table.push([
        format!("{kilobytes:.0}"),
        nanoseconds.len().to_string(),
        format!("{middle:.0}"),
        format!("{most:.0}"),
    ]);
    let figures = json!({"kilobytes": kilobytes, "nanoseconds": [middle, most]});
    outcome.figures.insert("costs".to_owned(), figures);
    outcome.goals = vec![
        Goal {
            metric: "memory of an agent's ledger, kB",
            to_beat: "80",
            ours: format!("{kilobytes:.0}"),
            is_met: kilobytes <= 80.0,
        },
        Goal {
            metric: "time of a question, ns p50 and p99",
            to_beat: "2000",
            ours: format!("{middle:.0} and {most:.0}"),
            is_met: middle <= 2000.0,
        },
    ];
    outcome.tables.push(table);
    outcome
}

fn filled(number: u64, policy: &Policy, names: &[HostName], nanoseconds: &mut Vec<f64>) -> Ledger {
    let mut ledger = ledger(number);
    let mut now = Moment(0).after(Duration::from_secs(1000));
    for name in names {
        now = now.after(Duration::from_millis(10));
        let leave = policy.lookup(name);
        let Some(wildcard) = leave.as_ref().ok().and_then(|leave| leave.wildcard()) else { continue };
        let start = Instant::now();
        let charge = ledger.charge(policy.leaks(), wildcard, name, now);
        nanoseconds.push(start.elapsed().as_nanos() as f64);
        drop(charge);
    }
    for zone in 0..DENIED {
        let name = HostName::parse(&format!("x{number}.denied{zone}.test")).expect("it is a host name");
        let alerts = ledger.denied(policy.leaks(), name.as_str(), 1, now);
        drop(alerts);
    }
    ledger
}

/// A policy under which nothing is refused, so that all that there is room for is remembered.
fn generous() -> (Policy, Scene) {
    let mut scene = Scene::of("zone.test").only_flagging();
    let zone = |number| HostName::parse(&format!("zone{number}.test")).expect("it is a host name");
    scene.zones = (0..ZONES).map(zone).collect();
    scene.budget = LeakBudget::of_bytes(LeakBudget::MAX);
    scene.terms.budget = LeakBudget::of_bytes(LeakBudget::MAX).unwrap_or(LeakBudget::AGENT);
    (scene.policy(), scene)
}

fn names(scene: &Scene) -> Vec<HostName> {
    let mut payload = Payload::of("costs");
    let name = |zone: &HostName| {
        let label = Encoding::Tenant.spell(&mut payload).label;
        HostName::parse(&format!("{label}.{zone}")).ok()
    };
    scene.zones.iter().cycle().take(ZONES * NAMES).filter_map(name).collect()
}

/// Octets of this process.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Enough that what the process does beside is lost among them.
const LEDGERS: u64 = 300;
const ZONES: usize = 20;
const NAMES: usize = 300;
const DENIED: usize = 80;
