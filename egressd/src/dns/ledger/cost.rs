//! What a name costs: the length of its code word, in 1/256 bit, every rounding up.

use super::{Key, bucket::UNIT};
#[expect(deprecated, reason = "the one SipHash of the standard library that takes a key")]
use std::hash::SipHasher;
use std::{hash::Hasher, time::Duration};

/// Of every query: sixteen bits for its tick among a run of 2^16 of 100 ms, and four for what is asked for
/// and, where the answer is kept fresh, for the end of that: of sixteen words, addresses take two and each
/// other type one.
pub const FIXED: u64 = 20 * UNIT;

/// Of an answer that is kept fresh for another period: one of two words, the other being the end.
pub const RENEWAL: u64 = UNIT;

/// Of the runs of ticks in which nothing left.
#[must_use]
pub fn silence(passed: Duration) -> u64 {
    gamma(u64::try_from(passed.as_millis() / 100 >> 16).unwrap_or(u64::MAX >> 1))
}

/// A name that was not seen before.
#[must_use]
pub fn new(prefix: &str) -> u64 {
    let length = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
    2 * UNIT + gamma(length) + symbols(prefix.bytes())
}

/// The symbols alone, by the better of two coders.
#[must_use]
pub fn symbols(text: impl Iterator<Item = u8>) -> u64 {
    let is_hex = |octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f' | b'.' | b'-');
    let (length, all_hex) = text.fold((0, true), |(length, all), octet| (length + 1, all && is_hex(octet)));
    length * if all_hex { LOG2_18 } else { LOG2_39 }
}

/// One of `count` names that were.
#[must_use]
pub fn known(count: usize) -> u64 {
    UNIT + log2(u64::try_from(count).unwrap_or(u64::MAX))
}

/// Elias' gamma code of `number`, from 0.
fn gamma(number: u64) -> u64 {
    (2 * u64::from((number + 1).ilog2()) + 1) * UNIT
}

/// Whole bits, rounded up.
fn log2(count: u64) -> u64 {
    u64::from(count.max(1).next_power_of_two().ilog2()) * UNIT
}

#[must_use]
#[expect(deprecated, reason = "the one SipHash of the standard library that takes a key")]
pub fn fingerprint([first, second]: Key, prefix: &str) -> u64 {
    let mut hasher = SipHasher::new_with_keys(first, second);
    hasher.write(prefix.as_bytes());
    hasher.finish()
}

/// log2(18) = 4.169925, and log2(39) = 5.285402, in 1/256 bit, rounded up.
const LOG2_18: u64 = 1068;
const LOG2_39: u64 = 1354;
