//! The running bound, in bits, of what one agent can have leaked through names (pure: no clock, no I/O,
//! no floats).
//!
//! Every name that leaves under a wildcard is charged before it leaves, by a prefix code: so that after
//! any time T, an upstream can have seen no more than 2^(C + R*T) different transcripts, and has learnt no
//! more than C + R*T bits. A name that is not forwarded costs nothing.

mod bucket;
mod cost;
mod report;

use crate::policy::{HostName, LeakAction, LeakFlag, LeakTerms, Moment, Reason, Wildcard};
pub use report::{AccountLevel, AccountReport, DeniedReport, Level, Levels, Raised, Report};

use bucket::Bucket;
use std::collections::{BTreeMap, HashSet};

/// The ledger of one agent.
#[derive(Debug)]
pub struct Ledger {
    key: Key,
    /// Over all rules.
    total: Bucket,
    accounts: BTreeMap<HostName, Account>,
}

/// Of the fingerprints of names, so that nobody can choose names that collide.
pub type Key = [u64; 2];

/// What one wildcard's zone has learnt. Kept by the zone: a rule that is edited, removed or added again
/// finds its level where it was.
#[derive(Debug)]
struct Account {
    level: Bucket,
    seen: HashSet<u64>,
}

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
        Self { key, total: Bucket::default(), accounts: BTreeMap::new() }
    }

    /// Charges `name`, which has to be forwarded, or says why it must not be.
    pub fn charge(&mut self, terms: &LeakTerms, wildcard: &Wildcard, name: &HostName, now: Moment) -> Charge {
        let prefix = wildcard.prefix(name);
        let fingerprint = cost::fingerprint(self.key, prefix);
        let account = self.accounts.entry(wildcard.zone.clone()).or_insert_with(Account::default);
        let cost = if account.seen.contains(&fingerprint) {
            cost::known(account.seen.len())
        } else {
            cost::new(prefix)
        } + cost::FIXED;
        let fits = account.level.fits(wildcard.budget, cost, now) && self.total.fits(terms.budget, cost, now);
        if !fits {
            return Charge { verdict: Err(Reason::LeakBudgetSpent), alerts: Vec::new() };
        }
        account.level.add(wildcard.budget, cost, now);
        self.total.add(terms.budget, cost, now);
        account.seen.insert(fingerprint);
        Charge { verdict: Ok(Paid(cost)), alerts: Vec::new() }
    }
}

impl Default for Account {
    fn default() -> Self {
        Self { level: Bucket::default(), seen: HashSet::new() }
    }
}
