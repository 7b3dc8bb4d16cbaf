//! Where the flags stand: every threshold of the ledger, in one table.
//!
//! They were chosen on the first half of one corpus of benign lookups; `scripts/bench leaks` judges them on
//! what they were not chosen on.

use super::bucket::UNIT;

/// E2: what the name alone may cost, in 1/256 bit.
pub const LONG_NAME: u64 = 320 * UNIT;

/// E3: new names in an hour that look encoded, and the bits that they may cost before there are as many.
pub const ENCODED_NAMES: usize = 5;
pub const ENCODED_BITS: u32 = 640;
/// What makes a label look encoded: its characters, and what one costs by the trigrams, in 1/16 bit.
pub const ENCODED_LENGTH: usize = 8;
pub const ENCODED_COST: u32 = 7 * 16;

/// E4: new names in an hour.
pub const NAMES_AN_HOUR: u32 = 32;

/// E5: new names in a day.
pub const NAMES_A_DAY: u32 = 96;

/// E6: names in an hour that do not exist.
pub const ABSENT_NAMES: usize = 4;

/// E8: names in an hour that were looked up, and the share of them, one in so many, that is followed by a
/// connection at least.
pub const LOOKED_UP: usize = 8;
pub const CONNECTED_ONE_IN: usize = 5;
/// Seconds that a connection has to follow.
pub const CONNECTS_WITHIN: u32 = 30;

/// E9: new names in a day that look random, and the bits that they may cost before there are as many.
pub const RANDOM_NAMES: usize = 12;
pub const RANDOM_BITS: u32 = 860;
/// What makes a label look random, as above.
pub const RANDOM_LENGTH: usize = 6;
pub const RANDOM_COST: u32 = 7 * 16;

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
