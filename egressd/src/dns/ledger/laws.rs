//! What holds for all agents, whatever they ask for and whenever.

use super::{Ledger, Levels, Paid};
use crate::policy::{
    HostName, LeakAction, LeakBudget, LeakFlag, LeakTerms, Moment, RuleId, Source, Wildcard,
};
use std::time::Duration;

/// No zone learns more than its budget in any span of time. Each line of `bytes` is an act and what it is
/// about: `?PREFIX`, `!PREFIX` that does not exist, `-NAME` that is denied, `+SECONDS`, `~` a restart, `=` an
/// approval, `&` a renewal. The first octet chooses the action at all flags, the second the budget.
pub fn ledger(bytes: &[u8]) {
    let [action, budget, script @ ..] = bytes else { return };
    let Ok(script) = std::str::from_utf8(script) else { return };
    let Some(zone) = HostName::parse("z.example").ok() else { return };
    let action = LeakAction::ALL[usize::from(*action) % LeakAction::ALL.len()];
    let mut terms = LeakTerms::default();
    for flag in LeakFlag::ALL {
        terms.actions = terms.actions.with(*flag, action);
    }
    let budget = LeakBudget::of_bytes(u32::from(*budget) * 8).unwrap_or(LeakBudget::RULE);
    let source = Source { file: "laws".into(), line: 1 };
    let wildcard = Wildcard { zone, rule: RuleId(1), source, budget };
    let mut run = Run::new(budget);
    for line in script.lines().take(MAX_LINES) {
        run.take(&terms, &wildcard, line);
    }
}

struct Run {
    ledger: Ledger,
    now: Moment,
    budget: LeakBudget,
    /// A bucket that knows of names nothing but what they cost, in 1/256 bit.
    level: u64,
}

impl Run {
    fn new(budget: LeakBudget) -> Self {
        let now = Moment::default();
        Self { ledger: Ledger::restore(Levels::default(), [1, 2], now), now, budget, level: 0 }
    }

    fn take(&mut self, terms: &LeakTerms, wildcard: &Wildcard, line: &str) {
        let mut rest = line.chars();
        let act = rest.next();
        let rest = rest.as_str();
        let name = HostName::parse(&format!("{rest}.{}", wildcard.zone));
        match (act, name) {
            (Some('?'), Ok(name)) => {
                let charge = self.ledger.charge(terms, wildcard, &name, self.now);
                assert!(charge.alerts.iter().all(|alert| alert.evidence.len() < 256), "{charge:?}");
                if let Ok(Paid(cost)) = charge.verdict {
                    self.pay(cost);
                }
            }
            (Some('!'), Ok(name)) => drop(self.ledger.absent(terms, wildcard, &name, self.now)),
            (Some('-'), _) => drop(self.ledger.denied(terms, rest, 16, self.now)),
            (Some('+'), _) => self.wait(terms, rest.parse().unwrap_or(1)),
            (Some('~'), _) => self.ledger = Ledger::restore(self.ledger.levels(), [3, 4], self.now),
            (Some('='), _) => self.ledger.approve(None),
            (Some('&'), _) => {
                if self.ledger.renew(terms, wildcard, self.now) {
                    self.pay(super::cost::RENEWAL);
                }
            }
            (Some(_) | None, _) => {}
        }
        let report = self.ledger.report(self.now);
        assert!(report.accounts.len() <= 1 && report.denied.len() <= super::limits::MAX_DENIED);
    }

    fn pay(&mut self, cost: u64) {
        self.level += cost;
        let capacity = u64::from(self.budget.capacity()) * 256;
        assert!(self.level <= capacity, "{} of {capacity}", self.level);
    }

    fn wait(&mut self, terms: &LeakTerms, seconds: u16) {
        let passed = Duration::from_secs(seconds.into());
        self.now = self.now.after(passed);
        self.ledger.settle(terms, self.now);
        let drained = u64::from(seconds) * u64::from(self.budget.hourly()) * 256 / 3600;
        // Between two charges the ledger rounds once, this bucket at each step.
        self.level = self.level.saturating_sub(drained + 1);
    }
}

/// More say nothing new.
const MAX_LINES: usize = 2000;
