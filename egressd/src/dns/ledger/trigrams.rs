//! How unusual a label is, by three characters in a row.

use super::limits::{ENCODED_COST, ENCODED_LENGTH, RANDOM_COST, RANDOM_LENGTH};

/// What labels look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// The cost of one character of the most unusual label, in 1/16 bit.
    pub per_character: u32,
    /// Where that label is, in octets. All of the prefix where it is its labels joined.
    pub label: (usize, usize),
    pub is_encoded: bool,
    pub is_random: bool,
}

/// Looks at every label of `prefix`, and at all of them joined.
#[must_use]
pub fn look(prefix: &str) -> Look {
    let mut look = Look::default();
    let mut start = 0;
    for label in prefix.split('.') {
        look.note(label.bytes(), (start, start + label.len()));
        start += label.len() + 1;
    }
    if prefix.contains('.') {
        look.note(prefix.bytes().filter(|octet| *octet != b'.'), (0, prefix.len()));
    }
    look
}

impl Look {
    fn note(&mut self, label: impl Iterator<Item = u8>, place: (usize, usize)) {
        let (length, per_character) = per_character(label);
        if length < RANDOM_LENGTH.min(ENCODED_LENGTH) {
            return;
        }
        self.is_encoded |= length >= ENCODED_LENGTH && per_character >= ENCODED_COST;
        self.is_random |= length >= RANDOM_LENGTH && per_character >= RANDOM_COST;
        if per_character > self.per_character {
            (self.per_character, self.label) = (per_character, place);
        }
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
