//! What people are told of a ledger, and what is kept of it over a restart.

use crate::policy::{HostName, LeakAction, LeakFlag, Moment};

/// The state of one agent's ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Over all rules.
    pub total: Level,
    pub quarantined: bool,
    /// In the order of their zones.
    pub accounts: Vec<AccountReport>,
    /// Denied zones, those with most names first.
    pub denied: Vec<DeniedReport>,
}

/// How full a bucket is, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Rounded up.
    pub used: u32,
    pub capacity: u32,
    /// What comes back in an hour, at an eighth of its rate while it is limited.
    pub hourly: u32,
}

/// What one zone has learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountReport {
    pub zone: HostName,
    pub level: Level,
    /// New names that left in the last hour.
    pub names_this_hour: u32,
    /// New names that left in the last 24 hours.
    pub names_today: u32,
    /// Names that go on while new ones are frozen.
    pub known_names: u32,
    pub frozen: bool,
    pub rate_limited: bool,
    /// Names that were refused, since the account was opened.
    pub refused: u64,
    /// The last of each flag.
    pub flags: Vec<Raised>,
}

/// A flag that was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub flag: LeakFlag,
    pub action: LeakAction,
    pub at: Moment,
    pub evidence: String,
}

/// What was asked for below one denied zone, a domain that somebody registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedReport {
    pub zone: HostName,
    /// Queries. May count those of zones that were forgotten to make room for this one.
    pub names: u64,
    /// Whether its names look like a tunnel's.
    pub flagged: bool,
}

/// What of a ledger has to outlive the process, so that a restart gives nothing back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// Over all rules, in 1/256 bit.
    pub total: u64,
    pub quarantined: bool,
    pub accounts: Vec<AccountLevel>,
}

/// The same of one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountLevel {
    pub zone: HostName,
    /// Of all zones that came when there was no room for an account of their own.
    pub is_shared: bool,
    /// In 1/256 bit.
    pub level: u64,
    pub frozen: bool,
    pub rate_limited: bool,
}
