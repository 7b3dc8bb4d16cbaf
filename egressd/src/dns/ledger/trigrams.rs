//! How unusual a label is, by three characters in a row.

use super::{
    cost,
    limits::{ENCODED_COST, ENCODED_LENGTH, JOINED_LENGTH, RANDOM_COST, RANDOM_LENGTH},
};

/// What labels look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// The cost of one character of the most unusual label, in 1/16 bit.
    pub per_character: u32,
    /// Where that label is, in octets. All of the prefix where it is its labels joined.
    pub label: (usize, usize),
    pub is_encoded: bool,
    pub is_random: bool,
    /// What the labels that look random cost, in 1/256 bit.
    pub random_cost: u64,
}

/// Looks at every label of `prefix`, and at all of them joined where none is long enough by itself.
#[must_use]
pub fn look(prefix: &str) -> Look {
    let mut look = Look::default();
    let (mut start, mut longest) = (0, 0);
    for label in prefix.split('.') {
        look.note(label.bytes(), (start, start + label.len()));
        start += label.len() + 1;
        longest = longest.max(label.len());
    }
    let joined = || prefix.bytes().filter(|octet| *octet != b'.');
    if longest < ENCODED_LENGTH && joined().count() >= JOINED_LENGTH {
        look.note(joined(), (0, prefix.len()));
    }
    look
}

impl Look {
    fn note(&mut self, label: impl Iterator<Item = u8> + Clone, place: (usize, usize)) {
        let (length, per_character) = per_character(label.clone());
        let is_encoded = length >= ENCODED_LENGTH && per_character >= ENCODED_COST;
        let is_random = length >= RANDOM_LENGTH && per_character >= RANDOM_COST;
        if is_encoded || is_random {
            self.random_cost += cost::symbols(label);
        }
        // The label to show is one that looks so.
        if (is_encoded || is_random) >= (self.is_encoded || self.is_random)
            && per_character > self.per_character
        {
            (self.per_character, self.label) = (per_character, place);
        }
        self.is_encoded |= is_encoded;
        self.is_random |= is_random;
    }
}

/// How many characters there are, and what one of them costs, in 1/16 bit, rounded down.
fn per_character(label: impl Iterator<Item = u8>) -> (usize, u32) {
    let (mut first, mut second) = (EDGE, EDGE);
    let (mut length, mut cost) = (0_usize, 0_u32);
    for octet in label {
        let third = symbol(octet);
        cost += u32::from(TABLE[(first * SYMBOLS + second) * SYMBOLS + third]);
        length += 1;
        (first, second) = (second, third);
    }
    (length, cost / u32::try_from(length.max(1)).unwrap_or(u32::MAX))
}

/// The order of the table. What no host name holds is as unusual as an underscore.
fn symbol(octet: u8) -> usize {
    match octet {
        b'a'..=b'z' => usize::from(octet - b'a'),
        b'0'..=b'9' => usize::from(octet - b'0') + 26,
        b'-' => 36,
        b'.' => 38,
        _ => 37,
    }
}

/// In front of a label.
const EDGE: usize = 39;
const SYMBOLS: usize = 40;

/// Made by `scripts/trigrams` from a list of English words and what hosts are called beside.
static TABLE: &[u8; SYMBOLS * SYMBOLS * SYMBOLS] = include_bytes!("trigrams.bin");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_usual_and_random_characters_are_not() {
        for prefix in ["static", "downloads", "objects-origin", "us-east-1.console", "www.shop.news", "cdn4"]
        {
            assert!(!look(prefix).is_random, "{prefix}: {:?}", look(prefix));
        }
        for prefix in ["nbswy3dpeb3w64tmmq", "k3j9x0q2zv", "68656c6c6f2c20776f726c64", "x7kq2.9fz1w.q0v"] {
            assert!(look(prefix).is_encoded, "{prefix}: {:?}", look(prefix));
        }
    }

    #[test]
    fn the_most_unusual_label_is_the_one_to_show() {
        let look = look("static.nbswy3dpeb3w64tmmq.eu-west-1");
        assert_eq!((look.label, look.is_encoded), ((7, 25), true));
    }
}
