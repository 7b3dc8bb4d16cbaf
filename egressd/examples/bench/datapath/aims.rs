//! What was meant to come out, and whether it did.

use super::{ALONE, BUDGETS, CONNECT, EMPTY, NETWORKS, NOTHING, SEND, SEND_TO, filters::Filter};
use crate::measures::{Aim, Measures};

/// The aims, with what was measured.
pub fn judge(measures: &Measures) -> Vec<Aim> {
    let time = |case, subject| measures.median(case, subject, "time");
    let over = |case, subject, base| time(case, subject) - time(case, base);
    let nft = over(SEND, Filter::Nft.name(), NOTHING);
    let mut aims = Vec::new();
    for (case, subject) in [(SEND, ALONE), (SEND_TO, ALONE), (SEND, NETWORKS), (SEND_TO, NETWORKS)] {
        let what = |base: &str| format!("{subject}: {case}, ns over {base}");
        aims.push(Aim::at_most(what(NOTHING), over(case, subject, NOTHING), 200.0));
        aims.push(Aim::at_most(what(EMPTY), over(case, subject, EMPTY), 200.0));
    }
    for case in [SEND, SEND_TO, CONNECT] {
        aims.push(Aim::at_most(
            format!("{BUDGETS}: {case}, ns over {ALONE}"),
            over(case, BUDGETS, ALONE),
            100.0,
        ));
    }
    let part = over(SEND, ALONE, NOTHING) / nft;
    aims.push(Aim::at_most(format!("{ALONE}: {SEND}, of what `{}` adds", Filter::Nft.name()), part, 0.7));
    let ratio = time(CONNECT, ALONE) / time(CONNECT, NOTHING);
    aims.push(Aim::at_most(format!("{ALONE}: {CONNECT}, to nothing"), ratio, 1.02));
    aims
}
