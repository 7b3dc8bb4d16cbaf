//! What must not be found in a name.

use std::fmt;

/// Registered secrets and honeytokens, by the names that reports give them.
///
/// They are looked for as they are, in hex, in base32 (three alphabets) and in base64, from either end,
/// wherever in them a piece begins. Upper and lower case are one, for names lose the difference.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    names: Vec<String>,
    /// Eight octets in a row, in lower case.
    folded: Pieces,
    /// Eight octets in a row.
    octets: Pieces,
    /// Ten digits in a row, of six bits each.
    base64: Pieces,
}

impl Secrets {
    /// Registers secrets by name.
    ///
    /// # Errors
    /// There are more than [`Self::MAX`], or one has less than [`Self::MIN_LENGTH`] or more than
    /// [`Self::MAX_LENGTH`] bytes.
    pub fn new(held: Vec<(String, Vec<u8>)>) -> Result<Self, SecretError> {
        if held.len() > Self::MAX {
            return Err(SecretError::TooMany(held.len()));
        }
        let (mut folded, mut octets, mut base64) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (name, secret)) in (0..=u8::MAX).zip(&held) {
            match secret.len() {
                length if length < Self::MIN_LENGTH => {
                    return Err(SecretError::TooShort(name.clone(), length));
                }
                length if length > Self::MAX_LENGTH => {
                    return Err(SecretError::TooLong(name.clone(), length));
                }
                _ => {}
            }
            let reversed: Vec<u8> = secret.iter().rev().copied().collect();
            for text in [secret, &reversed] {
                folded.extend(windows(&text.to_ascii_lowercase()).map(|piece| (piece, index)));
                octets.extend(windows(text).map(|piece| (piece, index)));
                base64.extend((0..3).flat_map(|phase| digits(text, phase)).map(|piece| (piece, index)));
            }
        }
        let names = held.into_iter().map(|(name, _)| name).collect();
        Ok(Self {
            names,
            folded: Pieces::new(folded),
            octets: Pieces::new(octets),
            base64: Pieces::new(base64),
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of a secret of which `text` holds at least eight bytes in a row. Takes time in
    /// proportion to the text, however many secrets there are.
    #[must_use]
    pub fn found_in(&self, text: &str) -> Option<&str> {
        if self.is_empty() {
            return None;
        }
        let index = self.scan(text.bytes()).or_else(|| self.scan(text.bytes().rev()))?;
        self.names.get(usize::from(index)).map(String::as_str)
    }

    fn scan(&self, text: impl Iterator<Item = u8>) -> Option<u8> {
        let (mut plain, mut joined, mut base64) = (Run::default(), Run::default(), Run::default());
        let mut hex = Run::default();
        let mut base32 = [Run::default(); BASE32.len()];
        for octet in text.map(|octet| octet.to_ascii_lowercase()) {
            let found = self.folded.first(plain.push(Some(octet.into()), 8));
            if found.is_some() {
                return found;
            }
            if octet == b'.' {
                continue;
            }
            let found = self
                .folded
                .first(joined.push(Some(octet.into()), 8))
                .or_else(|| self.base64.first(base64.push_digit(octet)));
            if found.is_some() {
                return found;
            }
            // These alphabets have no punctuation, so that it may stand between their digits.
            if matches!(octet, b'-' | b'_') {
                continue;
            }
            let mut found = self.octets.first(hex.push(char::from(octet).to_digit(16), 4));
            for (run, alphabet) in base32.iter_mut().zip(BASE32) {
                found = found.or_else(|| self.octets.first(run.push(alphabet(octet), 5)));
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    pub const MAX: usize = 64;
    /// Bytes. Fewer in a row may be an accident.
    pub const MIN_LENGTH: usize = 8;
    /// Bytes. Of larger ones a piece is enough; the index takes some fifty times as much.
    pub const MAX_LENGTH: usize = 4096;
}

/// Names only: whoever reads a log is not to learn a secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.names).finish()
    }
}

/// Why secrets cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("there are {0} secrets, at most {max} are allowed", max = Secrets::MAX)]
    TooMany(usize),
    #[error("secret `{0}` has {1} bytes, at least {min} are needed", min = Secrets::MIN_LENGTH)]
    TooShort(String, usize),
    #[error("secret `{0}` has {1} bytes, at most {max} are allowed", max = Secrets::MAX_LENGTH)]
    TooLong(String, usize),
}

/// Pieces of secrets, each of as many bits as fit into a word, and whose they are.
#[derive(Clone, PartialEq, Eq, Default)]
struct Pieces {
    /// Sorted.
    pieces: Vec<u64>,
    owners: Vec<u8>,
    /// A bit for each piece, so that most of what is none is known at a glance.
    glance: Vec<u64>,
}

impl Pieces {
    fn new(mut owned: Vec<(u64, u8)>) -> Self {
        owned.sort_unstable();
        owned.dedup_by_key(|(piece, _)| *piece);
        let words = if owned.is_empty() { 0 } else { (owned.len() / 4).next_power_of_two() };
        let mut glance = vec![0_u64; words];
        for (piece, _) in &owned {
            let (word, bit) = place(*piece, glance.len());
            glance[word] |= bit;
        }
        let (pieces, owners) = owned.into_iter().unzip();
        Self { pieces, owners, glance }
    }

    fn first(&self, mut pieces: impl Iterator<Item = u64>) -> Option<u8> {
        pieces.find_map(|piece| {
            let (word, bit) = place(piece, self.glance.len());
            if self.glance.get(word)? & bit == 0 {
                return None;
            }
            self.owners.get(self.pieces.binary_search(&piece).ok()?).copied()
        })
    }
}

/// The place of `piece` among `words`, a power of two.
fn place(piece: u64, words: usize) -> (usize, u64) {
    let mixed = piece.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = usize::try_from(mixed >> 32).unwrap_or_default() & words.wrapping_sub(1);
    (word, 1 << (mixed >> 26 & 63))
}

/// The last bits of a text.
#[derive(Clone, Copy, Default)]
struct Run {
    bits: u128,
    length: u32,
}

impl Run {
    /// Adds a digit of `width` bits and returns the words that end in it; what is no digit ends the text.
    fn push(&mut self, digit: Option<u32>, width: u32) -> impl Iterator<Item = u64> + use<> {
        match digit {
            Some(digit) => {
                self.bits = self.bits << width | u128::from(digit);
                self.length = self.length.saturating_add(width);
            }
            None => *self = Self::default(),
        }
        let (bits, length) = (self.bits, self.length);
        // Octets begin where a digit of four or eight bits does, but anywhere among those of five.
        let last = if width == 5 { width } else { 1 };
        (0..last)
            .filter(move |after| length >= 64 + after)
            .filter_map(move |after| u64::try_from(bits >> after & u128::from(u64::MAX)).ok())
    }

    /// Adds a digit of base64, and returns the last ten if there are as many.
    fn push_digit(&mut self, octet: u8) -> impl Iterator<Item = u64> + use<> {
        match folded_digit(octet) {
            Some(digit) => {
                self.bits = self.bits << 6 | u128::from(digit);
                self.length = self.length.saturating_add(1);
            }
            None => *self = Self::default(),
        }
        let piece = u64::try_from(self.bits & DIGITS_MASK).ok();
        piece.filter(|_| self.length >= DIGITS).into_iter()
    }
}

/// Every eight octets in a row.
fn windows(text: &[u8]) -> impl Iterator<Item = u64> + '_ {
    text.windows(8).filter_map(|piece| Some(u64::from_be_bytes(piece.try_into().ok()?)))
}

/// Every ten digits in a row of `text` in base64 (RFC 4648, section 5), where `phase` octets stand before
/// it: as many digits as eight octets are sure to fill.
fn digits(text: &[u8], phase: usize) -> Vec<u64> {
    let octets: Vec<u8> = std::iter::repeat_n(0, phase).chain(text.iter().copied()).collect();
    let bit = |at: usize| octets.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
    let digit = |at: usize| (0..6).fold(0, |value, offset| value << 1 | bit(at * 6 + offset));
    // The first digits are shared with what stands before, the last with what comes after.
    let digits: Vec<u64> =
        ((phase * 8).div_ceil(6)..octets.len() * 8 / 6).map(|at| u64::from(folded(digit(at)))).collect();
    let pack = |digits: &[u64]| digits.iter().fold(0, |piece, digit| piece << 6 | digit);
    digits.windows(usize::try_from(DIGITS).unwrap_or(usize::MAX)).map(pack).collect()
}

/// A digit's value without its case: 0 to 25 letters, 26 to 35 numbers, then `-` and `_`.
fn folded(digit: u8) -> u8 {
    match digit {
        0..=25 => digit,
        26.. => digit - 26,
    }
}

fn folded_digit(octet: u8) -> Option<u8> {
    match octet {
        b'a'..=b'z' => Some(octet - b'a'),
        b'0'..=b'9' => Some(octet - b'0' + 26),
        b'-' => Some(36),
        b'_' => Some(37),
        _ => None,
    }
}

/// RFC 4648, section 6, its section 7, and what iodine writes.
const BASE32: [fn(u8) -> Option<u32>; 3] = [
    |octet| match octet {
        b'a'..=b'z' => Some(u32::from(octet - b'a')),
        b'2'..=b'7' => Some(u32::from(octet - b'2' + 26)),
        _ => None,
    },
    |octet| char::from(octet).to_digit(32),
    |octet| match octet {
        b'a'..=b'z' => Some(u32::from(octet - b'a')),
        b'0'..=b'5' => Some(u32::from(octet - b'0' + 26)),
        _ => None,
    },
];

const DIGITS: u32 = 10;
const DIGITS_MASK: u128 = (1 << 60) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_found_in_any_spelling_of_it() {
        let secrets = secrets(b"sk-Live_51H8xQ2eZvKYlo2C");
        finds(&secrets, "sk-live_51h8xq2ezvkylo2c");
        finds(&secrets, "x1.h8xq2ezv.cdn");
        finds(&secrets, "a-h8xq.2ezv");
        finds(&secrets, "c2olykvze2qx8h15");
        finds(&secrets, &hex(b"Live_51H"));
        finds(&secrets, &hex(b"H15_eviL"));
        finds(&secrets, &hex(b"Live_51H").chars().rev().collect::<String>());
        finds(&secrets, "4c6976-655f.3531-48");
        for name in ["sk-live", "h8xq2ez", "www", "4c6976655f3531", "nothing-of-the-kind-is-here"] {
            assert_eq!(secrets.found_in(name), None, "{name}");
        }
    }

    #[test]
    fn secrets_that_are_too_short_too_long_or_too_many_are_refused() {
        let some = |count, length| vec![("key".to_owned(), vec![7; length]); count];
        let error = |held| Secrets::new(held).unwrap_err().to_string();
        assert_eq!(error(some(1, 7)), "secret `key` has 7 bytes, at least 8 are needed");
        assert_eq!(error(some(1, 4097)), "secret `key` has 4097 bytes, at most 4096 are allowed");
        assert_eq!(error(some(65, 8)), "there are 65 secrets, at most 64 are allowed");
        assert!(Secrets::new(some(64, 4096)).is_ok());
    }

    #[test]
    fn what_prints_secrets_prints_their_names_only() {
        assert_eq!(format!("{:?}", secrets(b"hunter2hunter2")), r#"["deploy-key"]"#);
    }

    #[test]
    fn no_secrets_are_found_nowhere() {
        assert_eq!(Secrets::default().found_in("anything.at.all"), None);
        assert_eq!(Secrets::new(Vec::new()).unwrap(), Secrets::default());
    }

    proptest! {
        #[test]
        fn eight_bytes_in_a_row_are_found_wherever_they_stand(
            secret in prop::collection::vec(any::<u8>(), 8..40),
            before in prop::collection::vec(any::<u8>(), 0..9),
            after in prop::collection::vec(any::<u8>(), 0..9),
            at in any::<prop::sample::Index>(),
            is_reversed in any::<bool>(),
            encoding in 0..6,
        ) {
            let at = at.index(secret.len() - 7);
            let mut piece = secret[at..at + 8].to_vec();
            if is_reversed {
                piece.reverse();
            }
            let text = [before, piece, after].concat();
            let text = match encoding {
                0 => hex(&text),
                1 => in_bits(&text, 5, "abcdefghijklmnopqrstuvwxyz234567"),
                2 => in_bits(&text, 5, "0123456789abcdefghijklmnopqrstuv"),
                3 => in_bits(&text, 5, "abcdefghijklmnopqrstuvwxyz012345"),
                4 => in_bits(&text, 6, BASE64).to_lowercase(),
                _ => in_bits(&text, 6, BASE64).to_lowercase().chars().rev().collect(),
            };
            finds(&secrets(&secret), &text);
            let labels: Vec<&str> = text.as_bytes().chunks(7).map(|label| std::str::from_utf8(label).unwrap()).collect();
            finds(&secrets(&secret), &labels.join("."));
        }
    }

    fn finds(secrets: &Secrets, text: &str) {
        assert_eq!(secrets.found_in(text), Some("deploy-key"), "{text}");
    }

    fn secrets(secret: &[u8]) -> Secrets {
        Secrets::new(vec![("deploy-key".to_owned(), secret.to_vec())]).unwrap()
    }

    fn hex(text: &[u8]) -> String {
        text.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    fn in_bits(text: &[u8], width: usize, alphabet: &str) -> String {
        let bits: Vec<u8> =
            text.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)).collect();
        let digit = |bits: &[u8]| {
            let value = bits.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
            char::from(alphabet.as_bytes()[value << (width - bits.len())])
        };
        bits.chunks(width).map(digit).collect()
    }

    const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}
