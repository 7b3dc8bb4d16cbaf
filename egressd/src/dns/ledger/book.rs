//! The accounts of one agent, by zone.

use super::{
    account::Account,
    bucket::Bucket,
    limits::{Limits, MAX_ACCOUNTS, MAX_MEMORIES},
    report::AccountLevel,
    standing::Standing,
};
use crate::policy::{HostName, LeakBudget, Moment};

/// At most [`MAX_ACCOUNTS`], and one that all other zones share. They are kept by the zone: a rule that is
/// edited, removed or added again finds its level where it was.
#[derive(Debug, Clone, Default)]
pub struct Book {
    accounts: Vec<Account>,
    uses: u64,
    /// When the first was opened.
    since: Option<Moment>,
}

impl Book {
    /// The place of the account of `zone`, which has a memory then. Places change with the next that is opened.
    pub fn open(&mut self, zone: &HostName, budget: LeakBudget, agent: &Standing, now: Moment) -> usize {
        let at = self.find(zone).unwrap_or_else(|| self.add(zone, budget, agent, now));
        self.remember(at);
        let account = &mut self.accounts[at];
        account.standing.know(budget, now);
        if account.standing.is_shared() && account.zone != *zone {
            account.zone = zone.clone();
        }
        at
    }

    pub fn at(&mut self, at: usize) -> &mut Account {
        &mut self.accounts[at]
    }

    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// The place of the account that was opened last.
    pub fn last_used(&self) -> Option<usize> {
        let used = self.accounts.iter().enumerate().max_by_key(|(_, account)| account.used);
        used.map(|(at, _)| at)
    }

    /// The account that holds what `zone` has learnt.
    pub fn get_mut(&mut self, zone: &HostName) -> Option<&mut Account> {
        let at = self.find(zone).or_else(|| self.accounts.iter().position(is_shared))?;
        self.accounts.get_mut(at)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.accounts.iter_mut()
    }

    #[must_use]
    pub fn restore(levels: Vec<AccountLevel>, now: Moment) -> Self {
        let mut book = Self::default();
        for mut level in levels {
            let is_full = book.accounts.iter().filter(|held| !is_shared(held)).count() >= MAX_ACCOUNTS;
            level.is_shared |= is_full;
            let restored = Account::restore(level, now);
            match book.accounts.iter_mut().find(|held| is_shared(held) && is_shared(&restored)) {
                Some(shared) => shared.standing.join(&restored.standing, now),
                None => book.accounts.push(restored),
            }
        }
        book
    }

    fn find(&self, zone: &HostName) -> Option<usize> {
        self.accounts.iter().position(|account| !is_shared(account) && account.zone == *zone)
    }

    /// An account for a zone that has none.
    fn add(&mut self, zone: &HostName, budget: LeakBudget, agent: &Standing, now: Moment) -> usize {
        // It may be one that the shared account was charged for.
        let shared = self.accounts.iter().position(is_shared);
        let level = shared.map_or(0, |at| self.accounts[at].standing.level(budget, now));
        let since = *self.since.get_or_insert(now);
        let mut standing = Standing::new(&Limits::ZONE, Bucket::filled(level, budget, now), since);
        // What is held against all zones is held against further ones.
        standing.hold_as(agent);
        let account = |standing| Account::new(zone.clone(), standing);
        if self.accounts.len() - usize::from(shared.is_some()) < MAX_ACCOUNTS {
            self.accounts.reserve_exact(MAX_ACCOUNTS + 1 - self.accounts.len());
            self.accounts.push(account(standing));
            return self.accounts.len() - 1;
        }
        let idle = |account: &Account| !is_shared(account) && account.standing.is_idle(now);
        if let Some(at) = self.accounts.iter().position(idle) {
            self.accounts[at] = account(standing);
            return at;
        }
        shared.unwrap_or_else(|| {
            self.accounts.push(account(standing.shared()));
            self.accounts.len() - 1
        })
    }

    /// Gives the account at `at` a memory: of those that have one, the one that was not used for the longest
    /// loses it where there are [`MAX_MEMORIES`].
    fn remember(&mut self, at: usize) {
        self.uses += 1;
        self.accounts[at].used = self.uses;
        if self.accounts[at].has_memory() {
            return;
        }
        let holders = || self.accounts.iter().enumerate().filter(|(_, account)| account.has_memory());
        let oldest = holders().min_by_key(|(_, account)| account.used).map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| holders().count() >= MAX_MEMORIES) {
            self.accounts[oldest].forget();
        }
        self.accounts[at].memory();
    }
}

fn is_shared(account: &Account) -> bool {
    account.standing.is_shared()
}

#[cfg(test)]
impl Book {
    pub fn octets(&self) -> usize {
        self.accounts.capacity() * size_of::<Account>()
            + self.accounts.iter().map(Account::octets).sum::<usize>()
    }
}
