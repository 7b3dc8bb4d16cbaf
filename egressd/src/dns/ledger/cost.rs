//! What a name costs: the length of its code word, in 1/256 bit, every rounding up.

use super::{Key, bucket::UNIT};
use std::hash::Hasher;
#[expect(deprecated, reason = "the one SipHash of the standard library that takes a key")]
use std::hash::SipHasher;

/// Of every query: two bits for the type, sixteen for its tick among 2^16 of 100 ms.
pub const FIXED: u64 = 18 * UNIT;

/// A name that was not seen before.
#[must_use]
pub fn new(prefix: &str) -> u64 {
    let is_hex = prefix.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f' | b'.' | b'-'));
    let length = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
    let symbol = if is_hex { LOG2_18 } else { LOG2_39 };
    2 * UNIT + gamma(length) + length * symbol
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
