//! Payload as labels, and labels as payload again.

use super::random::Random;

/// How a label spells payload. The number is that of symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Hex(usize),
    Base32(usize),
    /// Its case is lost on the way: of six bits a symbol, 5.19 arrive.
    Base64Url(usize),
    /// At most 24 symbols.
    Base36(usize),
    /// Words that anyone would use, joined by hyphens.
    Words(usize),
    /// One word and a counter, nine octets at most, as Ziza and others (2023) spread payload thinly.
    Thin,
    /// So many pairs of a consonant and a vowel.
    Syllables(usize),
    /// So many labels of three letters and digits.
    Deep(usize),
    /// As a content network names its tenants: `d`, and 13 letters and digits.
    Tenant,
}

/// A label, and how many bits of payload can be read from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spelt {
    pub label: String,
    pub bits: f64,
}

impl Encoding {
    /// The next label of a payload.
    pub fn spell(self, payload: &mut Payload) -> Spelt {
        let number = payload.taken;
        match self {
            Self::Hex(length) => symbols(payload, length, 4, HEX),
            Self::Base32(length) => symbols(payload, length, 5, BASE32),
            Self::Base64Url(length) => {
                let spelt = symbols(payload, length, 6, BASE64);
                // A hyphen at an end is no host name, and what is between letters keeps its place.
                let label = format!("x{}x", spelt.label.to_ascii_lowercase());
                Spelt { label, bits: length as f64 * BITS_WITHOUT_CASE }
            }
            Self::Base36(length) => {
                Spelt { label: base36(payload, length), bits: base36_bits(length).into() }
            }
            Self::Tenant => {
                Spelt { label: format!("d{}", base36(payload, 13)), bits: base36_bits(13).into() }
            }
            Self::Syllables(count) => {
                let pair = |_| {
                    let pair = payload.bits(6) as usize;
                    format!("{}{}", char::from(CONSONANTS[pair / 4]), char::from(VOWELS[pair % 4]))
                };
                Spelt { label: (0..count).map(pair).collect(), bits: 6.0 * count as f64 }
            }
            Self::Deep(count) => {
                let labels: Vec<String> = (0..count).map(|_| base36(payload, 3)).collect();
                Spelt { label: labels.join("."), bits: f64::from(base36_bits(3)) * count as f64 }
            }
            Self::Words(count) => {
                let words: Vec<&str> = (0..count).map(|_| word(payload)).collect();
                Spelt { label: words.join("-"), bits: 7.0 * count as f64 }
            }
            Self::Thin => {
                let counter = [number / 36 % 36, number % 36].map(|digit| char::from(BASE36[digit]));
                let counter: String = counter.into_iter().collect();
                Spelt { label: format!("{}-{counter}", word(payload)), bits: 7.0 }
            }
        }
    }
}

/// Random bits, drawn as they are needed.
#[derive(Debug, Clone)]
pub struct Payload {
    random: Random,
    taken: usize,
    /// What was drawn, where somebody wants to compare it.
    pub drawn: Vec<u128>,
}

impl Payload {
    pub fn of(name: &str) -> Self {
        Self { random: Random::of(name), taken: 0, drawn: Vec::new() }
    }

    /// At most 127 of them.
    pub fn bits(&mut self, count: u32) -> u128 {
        let both = u128::from(self.random.next()) << 64 | u128::from(self.random.next());
        let bits = both & ((1 << count) - 1);
        self.taken += 1;
        if cfg!(test) {
            self.drawn.push(bits);
        }
        bits
    }
}

fn symbols(payload: &mut Payload, length: usize, bits: u32, alphabet: &[u8]) -> Spelt {
    let symbol = |_| char::from(alphabet[payload.bits(bits) as usize]);
    let label = (0..length).map(symbol).collect();
    Spelt { label, bits: length as f64 * f64::from(bits) }
}

fn base36(payload: &mut Payload, length: usize) -> String {
    let mut rest = payload.bits(base36_bits(length));
    let mut label = vec![BASE36[0]; length];
    for symbol in label.iter_mut().rev() {
        *symbol = BASE36[(rest % 36) as usize];
        rest /= 36;
    }
    label.into_iter().map(char::from).collect()
}

fn base36_bits(length: usize) -> u32 {
    (length as f64 * 36f64.log2()) as u32
}

fn word(payload: &mut Payload) -> &'static str {
    WORDS[payload.bits(7) as usize]
}

/// Entropy of a uniform base64url symbol without its case: 26 pairs of 1/32, 12 others of 1/64.
const BITS_WITHOUT_CASE: f64 = 26.0 / 32.0 * 5.0 + 12.0 / 64.0 * 6.0;

const HEX: &[u8] = b"0123456789abcdef";
const BASE32: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
const BASE36: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const CONSONANTS: &[u8] = b"bcdfghklmnprstvz";
const VOWELS: &[u8] = b"aeio";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Of at most six letters.
pub const WORDS: [&str; 128] = [
    "amber", "apple", "arrow", "autumn", "badge", "baker", "banner", "basin", "beach", "beacon", "berry",
    "birch", "blade", "bloom", "board", "border", "bottle", "branch", "brave", "bread", "bridge", "bright",
    "brook", "brush", "bucket", "button", "cabin", "cable", "camera", "canal", "candle", "canvas", "carbon",
    "castle", "cedar", "chain", "chalk", "cherry", "circle", "cliff", "cloud", "clover", "coast", "copper",
    "coral", "corner", "cotton", "crane", "cream", "crown", "daisy", "dance", "delta", "desert", "dinner",
    "dream", "eagle", "earth", "ember", "engine", "fabric", "falcon", "farmer", "plume", "fern", "field",
    "flame", "flint", "flower", "forest", "frost", "galaxy", "garden", "ginger", "glass", "globe", "grain",
    "grape", "green", "harbor", "hazel", "honey", "horse", "island", "ivory", "jacket", "jungle", "kettle",
    "ladder", "lagoon", "lemon", "light", "linen", "magnet", "maple", "marble", "meadow", "melon", "mirror",
    "music", "needle", "night", "ocean", "olive", "orange", "orchid", "paper", "pepper", "piano", "pillow",
    "planet", "pocket", "plaza", "quartz", "rabbit", "ribbon", "river", "rocket", "saddle", "salmon",
    "shadow", "silver", "spring", "stone", "summer", "tiger", "valley", "window",
];

#[cfg(test)]
mod tests {
    use super::*;
    use egressd::policy::HostName;
    use std::collections::HashSet;

    #[test]
    fn what_was_spelt_can_be_read_again() {
        let bits_of = |alphabet: &[u8], symbol: u8| {
            alphabet.iter().position(|have| *have == symbol).expect("it is of the alphabet") as u128
        };
        for (encoding, alphabet) in [(Encoding::Hex(32), HEX), (Encoding::Base32(63), BASE32)] {
            let mut payload = Payload::of("test");
            let spelt = encoding.spell(&mut payload);
            let read: Vec<u128> = spelt.label.bytes().map(|symbol| bits_of(alphabet, symbol)).collect();
            assert_eq!(read, payload.drawn);
        }
        for (encoding, skip) in [(Encoding::Base36(24), 0), (Encoding::Tenant, 1)] {
            let mut payload = Payload::of("test");
            let spelt = encoding.spell(&mut payload);
            let symbols = spelt.label.bytes().skip(skip);
            let read = symbols.fold(0, |read, symbol| read * 36 + bits_of(BASE36, symbol));
            assert_eq!(vec![read], payload.drawn);
        }
        let mut payload = Payload::of("test");
        let words = Encoding::Words(3).spell(&mut payload);
        let read =
            words.label.split('-').map(|word| WORDS.iter().position(|have| *have == word).unwrap() as u128);
        assert_eq!(read.collect::<Vec<_>>(), payload.drawn);
    }

    #[test]
    fn every_label_is_a_host_name_and_thin_ones_are_short() {
        assert_eq!(WORDS.iter().collect::<HashSet<_>>().len(), WORDS.len());
        for encoding in [Encoding::Base64Url(32), Encoding::Thin, Encoding::Words(3), Encoding::Tenant] {
            let mut payload = Payload::of("test");
            for _ in 0..500 {
                let label = encoding.spell(&mut payload).label;
                assert!(HostName::parse(&format!("{label}.evil.test")).is_ok(), "{label}");
                assert!(encoding != Encoding::Thin || label.len() <= 9, "{label}");
            }
        }
    }
}
