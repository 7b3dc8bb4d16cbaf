//! The part that replays benign traces.

use super::{
    Goal, Outcome,
    benign::{Figures, replay},
    corpus::{self, Corpus, Row},
    domains::Sections,
    percent, progress, share_figures,
    statistics::Share,
    subject::{Scene, Subject},
    table::Table,
};
use egressd::policy::{LeakFlag, Reason};
use serde_json::json;
use std::{path::Path, time::Duration};

/// Each corpus by the rules as they are by default; thresholds were tuned on the first half of `hpcn`.
pub fn all(traces: &Path, subject: &dyn Subject) -> Outcome {
    let mut outcome = Outcome::default();
    let mut table = Table::new(
        format!(
            "benign names, {}: each agent's registered domains (ICANN) allowed as `**.domain`",
            subject.name()
        ),
        &[
            "corpus",
            "pairs",
            "asked",
            "forwarded",
            "alerts/agent-h",
            "flagged pairs",
            "of those in use",
            "over budget",
            "frozen",
            "suspicious",
            "ns p50",
            "p99",
        ],
    );
    for corpus in &corpora(traces) {
        progress(&format!("{} by {}", corpus.title, subject.name()));
        let figures = replay(corpus, subject, |pair| Scene { connects: true, ..Scene::of(&pair.domain) });
        table.push(row(&figures));
        table.notes.push(format!("{}: {}", figures.corpus, by_flag(&figures)));
        table.notes.extend(figures.examples.iter().map(|example| format!("    {example}")));
        outcome.goals.extend(goals(&figures));
        outcome.figures.insert(figures.corpus.clone(), to_json(&figures));
    }
    if table.rows.is_empty() {
        table.notes.push(format!("no trace is in {}", traces.display()));
    }
    outcome.tables.push(table);
    outcome
}

/// Those that are there: both halves of one, and the other one.
pub fn corpora(traces: &Path) -> Vec<Corpus> {
    let mut corpora = Vec::new();
    if let Some(rows) = corpus::read(&traces.join("hpcn_sample_24h.tsv.gz")) {
        let half = Duration::from_secs(12 * 3600);
        let (first, second) = ("hpcn, first half (tuned on)", "hpcn, second half");
        corpora.push(Corpus::of(first, &rows, Duration::ZERO, half, Sections::Icann));
        corpora.push(Corpus::of(second, &rows, half, half * 2, Sections::Icann));
    }
    if let Some(rows) = corpus::read(&traces.join("brim_wrccdc.tsv.gz")) {
        let lasts = rows.last().map_or(Duration::ZERO, Row::at) + Duration::from_secs(1);
        corpora.push(Corpus::of("brim", &rows, Duration::ZERO, lasts, Sections::Icann));
    }
    corpora
}

fn row(figures: &Figures) -> Vec<String> {
    let refused = |reason| figures.refused.get(&reason).copied().unwrap_or(0).to_string();
    vec![
        figures.corpus.clone(),
        figures.pairs.to_string(),
        figures.queries.to_string(),
        figures.forwarded.to_string(),
        format!("{:.3}", figures.alerts_per_agent_hour),
        percent(figures.flagged, figures.flagged_by_hours),
        format!("{:.2} %", Share { of: figures.in_use, ..figures.flagged }.percent()),
        refused(Reason::LeakBudgetSpent),
        refused(Reason::NamesFrozen),
        refused(Reason::NameSuspicious),
        measured(figures.nanoseconds.0),
        measured(figures.nanoseconds.1),
    ]
}

/// Only the ledger alone is timed.
fn measured(nanoseconds: f64) -> String {
    if nanoseconds.is_nan() { "-".to_owned() } else { format!("{nanoseconds:.0}") }
}

fn by_flag(figures: &Figures) -> String {
    let text = |flag: &LeakFlag| figures.by_flag.get(flag).map(|count| format!("{} {count}", flag.id()));
    let texts: Vec<String> = LeakFlag::ALL.iter().filter_map(text).collect();
    format!("pairs by flag: {}", if texts.is_empty() { "none".to_owned() } else { texts.join(", ") })
}

fn goals(figures: &Figures) -> Vec<Goal> {
    let (metric, to_beat, most) = match figures.corpus.as_str() {
        "hpcn, second half" => ("benign pairs flagged, hpcn, second half", "0.25 %", 0.25),
        "brim" => ("benign pairs flagged, brim", "0.8 %", 0.8),
        _ => return Vec::new(),
    };
    let refusals = figures.refused.get(&Reason::LeakBudgetSpent).copied().unwrap_or(0);
    let flagged = figures.flagged;
    vec![
        Goal {
            metric,
            to_beat,
            ours: percent(flagged, figures.flagged_by_hours),
            is_met: flagged.percent() <= most,
        },
        Goal {
            metric: "benign names refused by the budget",
            to_beat: "0",
            ours: format!("{refusals} of {} forwarded", figures.forwarded),
            is_met: refusals == 0,
        },
    ]
}

fn to_json(figures: &Figures) -> serde_json::Value {
    let by_flag: serde_json::Map<_, _> =
        figures.by_flag.iter().map(|(flag, count)| (flag.id().to_owned(), json!(count))).collect();
    let refused: serde_json::Map<_, _> =
        figures.refused.iter().map(|(reason, count)| (reason.to_string(), json!(count))).collect();
    json!({
        "pairs": figures.pairs, "in_use": figures.in_use, "asked": figures.queries, "forwarded": figures.forwarded,
        "alerts": figures.alerts, "alerts_per_agent_hour": figures.alerts_per_agent_hour,
        "flagged": share_figures(figures.flagged), "flagged_by_hours": figures.flagged_by_hours,
        "by_flag": by_flag, "refused": refused, "nanoseconds": figures.nanoseconds, "examples": figures.examples,
    })
}
