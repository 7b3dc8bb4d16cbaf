//! What a subject does to a corpus of benign names.

use super::{
    corpus::{Corpus, Pair},
    random::Random,
    statistics::{Share, bootstrap, quantile},
    subject::{Raised, Refused, Scene, Subject, Transcript},
};
use egressd::policy::{LeakFlag, Reason};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The figures of one corpus.
#[derive(Debug, Clone)]
pub struct Figures {
    pub corpus: String,
    pub pairs: usize,
    /// Those among them of which more than the domain itself was asked for.
    pub in_use: usize,
    pub queries: usize,
    /// Names that reached the upstream because somebody asked for them.
    pub forwarded: usize,
    pub alerts: usize,
    pub alerts_per_agent_hour: f64,
    /// Of the pairs of agent and rule.
    pub flagged: Share,
    /// By agent-hours drawn again.
    pub flagged_by_hours: (f64, f64),
    pub by_flag: BTreeMap<LeakFlag, usize>,
    /// Questions that were refused, by reason.
    pub refused: BTreeMap<Reason, usize>,
    /// What the ledger took for a question, in the middle and for 99 of 100.
    pub nanoseconds: (f64, f64),
    /// One for each flag, with its domain.
    pub examples: Vec<String>,
}

/// Each pair is an agent with the one rule `**.domain`, so that what binds is the rule.
pub fn replay(corpus: &Corpus, subject: &dyn Subject, scene: impl Fn(&Pair) -> Scene) -> Figures {
    let plays: Vec<(&Pair, Transcript)> =
        corpus.pairs.iter().map(|pair| (pair, subject.play(&scene(pair), &pair.queries))).collect();
    let flagged = plays.iter().filter(|(_, play)| !play.raised.is_empty()).count();
    let mut by_flag: BTreeMap<LeakFlag, usize> = BTreeMap::new();
    let mut refused: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut nanoseconds: Vec<f64> = Vec::new();
    for (_, play) in &plays {
        let flags: BTreeSet<LeakFlag> = play.raised.iter().map(|raised| raised.alert.flag).collect();
        flags.into_iter().for_each(|flag| *by_flag.entry(flag).or_default() += 1);
        play.refused.iter().for_each(|Refused { reason, .. }| *refused.entry(*reason).or_default() += 1);
        nanoseconds.extend(play.nanoseconds.iter().map(|taken| f64::from(*taken)));
    }
    nanoseconds.sort_by(f64::total_cmp);
    let alerts = plays.iter().map(|(_, play)| play.raised.len()).sum();
    Figures {
        corpus: corpus.title.clone(),
        pairs: plays.len(),
        in_use: plays.iter().filter(|(pair, _)| !pair.queries.is_empty()).count(),
        queries: corpus.queries(),
        forwarded: plays.iter().map(|(_, play)| forwarded(play)).sum(),
        alerts,
        alerts_per_agent_hour: alerts as f64 / corpus.agent_hours(),
        flagged: Share { hits: flagged, of: plays.len() },
        flagged_by_hours: bootstrap(&hours(&plays), &mut Random::of(&corpus.title)),
        by_flag,
        refused,
        nanoseconds: (quantile(&nanoseconds, 0.5), quantile(&nanoseconds, 0.99)),
        examples: examples(&plays),
    }
}

fn forwarded(play: &Transcript) -> usize {
    let names: BTreeSet<_> =
        play.seen.iter().filter(|seen| !seen.scheduled).map(|seen| (seen.at, &seen.name)).collect();
    names.len()
}

/// Each pair counts in the hour of its agent in which it was flagged first, or else in which it began.
fn hours(plays: &[(&Pair, Transcript)]) -> Vec<Share> {
    let mut hours: BTreeMap<(usize, u64), Share> = BTreeMap::new();
    for (pair, play) in plays {
        let first_flag = play.raised.iter().map(|raised| raised.at).min();
        let began = pair.queries.first().map_or(Duration::ZERO, |query| query.at);
        let hour = first_flag.unwrap_or(began).as_secs() / 3600;
        let share = hours.entry((pair.agent, hour)).or_insert(Share { hits: 0, of: 0 });
        share.hits += usize::from(first_flag.is_some());
        share.of += 1;
    }
    hours.into_values().collect()
}

/// The first ones of each flag.
fn examples(plays: &[(&Pair, Transcript)]) -> Vec<String> {
    let mut by_flag: BTreeMap<LeakFlag, Vec<String>> = BTreeMap::new();
    for (pair, play) in plays {
        for Raised { at, alert, .. } in &play.raised {
            let text =
                format!("{} **.{} at {} s: {}", alert.flag.id(), pair.domain, at.as_secs(), alert.evidence);
            by_flag.entry(alert.flag).or_default().push(text);
        }
    }
    by_flag.into_values().flat_map(|texts| texts.into_iter().take(EXAMPLES)).collect()
}

const EXAMPLES: usize = 5;
