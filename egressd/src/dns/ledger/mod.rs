//! The running bound, in bits, of what one agent can have leaked through names (pure: no clock, no I/O,
//! no floats).
//!
//! Every name that leaves under a wildcard is charged before it leaves, by a prefix code: so that after
//! any time T, an upstream can have seen no more than 2^(C + R*T) different transcripts, and has learnt no
//! more than C + R*T bits. A name that is not forwarded costs nothing. Flags are raised long before that, and
//! what the policy does at a flag is done to the very name that raises it.

mod account;
mod book;
mod bucket;
mod charge;
mod cost;
mod denied;
mod evidence;
mod limits;
mod memory;
mod report;
mod seen;
#[cfg(test)]
mod tests;
mod trigrams;
mod window;

use crate::policy::{HostName, LeakAction, LeakBudget, LeakFlag, LeakTerms, Moment, Reason, Wildcard};
use account::Account;
use book::Book;
use bucket::{Bucket, Pace};
use denied::Denied;
use evidence::{Short, Sign};
pub use report::{AccountLevel, AccountReport, DeniedReport, Level, Levels, Raised, Report};

/// The ledger of one agent.
#[derive(Debug)]
pub struct Ledger {
    key: Key,
    /// The latest moment that it was handed: a clock that goes back gives nothing back twice.
    clock: Moment,
    /// Over all rules.
    total: Bucket,
    total_told: Option<Moment>,
    accounts: Book,
    denied: Denied,
    is_quarantined: bool,
    /// The last zone whose own budget was spent.
    spent: Option<(HostName, Moment)>,
}

/// Of the fingerprints of names, so that nobody can choose names that collide.
pub type Key = [u64; 2];

/// What becomes of a name that has to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub verdict: Result<Paid, Reason>,
    /// What this name brought to light, each at most once an hour.
    pub alerts: Vec<Alert>,
}

/// What a name cost, in 1/256 bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid(pub u64);

/// A flag that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub flag: LeakFlag,
    /// By the policy.
    pub action: LeakAction,
    pub zone: HostName,
    /// What was seen, with figures and an example.
    pub evidence: String,
}

impl Ledger {
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self::restore(Levels::default(), key, Moment::default())
    }

    /// The ledger that `levels` were kept of. What came back while nobody was here is nobody's.
    #[must_use]
    pub fn restore(levels: Levels, key: Key, now: Moment) -> Self {
        let Levels { total, quarantined, accounts } = levels;
        Self {
            key,
            clock: now,
            total: Bucket::filled(total, LeakBudget::AGENT, now),
            total_told: None,
            accounts: Book::restore(accounts, now),
            denied: Denied::default(),
            is_quarantined: quarantined,
            spent: None,
        }
    }

    /// Whether names of every wildcard are refused.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.is_quarantined
    }

    /// What has to be kept over a restart.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let pace = Pace { budget: self.total.budget(), slow_until: Moment::default() };
        Levels {
            total: self.total.level_at(pace, self.clock),
            quarantined: self.is_quarantined,
            accounts: self.accounts.iter().map(|account| account.to_level(self.clock)).collect(),
        }
    }

    /// Notes that `name`, which was charged, does not exist.
    pub fn absent(
        &mut self,
        terms: &LeakTerms,
        wildcard: &Wildcard,
        name: &HostName,
        now: Moment,
    ) -> Option<Alert> {
        let now = self.advance(now);
        let fingerprint = cost::fingerprint(self.key, name.as_str());
        let at = self.accounts.open(&wildcard.zone, wildcard.budget, now);
        let sign = self.accounts.at(at).absent(wildcard.prefix(name), fingerprint, now)?;
        self.raise_at(at, sign, terms.actions.at(sign.flag()), now)
    }

    /// Notes that the agent connected to `name`.
    pub fn connected(&mut self, name: &HostName, now: Moment) {
        let now = self.advance(now);
        let fingerprint = cost::fingerprint(self.key, name.as_str());
        self.accounts.iter_mut().for_each(|account| account.connected(fingerprint, now));
    }

    /// Stops waiting for connections that did not follow. To be called every few seconds.
    pub fn settle(&mut self, terms: &LeakTerms, now: Moment) -> Vec<Alert> {
        let now = self.advance(now);
        let action = terms.actions.at(LeakFlag::NeverConnected);
        (0..self.accounts.len())
            .filter_map(|at| {
                let sign = self.accounts.at(at).settle(now)?;
                self.raise_at(at, sign, action, now)
            })
            .collect()
    }

    /// Notes that something was asked for at `name` that no client needs, and says what. It has been refused.
    pub fn unusual(
        &mut self,
        terms: &LeakTerms,
        wildcard: &Wildcard,
        name: &HostName,
        what: &str,
        now: Moment,
    ) -> Option<Alert> {
        let now = self.advance(now);
        let at = self.accounts.open(&wildcard.zone, wildcard.budget, now);
        self.accounts.at(at).refuse();
        let sign = Sign::Unusual { what: Short::new(what), name: Short::new(wildcard.prefix(name)) };
        // To refuse it is to refuse the query, which is all there is: its zone learnt nothing.
        match terms.actions.at(sign.flag()) {
            LeakAction::Refuse => self.tell(at, sign, LeakAction::Refuse, now),
            action => self.raise_at(at, sign, action, now),
        }
    }

    /// Notes that `asked`, a name in any spelling, was denied.
    pub fn denied(&mut self, terms: &LeakTerms, asked: &str, kind: u16, now: Moment) -> Option<Alert> {
        let now = self.advance(now);
        let asked = asked.to_ascii_lowercase();
        let fingerprint = cost::fingerprint(self.key, &asked);
        let (zone, evidence) = self.denied.note(&asked, kind, fingerprint, now)?;
        let flag = LeakFlag::DeniedTunnel;
        let action = terms.actions.at(flag);
        self.is_quarantined |= action >= LeakAction::Quarantine;
        Some(Alert { flag, action, zone, evidence })
    }

    /// Lifts what is held against names below `zone`, or, without one, against all, and the quarantine.
    /// Gives no budget back.
    pub fn approve(&mut self, zone: Option<&HostName>) {
        match zone {
            Some(zone) => self.accounts.get_mut(zone).into_iter().for_each(Account::approve),
            None => {
                self.accounts.iter_mut().for_each(Account::approve);
                self.is_quarantined = false;
                self.spent = None;
            }
        }
        self.denied.approve(zone);
    }

    /// How the ledger stands at `now`.
    #[must_use]
    pub fn report(&self, now: Moment) -> Report {
        let now = now.max(self.clock);
        let mut accounts: Vec<AccountReport> =
            self.accounts.iter().map(|account| account.report(now)).collect();
        accounts.sort_by(|a, b| a.zone.cmp(&b.zone));
        Report {
            total: self.total.report(Moment::default(), now),
            quarantined: self.is_quarantined,
            accounts,
            denied: self.denied.report(),
        }
    }

    fn advance(&mut self, now: Moment) -> Moment {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Puts `action` in force, and says so if it was not said in the last hour.
    fn raise_at(&mut self, at: usize, sign: Sign, action: LeakAction, now: Moment) -> Option<Alert> {
        self.is_quarantined |= action >= LeakAction::Quarantine;
        self.accounts.at(at).hold(action, now);
        self.tell(at, sign, action, now)
    }

    fn tell(&mut self, at: usize, sign: Sign, action: LeakAction, now: Moment) -> Option<Alert> {
        let account = self.accounts.at(at);
        let evidence = account.tell(sign, action, now)?.to_string();
        Some(Alert { flag: sign.flag(), action, zone: account.zone.clone(), evidence })
    }
}
