//! Changes hellos at random, and the same way each time.

/// Numbers that look random (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % bound.max(1)
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// `bytes` with one to four changes. Most of them keep the lengths in front right, so that the change is
/// met where it is and not at the first octets.
pub fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        change(&mut bytes, random);
    }
    if bytes.len() > 9 && random.below(4) != 0 {
        mend(&mut bytes);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    // A hello says the most at its start, and around its extensions.
    let reach = if random.below(3) == 0 { 60 } else { bytes.len() };
    let at = random.below(reach.min(bytes.len()));
    let Some(octet) = bytes.get_mut(at) else { return };
    match random.below(8) {
        0 => *octet ^= 1 << random.below(8),
        1 => *octet = octet.wrapping_add(1),
        2 => *octet = octet.wrapping_sub(1),
        3 => *octet = TELLING[random.below(TELLING.len())],
        4 => bytes.insert(at, TELLING[random.below(TELLING.len())]),
        5 => drop(bytes.remove(at)),
        6 => {
            let end = (at + random.below(40)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        _ => bytes.truncate(at),
    }
}

/// Makes the lengths of the record, of the message and of the extensions those of the bytes.
fn mend(bytes: &mut [u8]) {
    let lengths = (u16::try_from(bytes.len() - 5), u32::try_from(bytes.len() - 9));
    let (Ok(record), Ok(message)) = lengths else { return };
    bytes[3..5].copy_from_slice(&record.to_be_bytes());
    bytes[6..9].copy_from_slice(&message.to_be_bytes()[1..]);
    mend_block(bytes);
}

fn mend_block(bytes: &mut [u8]) -> Option<()> {
    let session = 5 + 4 + 34;
    let ciphers = session + 1 + usize::from(*bytes.get(session)?);
    let length = u16::from_be_bytes([*bytes.get(ciphers)?, *bytes.get(ciphers + 1)?]);
    let compressions = ciphers + 2 + usize::from(length);
    let block = compressions + 1 + usize::from(*bytes.get(compressions)?);
    let length = u16::try_from(bytes.len().checked_sub(block + 2)?).ok()?;
    bytes.get_mut(block..block + 2)?.copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Octets that mean something to one reader or another.
const TELLING: [u8; 20] = [0, 1, 2, 3, 4, 5, 13, 16, 20, 22, 32, 33, 41, 43, 45, 46, 64, 127, 254, 255];
