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
use clap::Args;
use serde_json::{Value, json};
use stage::{COPY, GATE, Stage, Subject};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[arg(short = 'n', long, default_value_t = 5)]
    rounds: usize,
    /// Of each case, of each subject, in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Flows that rest, to see what memory they take
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Two rounds of 0.3 s: to see that it works
    #[arg(long)]
    quick: bool,
    /// Only cases with one of these in their names
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,
    /// Only subjects with one of these in their names
    #[arg(long, value_name = "TEXT")]
    subject: Vec<String>,
    /// Peers that write no access log; egressd writes its records all the same
    #[arg(long)]
    silent_peers: bool,
}

impl Options {
    /// The name of the file that keeps the results: a part of the bench is not the bench.
    pub fn results(&self) -> &'static str {
        if self.case.is_empty() && self.subject.is_empty() { "tls" } else { "tls-part" }
    }

    fn title(&self, rounds: usize, seconds: f64) -> String {
        let log = if self.silent_peers { "no access log" } else { "an access log with a line for each flow" };
        format!(
            "tls: {rounds} rounds of {seconds} s, in random order; egressd records each flow (those beyond \
             its bound for one agent, 2,000 at once and 200 a second, as counts); peers write {log}"
        )
    }
}

/// Every case by every way, in an order that differs from round to round, so that what else the machine does
/// falls on all of them alike.
pub fn bench(options: &Options) -> Measures {
    let Options { rounds, seconds, idle, quick, .. } = *options;
    let (rounds, seconds, idle) = if quick { (2, 0.3, 1000) } else { (rounds, seconds, idle) };
    let mut measures = Measures::new(options.title(rounds, seconds));
    let stage = Stage::set(!options.silent_peers);
    let mut subjects = stage.subjects();
    subjects.retain(|subject| is_wanted(subject.name, &options.subject));
    let cases: Vec<_> = CASES.iter().filter(|case| is_wanted(case.name, &options.case)).collect();
    let mut random = Random::of("tls");
    for _ in 0..rounds {
        let all = cases.iter().flat_map(|case| subjects.iter().map(move |subject| (case, subject)));
        let all = all.filter(|(case, subject)| subject.name != COPY || case.is_bulk());
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
    if is_wanted(IDLE, &options.case) {
        idle::measure(&subjects, idle, &mut measures);
    }
    if options.results() == "tls" {
        measures.aims = aims::judge(&measures);
    }
    measures
}

fn is_wanted(name: &str, texts: &[String]) -> bool {
    texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
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
    Case {
        name: NEW,
        load: &["greet"],
        port: SERVER.port(),
        metrics: &[
            ("rate", "rate", "flows/s"),
            ("middle", "processor time of who stands in the middle", "us"),
        ],
    },
    Case {
        name: PACED,
        load: &["greet", "--rate", "500"],
        port: SERVER.port(),
        metrics: &[
            ("p50", "p50", "us"),
            ("p99", "p99", "us"),
            ("each", "processor time of a flow", "us"),
            ("middle", "processor time of who stands in the middle", "us"),
        ],
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
    fn is_bulk(&self) -> bool {
        [UP, DOWN].contains(&self.name)
    }

    /// # Panics
    /// Where more than one flow in a hundred fails.
    fn measure(&self, subject: &Subject<'_>, seconds: f64) -> Value {
        let mut client = subject.load(self.load, self.port, seconds);
        let (before, middle_before) = (subject.time_on_processors(), subject.time_in_the_middle());
        client.begin();
        let mut outcome = client.outcome();
        let took = subject.time_on_processors().saturating_sub(before) as f64;
        let middle = subject.time_in_the_middle().saturating_sub(middle_before) as f64;
        client.end();
        let flows = number(&outcome, "flows");
        let is_sound = number(&outcome, "failed") * 100.0 <= flows;
        assert!(is_sound, "{}, {}: {outcome}", self.name, subject.name);
        outcome["each"] = json!((took + number(&outcome, "nanoseconds")) / flows / 1e3);
        outcome["middle"] = json!(subject.middle().map(|_| middle / flows / 1e3));
        outcome
    }

    fn add(&self, subject: &Subject<'_>, outcome: &Value, measures: &mut Measures) {
        for (key, metric, unit) in self.metrics {
            // Not every way has a middle.
            if let Some(value) = outcome[key].as_f64() {
                measures.add(self.name, subject.name, metric, unit, value);
            }
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
