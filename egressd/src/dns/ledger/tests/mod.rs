//! The ledger, as its callers see it.

mod bound;
mod flags;
mod memory;
mod state;

use super::*;
use crate::policy::{LeakBudget, RuleId, Source};
use std::time::Duration;

/// An agent with a clock of its own.
struct Subject {
    ledger: Ledger,
    terms: LeakTerms,
    budget: LeakBudget,
    now: Moment,
}

impl Subject {
    fn new() -> Self {
        let now = Moment::default().after(Duration::from_secs(1000));
        let ledger = Ledger::restore(Levels::default(), KEY, now);
        Self { ledger, terms: LeakTerms::default(), budget: LeakBudget::RULE, now }
    }

    fn of(actions: impl IntoIterator<Item = (LeakFlag, LeakAction)>) -> Self {
        let mut subject = Self::new();
        for (flag, action) in actions {
            subject.terms.actions = subject.terms.actions.with(flag, action);
        }
        subject
    }

    /// One that says everything and does nothing.
    fn unhindered() -> Self {
        Self::of(LeakFlag::ALL.iter().map(|flag| (*flag, LeakAction::Log)))
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.after(Duration::from_secs(seconds));
        self
    }

    /// Charges `prefix` below `cdn.example`.
    fn charge(&mut self, prefix: &str) -> Charge {
        self.charge_at("cdn.example", prefix)
    }

    fn charge_at(&mut self, zone: &str, prefix: &str) -> Charge {
        let wildcard = wildcard(zone, self.budget);
        self.ledger.charge(&self.terms, &wildcard, &name(prefix, zone), self.now)
    }

    fn absent(&mut self, prefix: &str) -> Vec<Alert> {
        let wildcard = wildcard("cdn.example", self.budget);
        self.ledger.absent(&self.terms, &wildcard, &name(prefix, "cdn.example"), self.now)
    }

    fn unusual(&mut self, prefix: &str, what: &str) -> Vec<Alert> {
        let wildcard = wildcard("cdn.example", self.budget);
        self.ledger.unusual(&self.terms, &wildcard, &name(prefix, "cdn.example"), what, self.now)
    }

    fn connect(&mut self, prefix: &str) {
        self.ledger.connected(&name(prefix, "cdn.example"), self.now);
    }

    fn settle(&mut self) -> Vec<Alert> {
        self.ledger.settle(&self.terms, self.now)
    }

    fn denied(&mut self, asked: &str, kind: u16) -> Vec<Alert> {
        self.ledger.denied(&self.terms, asked, kind, self.now)
    }

    fn account(&self) -> AccountReport {
        self.ledger.report(self.now).accounts.first().cloned().expect("there is an account")
    }

    /// The first flag at which `prefixes` are spoken of, one every `seconds`, and how many left before.
    fn first_flag<'a>(
        &mut self,
        prefixes: impl IntoIterator<Item = &'a str>,
        seconds: u64,
    ) -> Option<(LeakFlag, usize)> {
        let mut left = 0;
        for prefix in prefixes {
            let charge = self.wait(seconds).charge(prefix);
            left += usize::from(charge.verdict.is_ok());
            if let Some(alert) = charge.alerts.first() {
                return Some((alert.flag, left));
            }
        }
        None
    }
}

fn wildcard(zone: &str, budget: LeakBudget) -> Wildcard {
    let source = Source { file: "p.yaml".into(), line: 1 };
    Wildcard { zone: HostName::parse(zone).unwrap(), rule: RuleId(1), source, budget }
}

fn name(prefix: &str, zone: &str) -> HostName {
    HostName::parse(&format!("{prefix}.{zone}")).unwrap()
}

/// A label of `length` random characters of `alphabet`, the same for the same `seed`.
fn random(seed: u64, length: usize, alphabet: &str) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let index = usize::try_from(state >> 33).unwrap() % alphabet.len();
            char::from(alphabet.as_bytes()[index])
        })
        .collect()
}

const KEY: Key = [1, 2];
const HEX: &str = "0123456789abcdef";
const BASE32: &str = "abcdefghijklmnopqrstuvwxyz234567";
const BASE36: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
