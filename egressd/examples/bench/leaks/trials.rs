//! The part that plays the attacks.

use super::{
    Goal, Outcome, captures, progress,
    statistics::median,
    streams::{self, Stream},
    subject::Subject,
    table::Table,
    verdict::Verdict,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// All streams, as they are and with the gate in front of the ledger held open.
pub fn all(subject: &dyn Subject) -> Outcome {
    let mut outcome = Outcome::default();
    let verdicts = judge(subject, streams::all(&captures_folder()));
    let open: Vec<Stream> = streams::all(&captures_folder()).into_iter().take(6).map(opened).collect();
    let open = judge(subject, open);
    outcome.goals = goals(&verdicts, &open);
    let title = format!(
        "attacks on one wildcard rule, {}, octets of payload that the upstream could read",
        subject.name()
    );
    outcome.tables.push(table(&title, &verdicts));
    outcome.tables.push(table(
        "the captures again, asking for addresses only and spelt in letters that names may have",
        &open,
    ));
    outcome.figures.insert("streams".to_owned(), verdicts.iter().map(to_json).collect());
    outcome.figures.insert("streams, gate open".to_owned(), open.iter().map(to_json).collect());
    outcome
}

fn judge(subject: &dyn Subject, streams: Vec<Stream>) -> Vec<Verdict> {
    let verdict = |stream: Stream| {
        progress(&format!("{} by {}", stream.name, subject.name()));
        Verdict::of(&stream, &subject.play(&stream.scene, &stream.queries))
    };
    streams.into_iter().map(verdict).collect()
}

fn opened(mut stream: Stream) -> Stream {
    captures::without_gate(&mut stream);
    stream
}

fn captures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tunnels")
}

fn table(title: &str, verdicts: &[Verdict]) -> Table {
    let head = &[
        "stream",
        "flag",
        "queries",
        "after s",
        "at the flag",
        "first refusal",
        "at it",
        "in a day",
        "bound",
        "what",
    ];
    let mut table = Table::new(title, head);
    for verdict in verdicts {
        let found = verdict.found.as_ref();
        let refusal = verdict.first_refusal;
        let dash = || "-".to_owned();
        table.push([
            verdict.name.to_owned(),
            found.map_or_else(dash, |found| found.flag.id().to_owned()),
            found.map_or_else(dash, |found| found.queries.to_string()),
            found.map_or_else(dash, |found| format!("{:.1}", found.after.as_secs_f64())),
            found.map_or_else(dash, |found| format!("{:.0}", found.leaked)),
            refusal.map_or_else(dash, |(reason, _)| reason.to_string()),
            refusal.map_or_else(dash, |(_, octets)| format!("{octets:.0}")),
            format!("{:.0}", verdict.total),
            if verdict.over_bound > 0.0 {
                format!("BROKEN by {:.0}", verdict.over_bound)
            } else {
                "kept".to_owned()
            },
            verdict.what.to_owned(),
        ]);
    }
    table
}

fn goals(verdicts: &[Verdict], open: &[Verdict]) -> Vec<Goal> {
    let found: Vec<_> = verdicts.iter().filter_map(|verdict| verdict.found.as_ref()).collect();
    let missed: Vec<&str> =
        verdicts.iter().filter(|verdict| verdict.found.is_none()).map(|verdict| verdict.name).collect();
    let leaked = || found.iter().map(|found| found.leaked);
    let queries = |verdicts: &[Verdict]| {
        median(verdicts.iter().filter_map(|v| v.found.as_ref()).map(|found| found.queries as f64).collect())
    };
    let violations = verdicts.iter().chain(open).filter(|verdict| verdict.over_bound > 0.0).count();
    let (middle, most) = (median(leaked().collect()), leaked().fold(0.0, f64::max));
    vec![
        Goal {
            metric: "streams found",
            to_beat: "31 of 33",
            ours: format!("{} of {}; not found: {}", found.len(), verdicts.len(), missed.join(", ")),
            is_met: found.len() >= 31,
        },
        Goal {
            metric: "octets read at the flag, median",
            to_beat: "25",
            ours: format!("{middle:.0}"),
            is_met: middle <= 25.0,
        },
        Goal {
            metric: "octets read at the flag, worst",
            to_beat: "112",
            ours: format!("{most:.0}"),
            is_met: most <= 112.0,
        },
        Goal {
            metric: "questions to the flag, median",
            to_beat: "4",
            ours: format!("{}; of the captures with the gate open {}", queries(verdicts), queries(open)),
            is_met: queries(verdicts) <= 4.0,
        },
        Goal {
            metric: "streams over the bound",
            to_beat: "0",
            ours: violations.to_string(),
            is_met: violations == 0,
        },
    ]
}

fn to_json(verdict: &Verdict) -> Value {
    let found = verdict.found.as_ref().map(|found| {
        json!({
            "flag": found.flag.id(), "evidence": found.evidence, "queries": found.queries,
            "seconds": found.after.as_secs_f64(), "octets": found.leaked,
        })
    });
    let refusal =
        verdict.first_refusal.map(|(reason, octets)| json!({"reason": reason.as_str(), "octets": octets}));
    json!({
        "name": verdict.name, "what": verdict.what, "found": found, "first_refusal": refusal,
        "octets_in_a_day": verdict.total, "octets_over_the_bound": verdict.over_bound,
    })
}
