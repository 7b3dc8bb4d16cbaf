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
#[cfg(any(test, fuzzing))]
pub mod laws;
mod limits;
mod memory;
mod report;
mod seen;
mod standing;
#[cfg(test)]
mod tests;
mod trigrams;
mod window;

use crate::policy::{HostName, LeakAction, LeakFlag, LeakTerms, Moment, Reason, Wildcard};
use account::Account;
use book::Book;
use bucket::Bucket;
use denied::Denied;
use evidence::{Short, Sign};
use limits::Limits;
pub use report::{AccountLevel, AccountReport, DeniedReport, Level, Levels, Raised, Report};
use standing::Standing;

/// The ledger of one agent.
#[derive(Debug, Clone)]
pub struct Ledger {
    key: Key,
    /// The latest moment that it was handed: a clock that goes back gives nothing back twice.
    clock: Moment,
    /// Over all zones.
    agent: Standing,
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
        let bucket = Bucket::restored(total, now);
        Self {
            key,
            clock: now,
            agent: Standing::new(&Limits::AGENT, bucket, now),
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
        Levels {
            total: self.agent.last_level(self.clock),
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
    ) -> Vec<Alert> {
        let now = self.advance(now);
        let (fingerprint, prefix) = (cost::fingerprint(self.key, name.as_str()), wildcard.prefix(name));
        let action = terms.actions.at(LeakFlag::AbsentNames);
        let at = self.open(wildcard, now);
        let of_zone = self.accounts.at(at).standing.absent(prefix, fingerprint, now);
        let of_agent = self.agent.absent(prefix, fingerprint, now);
        let of_zone = of_zone.and_then(|sign| self.raise_at(at, sign, action, now));
        let of_agent = of_agent.and_then(|sign| self.raise_over_all(at, sign, action, now));
        of_zone.into_iter().chain(of_agent).collect()
    }

    /// Notes that the agent connected to `name`.
    pub fn connected(&mut self, name: &HostName, now: Moment) {
        let now = self.advance(now);
        let fingerprint = cost::fingerprint(self.key, name.as_str());
        self.agent.connected(fingerprint, now);
        self.accounts.iter_mut().for_each(|account| account.standing.connected(fingerprint, now));
    }

    /// Stops waiting for connections that did not follow. To be called every few seconds.
    pub fn settle(&mut self, terms: &LeakTerms, now: Moment) -> Vec<Alert> {
        let now = self.advance(now);
        self.agent.know(terms.budget, now);
        let action = terms.actions.at(LeakFlag::NeverConnected);
        let mut alerts = Vec::new();
        for at in 0..self.accounts.len() {
            let sign = self.accounts.at(at).standing.settle(now);
            alerts.extend(sign.and_then(|sign| self.raise_at(at, sign, action, now)));
        }
        let last = self.accounts.last_used();
        if let Some((at, sign)) = last.zip(self.agent.settle(now)) {
            alerts.extend(self.raise_over_all(at, sign, action, now));
        }
        alerts
    }

    /// Notes that something was asked for at `name` that no client needs, and says what. It has been refused.
    pub fn unusual(
        &mut self,
        terms: &LeakTerms,
        wildcard: &Wildcard,
        name: &HostName,
        what: &str,
        now: Moment,
    ) -> Vec<Alert> {
        let now = self.advance(now);
        let at = self.open(wildcard, now);
        self.accounts.at(at).refuse();
        let sign = Sign::Unusual { what: Short::new(what), name: Short::new(wildcard.prefix(name)) };
        // To refuse it is to refuse the query, which is all there is: its zone learnt nothing.
        let action = terms.actions.at(sign.flag());
        let alert = if action == LeakAction::Refuse {
            self.tell(at, sign, action, now)
        } else {
            self.raise_at(at, sign, action, now)
        };
        Vec::from_iter(alert)
    }

    /// Notes that `asked`, a name in any spelling, was denied.
    pub fn denied(&mut self, terms: &LeakTerms, asked: &str, kind: u16, now: Moment) -> Vec<Alert> {
        let now = self.advance(now);
        let asked = asked.to_ascii_lowercase();
        let fingerprint = cost::fingerprint(self.key, &asked);
        let Some((zone, evidence)) = self.denied.note(&asked, kind, fingerprint, now) else {
            return Vec::new();
        };
        let flag = LeakFlag::DeniedTunnel;
        let action = terms.actions.at(flag);
        self.is_quarantined |= action >= LeakAction::Quarantine;
        vec![Alert { flag, action, zone, evidence }]
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
        self.agent.approve();
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
            total: self.agent.report(now),
            quarantined: self.is_quarantined,
            accounts,
            denied: self.denied.report(),
        }
    }

    fn advance(&mut self, now: Moment) -> Moment {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn open(&mut self, wildcard: &Wildcard, now: Moment) -> usize {
        self.accounts.open(&wildcard.zone, wildcard.budget, &self.agent, now)
    }

    /// Puts `action` in force at one zone, and says so if it was not said in the last hour.
    fn raise_at(&mut self, at: usize, sign: Sign, action: LeakAction, now: Moment) -> Option<Alert> {
        self.is_quarantined |= action >= LeakAction::Quarantine;
        self.accounts.at(at).standing.hold(action, now);
        self.tell(at, sign, action, now)
    }

    fn tell(&mut self, at: usize, sign: Sign, action: LeakAction, now: Moment) -> Option<Alert> {
        let account = self.accounts.at(at);
        let evidence = account.tell(sign, action, now)?.to_string();
        Some(Alert { flag: sign.flag(), action, zone: account.zone.clone(), evidence })
    }

    /// The same at all zones, those that are still to come included.
    fn raise_over_all(&mut self, at: usize, sign: Sign, action: LeakAction, now: Moment) -> Option<Alert> {
        self.is_quarantined |= action >= LeakAction::Quarantine;
        self.agent.hold(action, now);
        self.accounts.iter_mut().for_each(|account| account.standing.hold(action, now));
        let evidence = self.agent.tell(sign, now)?;
        let account = self.accounts.at(at);
        account.keep(evidence, action, now);
        Some(Alert { flag: sign.flag(), action, zone: account.zone.clone(), evidence: evidence.to_string() })
    }
}
