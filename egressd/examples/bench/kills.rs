//! What a flood finds while the daemon is killed at random moments.

use crate::{
    fence::Fence,
    lab::Lab,
    programs,
    report::{Report, Row},
    storm::{self, Storm},
};
use serde_json::{Value, json};

/// Kills the daemon `kills` times, while an agent of `mode` floods.
pub fn bench(kills: usize, mode: &str, programs_alone: bool) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let programs = match programs_alone {
        true => storm::without_second_deny(programs(), folder.path()),
        false => programs(),
    };
    let mut fence = Fence::start(Lab::new(), programs, storm::BEFORE);
    let storm = Storm::rage(&mut fence, &["--mode", mode], kills);
    let flows = storm.flows.as_object().cloned().unwrap_or_default();
    let sum = |what: &str| flows.values().filter_map(|flow| flow[what].as_u64()).sum::<u64>();
    Report {
        title: format!(
            "kills: {kills} kill -9 under a flood, {mode} mode; how long granted flows wait for answers"
        ),
        unit: "ms",
        rows: flows.iter().map(|(name, flow)| row(name, flow)).collect(),
        facts: vec![
            ("frames that should not be", json!(storm.violations.len())),
            ("answers that were lost", json!(sum("lost"))),
            ("questions of granted flows", json!(sum("asked"))),
            ("attempts of the flood", json!(storm.attempts)),
            ("attempts a second", json!(storm.rate().round())),
            ("killed before they were ready", json!(storm.killed_early)),
            ("seconds", json!(storm.took.as_secs())),
            ("by kind", storm.kinds.clone()),
        ],
    }
}

fn row(name: &str, flow: &Value) -> Row {
    let at = |part: &str| flow[part].as_f64().unwrap_or(f64::NAN) / 1e3;
    Row {
        name: format!("granted {name}"),
        median: at("median_us"),
        spread: (at("p10_us"), at("p90_us")),
        most: at("max_us"),
    }
}
