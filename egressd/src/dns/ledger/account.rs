//! The account of one zone: how it stands, and what is remembered of its names.

use super::{
    bucket::Bucket,
    evidence::{Evidence, Kept, Sign},
    limits::Limits,
    memory::Memory,
    report::{AccountLevel, AccountReport, Raised},
    standing::Standing,
};
use crate::policy::{HostName, LeakAction, Moment};

#[derive(Debug, Clone)]
pub struct Account {
    /// The wildcard's. Of a shared account the last one that used it.
    pub zone: HostName,
    pub standing: Standing,
    /// Names that were refused.
    refused: u64,
    /// Counts up over all accounts.
    pub used: u64,
    memory: Option<Box<Memory>>,
}

impl Account {
    #[must_use]
    pub fn new(zone: HostName, standing: Standing) -> Self {
        Self { zone, standing, refused: 0, used: 0, memory: None }
    }

    /// What is to be said of `sign`; None where its flag was spoken of within the hour.
    pub fn tell(&mut self, sign: Sign, action: LeakAction, now: Moment) -> Option<Evidence> {
        let evidence = self.standing.tell(sign, now)?;
        self.keep(evidence, action, now);
        Some(evidence)
    }

    /// Keeps what was said, to be reported.
    pub fn keep(&mut self, evidence: Evidence, action: LeakAction, now: Moment) {
        self.memory().keep(Kept { evidence, action, at: now });
    }

    /// Counts a name that is refused.
    pub fn refuse(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// Counts a new name that is refused because names are frozen, which they stay until it is quiet.
    pub fn refuse_newcomer(&mut self, fingerprint: u64, now: Moment) {
        self.refuse();
        self.standing.hold(LeakAction::Freeze, now);
        self.memory().note_refused(fingerprint);
    }

    /// Lifts what is held against names, and starts counting anew. The level stays.
    pub fn approve(&mut self) {
        self.standing.approve();
        self.memory().approve();
    }

    /// What is remembered of its names.
    pub fn memory(&mut self) -> &mut Memory {
        self.memory.get_or_insert_default()
    }

    #[must_use]
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Takes every name for a new one.
    pub fn forget(&mut self) {
        self.memory = None;
    }

    #[must_use]
    pub fn report(&self, now: Moment) -> AccountReport {
        let (names_this_hour, names_today) = self.standing.names(now);
        let known = self.memory.as_ref().map_or(0, |memory| memory.seen.len());
        AccountReport {
            zone: self.zone.clone(),
            level: self.standing.report(now),
            names_this_hour,
            names_today,
            known_names: u32::try_from(known).unwrap_or(u32::MAX),
            frozen: self.standing.is_frozen(now),
            rate_limited: self.standing.is_slow(now),
            refused: self.refused,
            flags: self.memory.iter().flat_map(|memory| memory.kept()).map(Raised::from).collect(),
        }
    }

    #[must_use]
    pub fn to_level(&self, now: Moment) -> AccountLevel {
        AccountLevel {
            zone: self.zone.clone(),
            is_shared: self.standing.is_shared(),
            level: self.standing.last_level(now),
            frozen: self.standing.is_frozen(now),
            rate_limited: self.standing.is_slow(now),
        }
    }

    #[must_use]
    pub fn restore(level: AccountLevel, now: Moment) -> Self {
        let bucket = Bucket::restored(level.level, now);
        let mut standing = Standing::new(&Limits::ZONE, bucket, now);
        if level.is_shared {
            standing = standing.shared();
        }
        if level.rate_limited {
            standing.hold(LeakAction::RateLimit, now);
        }
        if level.frozen {
            standing.hold(LeakAction::Freeze, now);
        }
        Self::new(level.zone, standing)
    }
}

#[cfg(test)]
impl Account {
    pub fn octets(&self) -> usize {
        self.zone.as_str().len() + self.memory.as_ref().map_or(0, |memory| memory.octets())
    }
}
