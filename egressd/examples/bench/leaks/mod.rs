//! What names let out past the resolver, and what is found of it (DNS-LEAKS: the protocol of the judge).
//!
//! The leak is counted at the upstream. Benign traces are read from where they lie, never copied.

mod ablations;
mod adaptive;
mod alone;
mod benign;
mod captures;
mod corpus;
mod costs;
mod domains;
mod encodings;
mod live;
mod pcap;
pub mod random;
mod relay;
mod replay;
mod resolver;
mod statistics;
mod streams;
mod subject;
mod table;
mod trials;
mod verdict;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{fs, io::IsTerminal, path::PathBuf};
use table::Table;

#[derive(Debug, Args)]
pub struct Options {
    /// One part of it
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Where the traces of benign names lie, which are no part of this project
    #[arg(long, default_value = "../shared/data/benign-dns")]
    traces: PathBuf,
    /// Judge the ledger alone, without the resolver around it: faster, for tuning
    #[arg(long)]
    alone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Traces of benign names, and what a ledger costs
    Replay,
    /// The 33 attacks, and what each part of the resolver does against them
    Streams,
    /// An adversary who knows every threshold
    Adaptive,
    /// Real tunnels through the real daemon
    Live,
}

/// Prints the tables, and writes the same figures to `target/bench/leaks.json`.
pub fn bench(options: &Options, as_json: bool) {
    let subject = subject(options);
    let is_wanted = |part| options.only.is_none_or(|only| only == part);
    let mut outcome = Outcome::default();
    if is_wanted(Part::Replay) {
        // First, while no memory was freed that a ledger could take.
        outcome.add(costs::all());
        outcome.add(replay::all(&options.traces, subject.as_ref()));
    }
    if is_wanted(Part::Streams) {
        outcome.add(trials::all(subject.as_ref()));
        outcome.add(ablations::all());
    }
    if is_wanted(Part::Adaptive) {
        outcome.add(adaptive::all(subject.as_ref()));
    }
    if is_wanted(Part::Live) {
        outcome.add(live::all());
    }
    let figures = Value::Object(outcome.figures);
    let folder = crate::results();
    let write = fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("leaks.json"), format!("{figures:#}\n")));
    write.unwrap_or_else(|error| eprintln!("failed to write to {}: {error}", folder.display()));
    if as_json {
        println!("{figures}");
        return;
    }
    outcome.tables.iter().for_each(|table| println!("{table}"));
    println!("{}", summary(outcome.goals));
}

fn subject(options: &Options) -> Box<dyn subject::Subject> {
    match options.alone {
        true => Box::new(alone::Alone::WHOLE),
        false => Box::new(resolver::Resolver),
    }
}

/// What one part brought.
#[derive(Default)]
pub struct Outcome {
    tables: Vec<Table>,
    goals: Vec<Goal>,
    figures: serde_json::Map<String, Value>,
}

impl Outcome {
    fn add(&mut self, part: Self) {
        self.tables.extend(part.tables);
        self.goals.extend(part.goals);
        self.figures.extend(part.figures);
    }
}

/// A number to beat.
pub struct Goal {
    metric: &'static str,
    to_beat: &'static str,
    ours: String,
    is_met: bool,
}

fn summary(goals: Vec<Goal>) -> Table {
    let mut table = Table::new("what was to beat", &["metric", "to beat", "", "ours"]);
    for Goal { metric, to_beat, ours, is_met } in goals {
        let mark = if is_met { "met" } else { "MISSED" };
        table.push([metric.to_owned(), to_beat.to_owned(), mark.to_owned(), ours]);
    }
    table
}

/// Says what is being done, to who watches.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

/// A share with its intervals, for a table.
fn percent(share: statistics::Share, by_hours: (f64, f64)) -> String {
    let (low, high) = share.interval();
    let (from, to) = by_hours;
    format!("{:.2} % [{low:.2} to {high:.2}; by hours {from:.2} to {to:.2}]", share.percent())
}

fn share_figures(share: statistics::Share) -> Value {
    let (low, high) = share.interval();
    json!({"hits": share.hits, "of": share.of, "percent": share.percent(), "low": low, "high": high})
}
