//! Integers of one to eight octets (RFC 9000, section 16). Pure.

/// The integer at the start of `bytes`, and what lies behind it.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (octets, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let number = octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let bits = octets.len() * 8 - 2;
    Some((number & ((1 << bits) - 1), rest))
}

/// What stands behind its length, and the rest.
#[must_use]
pub fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = read(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// `number` in two octets; it must be below 2^14.
#[must_use]
pub const fn two_octets(number: u16) -> [u8; 2] {
    (number | 0x4000).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_are_read() {
        let eight = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        assert_eq!(read(&eight), Some((151_288_809_941_952_652, &[][..])));
        assert_eq!(read(&[0x9d, 0x7f, 0x3e, 0x7d, 1]), Some((494_878_333, &[1][..])));
        assert_eq!(read(&[0x7b, 0xbd]), Some((15_293, &[][..])));
        assert_eq!(read(&[0x25]), Some((37, &[][..])));
        assert_eq!(read(&[0x40, 0x25]), Some((37, &[][..])));
        assert_eq!(two_octets(37), [0x40, 0x25]);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&eight[..7]), None);
        assert_eq!(prefixed(&[2, 7, 8, 9]), Some((&[7, 8][..], &[9][..])));
        assert_eq!(prefixed(&eight), None);
    }
}
