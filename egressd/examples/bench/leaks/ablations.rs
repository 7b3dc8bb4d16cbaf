//! What each part of the resolver is for: the same attacks without it, on the ledger alone.
//!
//! Where the bound breaks, that is the part that keeps it.

use super::{
    Outcome,
    alone::Alone,
    domains::{Sections, registered},
    progress,
    streams::{self, Stream},
    subject::{Scene, Subject},
    table::Table,
    verdict::Verdict,
};
use serde_json::json;

/// One line for each part that can be left out.
pub fn all() -> Outcome {
    let mut outcome = Outcome::default();
    let mut table = Table::new(
        "attacks without a part of the defence, ledger alone, nothing frozen at flags",
        &["without", "streams", "with it", "octets in a day", "worst over the bound", "bound"],
    );
    for (name, around, wanted) in CASES {
        progress(&format!("attacks without {name}"));
        let (with, _) = together(Alone::WHOLE, wanted);
        let (total, over) = together(around, wanted);
        let key = format!("without {name}");
        let figures = json!({"streams": wanted, "octets_with": with, "octets": total, "over_bound": over});
        outcome.figures.insert(key, figures);
        table.push(row(name, &wanted.join(", "), Some(with), total, over));
    }
    let (total, over) = by_private_suffix();
    table.push(row("keeping it by rule: by private suffix", "hex-10s, 1000 buckets", None, total, over));
    outcome.figures.insert("by private suffix".to_owned(), json!({"octets": total, "over_bound": over}));
    let exempt = exempted();
    table.push(row("the ledger, as of exempt popular domains", "hex-1m", None, exempt, exempt - 4096.0));
    outcome.figures.insert("popular domains exempt".to_owned(), json!({"octets": exempt}));
    outcome.tables.push(table);
    outcome
}

fn row(name: &str, streams: &str, with: Option<f64>, total: f64, over: f64) -> Vec<String> {
    let (most, kept) = match over > 0.0 {
        true => (format!("{over:.0}"), "BROKEN"),
        false => ("-".to_owned(), "kept"),
    };
    let with = with.map_or_else(|| "-".to_owned(), |octets| format!("{octets:.0}"));
    vec![name.to_owned(), streams.to_owned(), with, format!("{total:.0}"), most, kept.to_owned()]
}

/// Octets read of these streams, and the worst over its bound.
fn together(around: Alone, wanted: &[&str]) -> (f64, f64) {
    let verdicts: Vec<Verdict> =
        streams::named(wanted).into_iter().map(|stream| play(stream, around)).collect();
    let total = verdicts.iter().map(|verdict| verdict.total).sum();
    (total, verdicts.iter().map(|verdict| verdict.over_bound).fold(f64::MIN, f64::max))
}

fn play(mut stream: Stream, around: Alone) -> Verdict {
    stream.scene = stream.scene.only_flagging();
    Verdict::of(&stream, &around.play(&stream.scene, &stream.queries))
}

/// Octets read, and those over one bound, where each name below a private suffix is a domain of its own.
fn by_private_suffix() -> (f64, f64) {
    let Some(stream) = streams::named(&["hex-10s"]).pop() else { return (0.0, 0.0) };
    let octets = |(query, carried): (&super::subject::Query, &streams::Carried)| {
        let label = String::from_utf8_lossy(&query.name).split('.').next().unwrap_or_default().to_owned();
        let name = format!("x.{label}.s3.amazonaws.com");
        let zone = registered(&name, Sections::All)?;
        let mut query = query.clone();
        query.name = name.clone().into_bytes();
        let transcript = Alone::WHOLE.play(&Scene::of(zone), &[query]);
        (!transcript.seen.is_empty()).then_some(carried.once / 8.0)
    };
    let total = stream.queries.iter().zip(&stream.carried).take(1000).filter_map(octets).sum::<f64>();
    (total, total - 4096.0)
}

/// Octets read in a day where nobody looks.
fn exempted() -> f64 {
    let streams = streams::named(&["hex-1m"]);
    streams.iter().flat_map(|stream| &stream.carried).map(|carried| carried.once / 8.0).sum()
}

const CASES: [(&str, Alone, &[&str]); 4] = [
    ("the grid", Alone { grid: false, ..Alone::WHOLE }, &["gaps-1s", "gaps-1m", "mixed-1s"]),
    ("refreshing", Alone { refresh: false, ..Alone::WHOLE }, &["again-16", "again-256"]),
    (
        "asking for both families",
        Alone { refresh: false, both: false, ..Alone::WHOLE },
        &["kinds-1s", "mixed-1s"],
    ),
    (
        "grid, refreshing and both families",
        Alone { grid: false, refresh: false, both: false },
        &["again-16", "kinds-1s", "gaps-1m", "mixed-1s"],
    ),
];
