//! Rules whose term ends while agents live.

use super::Daemon;
use crate::{
    datapath,
    policy::{Moment, Occasion},
};
use jiff::Timestamp;
use std::time::Duration;

/// This moment in the life of an agent that was born at `born`.
pub fn occasion(born: Option<Moment>) -> Occasion {
    let age = |born: Moment| Duration::from_nanos(datapath::now().0.saturating_sub(born.0));
    Occasion { time: Timestamp::now(), age: born.map_or(Duration::MAX, age) }
}

impl Daemon {
    /// Puts out of force the rules whose term is over, and cuts their flows.
    pub(super) async fn end_terms(&self) {
        let _turn = self.changes.lock().await;
        for running in self.agents.all() {
            if running.agent.live(occasion(running.birth.born), datapath::now()) {
                tracing::info!(agent = %running.agent.name(), "the term of a rule is over");
                self.names.keep_warm(&running.agent);
                self.apply_or_deny(&running);
            }
            self.end_loans(&running).await;
        }
    }
}
