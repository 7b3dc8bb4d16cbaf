//! What was meant to come out, and whether it did.

use super::{
    DOWN, HANDSHAKES, IDLE, NEW, PACED, PACED_HANDSHAKES, UP,
    idle::MEMORY,
    stage::{COPY, DIRECT, GATE, PROXY},
};
use crate::measures::{Aim, Measures};

/// The aims, with what was measured.
pub fn judge(measures: &Measures) -> Vec<Aim> {
    let mut aims = vec![
        gate(measures, NEW, "rate", Better::More, 0.95),
        gate(measures, PACED_HANDSHAKES, "p50", Better::Less, 0.97),
        gate(measures, PACED_HANDSHAKES, "p99", Better::Less, 0.97),
        gate(measures, UP, "rate", Better::More, 0.98),
        gate(measures, DOWN, "rate", Better::More, 0.98),
    ];
    for (case, metric, better) in COLUMNS {
        aims.push(proxy(measures, case, metric, better));
    }
    for case in [UP, DOWN] {
        let found = ratio(measures, case, "rate", Better::More, PROXY, "haproxy");
        aims.push(Aim::at_least(format!("proxy to haproxy, {case}"), found, 1.5));
    }
    let memory = measures.median(IDLE, PROXY, MEMORY);
    aims.push(Aim::at_most(format!("proxy, {MEMORY}, MB"), memory, 150.0));
    aims
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

const COLUMNS: [(&str, &str, Better); 8] = [
    (NEW, "rate", Better::More),
    (PACED, "p50", Better::Less),
    (PACED, "p99", Better::Less),
    (PACED, "processor time of a flow", Better::Less),
    (HANDSHAKES, "rate", Better::More),
    (PACED_HANDSHAKES, "p50", Better::Less),
    (UP, "rate", Better::More),
    (DOWN, "rate", Better::More),
];

fn gate(measures: &Measures, case: &str, metric: &str, better: Better, least: f64) -> Aim {
    let found = ratio(measures, case, metric, better, GATE, DIRECT);
    Aim::at_least(format!("gate to direct, {case}, {metric}"), found, least)
}

/// Our proxy beside the best of the others.
fn proxy(measures: &Measures, case: &str, metric: &str, better: Better) -> Aim {
    let others = measures.subjects(case, metric).into_iter();
    let others = others.filter(|name| ![DIRECT, GATE, PROXY, COPY].contains(&name.as_str()));
    let ratios = others.map(|other| ratio(measures, case, metric, better, PROXY, &other));
    let least = ratios.fold(f64::INFINITY, f64::min);
    Aim::at_least(format!("proxy to the best of its peers, {case}, {metric}"), least, 1.0)
}

/// How good `subject` is as a part of how good `other` is.
fn ratio(m: &Measures, case: &str, metric: &str, better: Better, subject: &str, other: &str) -> f64 {
    let (ours, theirs) = (m.median(case, subject, metric), m.median(case, other, metric));
    match better {
        Better::More => ours / theirs,
        Better::Less => theirs / ours,
    }
}
