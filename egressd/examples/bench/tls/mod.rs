//! What a check of the server name costs a flow: in the kernel, in our proxy, and in proxies that others wrote.

mod aims;
pub mod handshake;
pub mod hello;
mod idle;
pub mod load;
mod peers;
pub mod server;
pub mod stage;

use crate::{leaks::random::Random, measures::Measures, places::OK, runs};
use serde_json::{Value, json};
use stage::{GATE, Stage, Subject};
use std::net::{IpAddr, SocketAddr};

/// Every case by every way, in an order that differs from round to round, so that what else the machine does
/// falls on all of them alike.
pub fn bench(rounds: usize, seconds: f64, idle: usize) -> Measures {
    let title = format!("tls: {rounds} rounds of {seconds} s, in random order");
    let mut measures = Measures::new(title);
    let stage = Stage::set();
    let subjects = stage.subjects();
    let mut random = Random::of("tls");
    for _ in 0..rounds {
        let all = CASES.iter().flat_map(|case| subjects.iter().map(move |subject| (case, subject)));
        let order = random.shuffled(all.enumerate().collect());
        let mut measured: Vec<_> = order
            .into_iter()
            .map(|(place, (case, subject))| (place, case, subject, case.measure(subject, seconds)))
            .collect();
        measured.sort_by_key(|(place, ..)| *place);
        for (_, case, subject, outcome) in measured {
            case.add(subject, &outcome, &mut measures);
        }
    }
    let gate = subjects.iter().find(|subject| subject.name == GATE);
    for (case, gate) in CASES[..1].iter().zip(gate) {
        let act = || number(&case.measure(gate, seconds), "flows");
        runs::measure(stage.fence(), case.name, act, &mut measures);
    }
    idle::measure(&subjects, idle, &mut measures);
    measures.aims = aims::judge(&measures);
    measures
}

struct Case {
    name: &'static str,
    load: &'static [&'static str],
    port: u16,
    /// A number of the load, the name of what it is, and its unit.
    metrics: &'static [(&'static str, &'static str, &'static str)],
}

const NEW: &str = "new flows, as many as there can be";
const PACED: &str = "500 new flows a second";
const HANDSHAKES: &str = "handshakes, as many as there can be";
const PACED_HANDSHAKES: &str = "200 handshakes a second";
const UP: &str = "one flow, to the server";
const DOWN: &str = "one flow, from the server";
const IDLE: &str = "idle flows";

const CASES: [Case; 6] = [
    Case { name: NEW, load: &["greet"], port: SERVER.port(), metrics: &[("rate", "rate", "flows/s")] },
    Case {
        name: PACED,
        load: &["greet", "--rate", "500"],
        port: SERVER.port(),
        metrics: &[("p50", "p50", "us"), ("p99", "p99", "us"), ("each", "processor time of a flow", "us")],
    },
    Case { name: HANDSHAKES, load: &["fetch"], port: WEB.port(), metrics: &[("rate", "rate", "flows/s")] },
    Case {
        name: PACED_HANDSHAKES,
        load: &["fetch", "--rate", "200"],
        port: WEB.port(),
        metrics: &[("p50", "p50", "us"), ("p99", "p99", "us")],
    },
    Case { name: UP, load: &["up"], port: SERVER.port(), metrics: &[("rate", "rate", "Gbit/s")] },
    Case { name: DOWN, load: &["down"], port: SERVER.port(), metrics: &[("rate", "rate", "Gbit/s")] },
];

impl Case {
    /// # Panics
    /// Where more than one flow in a hundred fails.
    fn measure(&self, subject: &Subject<'_>, seconds: f64) -> Value {
        let mut client = subject.load(self.load, self.port, seconds);
        let before = subject.time_on_processors();
        client.begin();
        let mut outcome = client.outcome();
        let took = subject.time_on_processors().saturating_sub(before) as f64;
        client.end();
        let flows = number(&outcome, "flows");
        let is_sound = number(&outcome, "failed") * 100.0 <= flows;
        assert!(is_sound, "{}, {}: {outcome}", self.name, subject.name);
        outcome["each"] = json!((took + number(&outcome, "nanoseconds")) / flows / 1e3);
        outcome
    }

    fn add(&self, subject: &Subject<'_>, outcome: &Value, measures: &mut Measures) {
        for (key, metric, unit) in self.metrics {
            measures.add(self.name, subject.name, metric, unit, number(outcome, key));
        }
    }
}

fn number(outcome: &Value, what: &str) -> f64 {
    outcome[what].as_f64().unwrap_or(f64::NAN)
}

const NAME: &str = OK.name;
/// Ours, and the lab's real one.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(OK.v4), 8443);
const WEB: SocketAddr = SocketAddr::new(IpAddr::V4(OK.v4), 443);
