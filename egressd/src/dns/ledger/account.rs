//! What one zone has learnt, and what is held against the names below it.

use super::{
    bucket::{Bucket, Pace, bits, capacity},
    evidence::{Evidence, Kept, Short, Sign},
    limits::{self, DAY, HOUR},
    memory::Memory,
    report::{AccountLevel, AccountReport, Raised},
    trigrams::Look,
    window::{Count, Recent},
};
use crate::policy::{HostName, LeakAction, LeakBudget, LeakFlag, Moment};
use std::time::Duration;

/// One zone's account. What an agent must not be able to reset is here; what only helps it is in the
/// memory, which may go.
#[derive(Debug)]
pub struct Account {
    /// The wildcard's. Of a shared account the last one that used it.
    pub zone: HostName,
    pub is_shared: bool,
    bucket: Bucket,
    frozen_until: Moment,
    slow_until: Moment,
    hour: Count<12, 300>,
    day: Count<24, 3600>,
    /// Bits of each name.
    encoded: Recent<{ limits::ENCODED_NAMES }>,
    random: Recent<{ limits::RANDOM_NAMES }>,
    /// The lower half of each fingerprint.
    absent: Recent<{ limits::ABSENT_NAMES }>,
    awaited: Recent<{ limits::LOOKED_UP }>,
    /// One if it was connected to.
    settled: Recent<{ limits::LOOKED_UP }>,
    /// When the ledger was last spoken of, by flag.
    told: [Option<Moment>; LeakFlag::ALL.len()],
    refused: u64,
    /// Counts up over all accounts.
    pub used: u64,
    memory: Option<Box<Memory>>,
}

/// What is new about a name.
#[derive(Debug, Clone, Copy)]
pub struct Newcomer<'a> {
    pub prefix: &'a str,
    /// Of the name alone, in 1/256 bit.
    pub cost: u64,
    pub look: Look,
}

impl Account {
    #[must_use]
    pub fn new(zone: HostName, bucket: Bucket) -> Self {
        Self {
            zone,
            is_shared: false,
            bucket,
            frozen_until: Moment::default(),
            slow_until: Moment::default(),
            hour: Count::default(),
            day: Count::default(),
            encoded: Recent::default(),
            random: Recent::default(),
            absent: Recent::default(),
            awaited: Recent::default(),
            settled: Recent::default(),
            told: [None; LeakFlag::ALL.len()],
            refused: 0,
            used: 0,
            memory: None,
        }
    }

    /// The same, for every zone that finds no room.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { is_shared: true, ..self }
    }

    /// The signs that `newcomer` would be, were it to leave.
    pub fn signs(&self, newcomer: Newcomer<'_>, now: Moment, mut found: impl FnMut(Sign)) {
        let Newcomer { prefix, cost, look } = newcomer;
        if cost > limits::LONG_NAME {
            found(Sign::LongName { bits: bits(cost), name: Short::new(prefix) });
        }
        let label = Short::label(prefix, look);
        if look.is_encoded {
            let (names, all) = with(self.encoded.within(HOUR, now), cost);
            if names >= limits::ENCODED_NAMES || all >= limits::ENCODED_BITS {
                let (names, seconds) = (number(names), self.encoded.since_first(HOUR, now));
                found(Sign::EncodedNames { names, seconds, label, per_character: look.per_character });
            }
        }
        if look.is_random {
            let (names, all) = with(self.random.within(DAY, now), cost);
            if names >= limits::RANDOM_NAMES || all >= limits::RANDOM_BITS {
                let names = number(names);
                found(Sign::SlowDrip { names, bits: all, label, per_character: look.per_character });
            }
        }
        let (hour, day) = (self.hour.sum(now) + 1, self.day.sum(now) + 1);
        if hour >= limits::NAMES_AN_HOUR {
            found(Sign::ManyNames { names: hour });
        }
        if day >= limits::NAMES_A_DAY {
            found(Sign::ManyNamesADay { names: day });
        }
    }

    /// Notes that `newcomer` leaves.
    pub fn welcome(&mut self, newcomer: Newcomer<'_>, fingerprint: u64, now: Moment) {
        let Newcomer { cost, look, .. } = newcomer;
        self.hour.add(now);
        self.day.add(now);
        if look.is_encoded {
            self.encoded.push(bits(cost), now);
        }
        if look.is_random {
            self.random.push(bits(cost), now);
        }
        // Of a burst, the first names are watched.
        if self.awaited.has_room() {
            self.awaited.push(low(fingerprint), now);
        }
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

    /// Notes that a name does not exist.
    pub fn absent(&mut self, prefix: &str, fingerprint: u64, now: Moment) -> Option<Sign> {
        if !self.absent.within(HOUR, now).any(|name| name == low(fingerprint)) {
            self.absent.push(low(fingerprint), now);
        }
        let names = self.absent.within(HOUR, now).count();
        let seconds = self.absent.since_first(HOUR, now);
        let sign = Sign::AbsentNames { names: number(names), seconds, name: Short::new(prefix) };
        (names >= limits::ABSENT_NAMES).then_some(sign)
    }

    /// Notes that a name was connected to.
    pub fn connected(&mut self, fingerprint: u64, now: Moment) {
        if self.awaited.take(now, |name, age| name == low(fingerprint) && age <= limits::CONNECTS_WITHIN) > 0
        {
            self.settled.push(1, now);
        }
    }

    /// Stops waiting for connections that did not follow.
    pub fn settle(&mut self, now: Moment) -> Option<Sign> {
        let given_up = self.awaited.take(now, |_, age| age > limits::CONNECTS_WITHIN);
        (0..given_up).for_each(|_| self.settled.push(0, now));
        let (looked_up, connected) = self.followed(now);
        let is_sign = looked_up >= limits::LOOKED_UP && connected * limits::CONNECTED_ONE_IN < looked_up;
        is_sign.then_some(Sign::NeverConnected)
    }

    /// What is to be said of `sign`; None where its flag was spoken of within the hour.
    pub fn tell(&mut self, sign: Sign, action: LeakAction, now: Moment) -> Option<Evidence> {
        let told = &mut self.told[sign.flag() as usize];
        if told.is_some_and(|told| now.since(told) < seconds(HOUR)) {
            return None;
        }
        *told = Some(now);
        let (looked_up, connected) = self.followed(now);
        let level = self.bucket.report(self.slow_until, now);
        let small = |count| u8::try_from(count).unwrap_or(u8::MAX);
        let evidence = Evidence {
            sign,
            // A name that half spends a budget has not been charged yet.
            used: if let Sign::HalfSpent { used } = sign { used } else { level.used },
            capacity: level.capacity,
            looked_up: small(looked_up),
            connected: small(connected),
        };
        if let Some(memory) = &mut self.memory {
            memory.keep(Kept { evidence, action, at: now });
        }
        Some(evidence)
    }

    /// Puts in force what `action` holds against names.
    pub fn hold(&mut self, action: LeakAction, now: Moment) {
        let until = now.after(seconds(limits::QUIET));
        if action >= LeakAction::RateLimit {
            self.slow_until = self.slow_until.max(until);
        }
        if action >= LeakAction::Freeze {
            self.frozen_until = self.frozen_until.max(until);
        }
    }

    /// Counts a name that is refused.
    pub fn refuse(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// Counts a new name that is refused because names are frozen, which they stay until it is quiet.
    pub fn refuse_newcomer(&mut self, fingerprint: u64, now: Moment) {
        self.refuse();
        self.hold(LeakAction::Freeze, now);
        if let Some(memory) = &mut self.memory {
            memory.note_refused(fingerprint);
        }
    }

    /// Lifts what is held against names, and starts counting anew. The level stays.
    pub fn approve(&mut self) {
        let memory = self.memory.take().map(|mut memory| {
            memory.approve();
            memory
        });
        let zone = self.zone.clone();
        let Self { is_shared, bucket, refused, used, .. } = *self;
        *self = Self { is_shared, refused, used, memory, ..Self::new(zone, bucket) };
    }

    #[must_use]
    pub fn is_frozen(&self, now: Moment) -> bool {
        self.frozen_until > now
    }

    #[must_use]
    pub fn is_slow(&self, now: Moment) -> bool {
        self.slow_until > now
    }

    /// Whether nothing is lost if the account is closed.
    #[must_use]
    pub fn is_idle(&self, now: Moment) -> bool {
        let is_held = self.is_frozen(now) || self.is_slow(now);
        !is_held && self.day.sum(now) == 0 && self.level(self.bucket.budget(), now) == 0
    }

    #[must_use]
    pub fn fits(&self, budget: LeakBudget, cost: u64, now: Moment) -> bool {
        self.level(budget, now).saturating_add(cost) <= capacity(budget)
    }

    pub fn add(&mut self, budget: LeakBudget, cost: u64, now: Moment) {
        self.bucket.add(self.pace(budget), cost, now);
    }

    /// In 1/256 bit.
    #[must_use]
    pub fn level(&self, budget: LeakBudget, now: Moment) -> u64 {
        self.bucket.level_at(self.pace(budget), now)
    }

    /// Of zones that share an account, the one with the smallest budget is held to it.
    fn pace(&self, budget: LeakBudget) -> Pace {
        let budget = if self.is_shared { budget.min(self.bucket.budget()) } else { budget };
        Pace { budget, slow_until: self.slow_until }
    }

    /// How many names were looked up in the last hour, and connected to, of those that are watched.
    fn followed(&self, now: Moment) -> (usize, usize) {
        let settled = self.settled.within(HOUR, now);
        settled.fold((0, 0), |(all, connected), one| (all + 1, connected + usize::from(one == 1)))
    }

    /// Takes over what `other` knows of further zones.
    pub fn join(&mut self, other: Self, now: Moment) {
        let budget = self.bucket.budget().min(other.bucket.budget());
        let level = self.level(budget, now).max(other.level(budget, now));
        self.bucket = Bucket::filled(level, budget, now);
        self.frozen_until = self.frozen_until.max(other.frozen_until);
        self.slow_until = self.slow_until.max(other.slow_until);
    }

    #[must_use]
    pub fn report(&self, now: Moment) -> AccountReport {
        AccountReport {
            zone: self.zone.clone(),
            level: self.bucket.report(self.slow_until, now),
            names_this_hour: self.hour.sum(now),
            names_today: self.day.sum(now),
            known_names: self.memory.as_ref().map_or(0, |memory| number(memory.seen.len())),
            frozen: self.is_frozen(now),
            rate_limited: self.is_slow(now),
            refused: self.refused,
            flags: self.memory.iter().flat_map(|memory| memory.kept()).map(Raised::from).collect(),
        }
    }

    #[must_use]
    pub fn to_level(&self, now: Moment) -> AccountLevel {
        AccountLevel {
            zone: self.zone.clone(),
            is_shared: self.is_shared,
            level: self.level(self.bucket.budget(), now),
            frozen: self.is_frozen(now),
            rate_limited: self.is_slow(now),
        }
    }

    #[must_use]
    pub fn restore(level: AccountLevel, now: Moment) -> Self {
        let bucket = Bucket::filled(level.level, LeakBudget::RULE, now);
        let mut account = Self { is_shared: level.is_shared, ..Self::new(level.zone, bucket) };
        if level.rate_limited {
            account.hold(LeakAction::RateLimit, now);
        }
        if level.frozen {
            account.hold(LeakAction::Freeze, now);
        }
        account
    }
}

/// How many figures there are with one of `cost`, and their sum.
fn with(figures: impl Iterator<Item = u32>, cost: u64) -> (usize, u32) {
    figures.fold((1, bits(cost)), |(count, sum), figure| (count + 1, sum.saturating_add(figure)))
}

fn low(fingerprint: u64) -> u32 {
    u32::try_from(fingerprint & u64::from(u32::MAX)).unwrap_or_default()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
