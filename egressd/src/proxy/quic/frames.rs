//! The frames of an Initial (RFC 9000, sections 12.4 and 17.2.2). Pure.

use super::varint;

/// A piece of the handshake: its offset, and its bytes.
pub type Crypto<'a> = (u64, &'a [u8]);

/// The pieces of the handshake in a payload. None if any frame is not one that an Initial may hold, or
/// ends early; or if there is no frame.
#[must_use]
pub fn crypto(payload: &[u8]) -> Option<Vec<Crypto<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = payload;
    if rest.is_empty() {
        return None;
    }
    // Types below 64 take one octet; longer forms of them are no valid frames (section 12.4).
    while let Some((kind, body)) = rest.split_first() {
        rest = match *kind {
            PADDING | PING => body,
            ACK => ack(body)?,
            ACK_ECN => skip(ack(body)?, 3)?,
            CRYPTO => {
                let (offset, body) = varint::read(body)?;
                let (piece, body) = varint::prefixed(body)?;
                pieces.push((offset, piece));
                body
            }
            CONNECTION_CLOSE => {
                let reason = skip(body, 2)?;
                varint::prefixed(reason)?.1
            }
            _ => return None,
        };
    }
    Some(pieces)
}

pub const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const ACK_ECN: u8 = 0x03;
pub const CRYPTO: u8 = 0x06;
/// Of QUIC's own kind; an application's is not for Initials.
pub const CONNECTION_CLOSE: u8 = 0x1c;

/// What lies behind an ACK without its ECN counts (section 19.3).
fn ack(body: &[u8]) -> Option<&[u8]> {
    let (_largest, rest) = varint::read(body)?;
    let (_delay, rest) = varint::read(rest)?;
    let (ranges, rest) = varint::read(rest)?;
    let (_first_range, rest) = varint::read(rest)?;
    skip(rest, ranges.checked_mul(2)?)
}

/// What lies behind so many integers.
fn skip(mut rest: &[u8], integers: u64) -> Option<&[u8]> {
    for _ in 0..integers {
        (_, rest) = varint::read(rest)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_handshake_are_found_among_what_an_initial_may_hold() {
        let ack = [2, 9, 1, 1, 0, 3, 4];
        let ack_ecn = [3, 9, 1, 0, 0, 1, 2, 3];
        let close = [0x1c, 0x41, 0x31, 6, 2, b'n', b'o'];
        let all = [&[0, 0, 1][..], &ack, &[6, 0, 2, 7, 8], &ack_ecn, &[6, 0x40, 0x80, 1, 9], &close].concat();
        assert_eq!(crypto(&all), Some(vec![(0, &[7, 8][..]), (128, &[9][..])]));
        assert_eq!(crypto(&[0; 40]), Some(Vec::new()));
    }

    #[test]
    fn what_an_initial_may_not_hold_is_malformed() {
        for kind in (4..=5).chain(7..=0x1b).chain(0x1d..=0xff) {
            assert_eq!(crypto(&[kind, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "{kind:#x}");
        }
        assert_eq!(crypto(&[]), None);
        assert_eq!(crypto(&[0x40, 0x06, 0, 0]), None, "a type in its longer form");
    }

    #[test]
    fn a_frame_that_ends_early_is_malformed() {
        for whole in
            [&[2, 9, 1, 1, 0, 3, 4][..], &[3, 9, 1, 0, 0, 1, 2, 3], &[6, 0, 2, 7, 8], &[0x1c, 1, 6, 1, 9]]
        {
            assert!(crypto(whole).is_some());
            for end in 1..whole.len() {
                assert_eq!(crypto(&whole[..end]), None, "{whole:?}, {end}");
            }
        }
        let endless = [&[2, 9, 1][..], &[0xff; 8], &[0; 100]].concat();
        assert_eq!(crypto(&endless), None);
    }
}
