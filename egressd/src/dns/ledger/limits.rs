//! Where the flags stand: every threshold of the ledger, in one table.
//!
//! They were chosen on the first half, by time, of one corpus of benign lookups (`hpcn_sample_24h`);
//! `scripts/bench leaks` judges them on what they were not chosen on.

use super::bucket::UNIT;
use crate::policy::LeakBudget;

/// What raises the flags of one zone, or of an agent over all zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// E3: new names in an hour that look encoded, and the bits that they may cost before there are as many.
    pub encoded_names: usize,
    pub encoded_bits: u32,
    /// E4: new names in an hour.
    pub names_an_hour: u32,
    /// E5: new names in a day, and the bits that they may cost, whatever they look like.
    pub names_a_day: u32,
    pub bits_a_day: u32,
    /// E6: names in an hour that do not exist.
    pub absent_names: usize,
    /// E9: new names in a day that look random, and the bits that they may cost before there are as many.
    pub random_names: usize,
    pub random_bits: u32,
    /// Of an agent over all zones.
    pub is_over_all: bool,
    /// Where nobody said.
    pub budget: LeakBudget,
}

impl Limits {
    pub const ZONE: Self = Self {
        encoded_names: 5,
        encoded_bits: 320,
        names_an_hour: 64,
        names_a_day: 96,
        bits_a_day: 5120,
        absent_names: 4,
        random_names: 24,
        random_bits: 860,
        is_over_all: false,
        budget: LeakBudget::RULE,
    };

    /// For what is spread thinly over many zones. Twice as much, as the budget is, but for what fits into a
    /// hundred octets.
    pub const AGENT: Self = Self {
        encoded_names: 10,
        encoded_bits: 800,
        names_an_hour: 128,
        names_a_day: 192,
        bits_a_day: 10240,
        absent_names: 8,
        random_names: 32,
        random_bits: 860,
        is_over_all: true,
        budget: LeakBudget::AGENT,
    };
}

/// E2: what the labels that look random may cost in one name, and the name as a whole, in 1/256 bit.
pub const LONG_LABELS: u64 = 320 * UNIT;
pub const LONG_NAME: u64 = 640 * UNIT;

/// By what the bits of E3 and E9 are divided while hardly a name is followed by a connection.
pub const ABANDONED: u32 = 2;

/// E8: names in a day that were looked up, and the share of them, one in so many, that is followed by a
/// connection at least.
pub const LOOKED_UP: usize = 8;
pub const CONNECTED_ONE_IN: usize = 5;
/// Of each zone, so many names in an hour are watched for the agent over all zones.
pub const SPREAD: u32 = 2;
/// Seconds that a connection has to follow within.
pub const CONNECTS_WITHIN: u32 = 20;

/// What makes a label look encoded, and what random: its characters, and what one costs by the trigrams, in
/// 1/16 bit.
pub const ENCODED_LENGTH: usize = 8;
pub const ENCODED_COST: u32 = 7 * 16;
pub const RANDOM_LENGTH: usize = 6;
pub const RANDOM_COST: u32 = 7 * 16;
/// The least characters of labels that look so only when they are joined.
pub const JOINED_LENGTH: usize = 12;

/// E11: what one denied name may cost, in 1/256 bit, and how many of them in an hour may look random or be
/// different below one registered domain.
pub const DENIED_LONG_NAME: u64 = 160 * UNIT;
pub const DENIED_RANDOM_NAMES: u32 = 2;
pub const DENIED_NAMES: u32 = 8;

/// Seconds.
pub const HOUR: u32 = 3600;
pub const DAY: u32 = 24 * HOUR;

/// For how long names stay frozen after a new one was refused, and for how long budget comes back slowly.
/// Seconds.
pub const QUIET: u32 = HOUR;

/// Zones with an account of their own, which is for good what an agent uses; others share one.
pub const MAX_ACCOUNTS: usize = 32;
/// Accounts that remember names: the rest of them take every name for a new one.
pub const MAX_MEMORIES: usize = 16;
/// Names that an account remembers.
pub const MAX_SEEN: usize = 256;
/// Denied zones that are watched: the ones with most names.
pub const MAX_DENIED: usize = 64;
/// Alerts in an hour about denied zones; an agent can ask for as many of them as it likes.
pub const MAX_DENIED_ALERTS: usize = 8;
