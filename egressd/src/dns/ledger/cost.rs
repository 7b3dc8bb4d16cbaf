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
    gamma(u64::try_from((passed.as_millis() / 100) >> 16).unwrap_or(u64::MAX >> 1))
}

/// A name that was not seen before.
#[must_use]
pub fn new(prefix: &str) -> u64 {
    new_of(prefix, [LOG2_18, LOG2_39])
}

/// A bit that it is new and one for the coder, its length, its symbols.
fn new_of(prefix: &str, coders: [u64; 2]) -> u64 {
    let length = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
    2 * UNIT + gamma(length) + symbols_of(prefix.bytes(), coders)
}

/// The symbols alone, by the better of two coders.
#[must_use]
pub fn symbols(text: impl Iterator<Item = u8>) -> u64 {
    symbols_of(text, [LOG2_18, LOG2_39])
}

fn symbols_of(text: impl Iterator<Item = u8>, [hex, any]: [u64; 2]) -> u64 {
    let is_hex = |octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f' | b'.' | b'-');
    let (length, all_hex) = text.fold((0, true), |(length, all), octet| (length + 1, all && is_hex(octet)));
    length * if all_hex { hex } else { any }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_all_names_together_are_a_prefix_code() {
        // Of four symbols, two of them hex, so that every word has whole bits and all can be counted.
        let coders = [UNIT, 2 * UNIT];
        let mut names = vec![String::new()];
        let mut sum = 0_u64;
        for _ in 0..=6 {
            sum += names.iter().map(|name| share(new_of(name, coders))).sum::<u64>();
            let longer = |name: &String| ["0", "a", "z", "_"].map(|symbol| format!("{name}{symbol}"));
            names = names.iter().flat_map(longer).collect();
        }
        for count in [1, 2, 3, 100, 255, 256] {
            let known = u64::try_from(count).unwrap() * share(known(count));
            assert!(known <= WHOLE / 2 && sum <= WHOLE / 2, "{count}: {known} and {sum} of {WHOLE}");
        }
    }

    #[test]
    fn lengths_and_silences_are_a_prefix_code() {
        let lengths: u64 = (0..=253).map(|length| share(gamma(length))).sum();
        assert!(lengths <= WHOLE);
        let silences = (0..1000).map(|runs| share(silence(Duration::from_millis(runs * 100 * 65536))));
        assert!(silences.sum::<u64>() <= WHOLE);
    }

    #[test]
    fn a_symbol_costs_no_less_than_its_choice() {
        for (symbols, cost) in [(18_f64, LOG2_18), (39_f64, LOG2_39)] {
            let bits = cost as f64 / UNIT as f64;
            assert!(bits >= symbols.log2() && bits < symbols.log2() + 0.01, "{symbols}");
        }
    }

    #[test]
    fn a_name_costs_more_than_it_can_carry() {
        for length in 1..=63_u64 {
            let name = |symbol: &str| symbol.repeat(length.try_into().unwrap());
            for (symbol, choices) in [("a", 16_f64), ("z", 39_f64)] {
                let carried = length as f64 * choices.log2();
                let charged = new(&name(symbol)) as f64 / UNIT as f64;
                assert!(charged >= carried, "{length} of {choices}: {charged} for {carried}");
            }
        }
    }

    #[test]
    fn the_worked_examples_cost_what_they_should() {
        assert_eq!(new("d111111abcdef8").div_ceil(UNIT), 68, "all hex");
        assert_eq!(new("d1x1111abcdef8").div_ceil(UNIT), 84);
        assert_eq!(new(&"0".repeat(32)).div_ceil(UNIT), 147);
        assert_eq!(known(256), 9 * UNIT);
    }

    /// What of all words a word of `cost` takes, where `WHOLE` is all.
    fn share(cost: u64) -> u64 {
        assert_eq!(cost % UNIT, 0);
        WHOLE >> (cost / UNIT)
    }

    const WHOLE: u64 = 1 << 60;
}
