//! The long headers of the packets in a datagram (RFC 9000, section 17.2; RFC 9369, section 3.2). Pure.

use super::varint;

/// A version whose Initials we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// An Initial, as it lies in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial<'a> {
    pub hail: Hail<'a>,
    /// From its first octet to its last, protected.
    pub packet: &'a [u8],
    /// Where the protected packet number begins in `packet`.
    pub number_at: usize,
}

/// Who speaks to whom, and how: what an answer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hail<'a> {
    pub version: Version,
    /// Destination connection id: the server's, as the client knows it.
    pub to: &'a [u8],
    /// Source connection id: the client's.
    pub from: &'a [u8],
}

/// Why a datagram of a client cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("QUIC version {version:#010x} is not known here")]
    Version { version: u32, to: Vec<u8>, from: Vec<u8> },
    #[error("a long header is not valid")]
    Header,
    #[error("packets of several connections share a datagram")]
    SeveralConnections,
    #[error("the datagram of an Initial is smaller than {MIN_DATAGRAM} octets")]
    Small,
}

/// Servers ignore an Initial in a datagram that is smaller (RFC 9000, section 14.1).
pub const MIN_DATAGRAM: usize = 1200;

/// Finds the Initials in a datagram that a client sent.
///
/// # Errors
/// A packet with a long header is not one that a client of a version that we know may send.
pub fn initials(datagram: &[u8]) -> Result<Vec<Initial<'_>>, Unreadable> {
    let mut found = Vec::new();
    let mut to: Option<&[u8]> = None;
    let mut rest = datagram;
    // A short header has no length: its packet is the last (RFC 9000, section 12.2).
    while is_long(rest) {
        let (initial, kind, behind) = packet(rest)?;
        if *to.get_or_insert(initial.hail.to) != initial.hail.to {
            return Err(Unreadable::SeveralConnections);
        }
        match kind {
            Kind::Initial => found.push(initial),
            Kind::Other => {}
        }
        rest = behind;
    }
    if !found.is_empty() && datagram.len() < MIN_DATAGRAM {
        return Err(Unreadable::Small);
    }
    Ok(found)
}

/// Whether the first packet of a datagram has a long header.
#[must_use]
pub fn is_long(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0x80 != 0)
}

impl Version {
    /// On the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 0x6b33_43cf,
        }
    }

    /// The bits of the first octet by which an Initial is known.
    #[must_use]
    pub const fn initial_bits(self) -> u8 {
        match self {
            Self::V1 => 0b00 << 4,
            Self::V2 => 0b01 << 4,
        }
    }

    const fn retry_bits(self) -> u8 {
        match self {
            Self::V1 => 0b11 << 4,
            Self::V2 => 0b00 << 4,
        }
    }
}

/// Both.
pub const VERSIONS: [Version; 2] = [Version::V1, Version::V2];

enum Kind {
    Initial,
    /// 0-RTT, or Handshake.
    Other,
}

const TYPE_BITS: u8 = 0b11 << 4;

/// RFC 9000, section 17.2: in versions 1 and 2, connection ids have at most 20 octets.
const MAX_CONNECTION_ID: usize = 20;

/// The first packet, and what lies behind it.
fn packet(bytes: &[u8]) -> Result<(Initial<'_>, Kind, &[u8]), Unreadable> {
    let (first, rest) = bytes.split_first().ok_or(Unreadable::Header)?;
    let (number, rest) = rest.split_first_chunk::<4>().ok_or(Unreadable::Header)?;
    let (to, rest) = connection_id(rest).ok_or(Unreadable::Header)?;
    let (from, rest) = connection_id(rest).ok_or(Unreadable::Header)?;
    let number = u32::from_be_bytes(*number);
    let version = VERSIONS
        .into_iter()
        .find(|version| version.number() == number)
        .ok_or_else(|| Unreadable::Version { version: number, to: to.to_vec(), from: from.to_vec() })?;
    if to.len() > MAX_CONNECTION_ID || from.len() > MAX_CONNECTION_ID {
        return Err(Unreadable::Header);
    }
    let bits = first & TYPE_BITS;
    // No client sends a Retry.
    if bits == version.retry_bits() {
        return Err(Unreadable::Header);
    }
    let (kind, rest) = if bits == version.initial_bits() {
        let (_token, rest) = varint::prefixed(rest).ok_or(Unreadable::Header)?;
        (Kind::Initial, rest)
    } else {
        (Kind::Other, rest)
    };
    let (_number_and_payload, behind) = varint::prefixed(rest).ok_or(Unreadable::Header)?;
    let (_length, protected) = varint::read(rest).ok_or(Unreadable::Header)?;
    let number_at = bytes.len() - protected.len();
    let packet = &bytes[..bytes.len() - behind.len()];
    Ok((Initial { hail: Hail { version, to, from }, packet, number_at }, kind, behind))
}

fn connection_id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_initial_of_a_datagram_is_found_whatever_is_coalesced_with_it() {
        let datagram = [initial(b"to"), other(b"to"), initial(b"to"), vec![0x40; 1200]].concat();
        let found = initials(&datagram).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].hail.to, found[1].hail.from), (&b"to"[..], &b"me"[..]));
        assert_eq!(&found[1].packet[found[1].number_at..], b"protected");
        assert_eq!(initials(&[0x40; 30]), Ok(Vec::new()));
        assert_eq!(initials(&other(b"to")), Ok(Vec::new()));
    }

    #[test]
    fn what_no_client_sends_is_unreadable() {
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(1200, 0);
            bytes
        };
        assert_eq!(initials(&initial(b"to")), Err(Unreadable::Small));
        assert_eq!(initials(&padded(initial(&[7; 21]))), Err(Unreadable::Header));
        let two = padded([initial(b"to"), initial(b"other")].concat());
        assert_eq!(initials(&two), Err(Unreadable::SeveralConnections));
        let two = padded([other(b"to"), initial(b"other")].concat());
        assert_eq!(initials(&two), Err(Unreadable::SeveralConnections));
        let mut retry = padded(initial(b"to"));
        retry[0] |= 0x30;
        assert_eq!(initials(&retry), Err(Unreadable::Header));
        let mut draft = padded(initial(b"to"));
        draft[1..5].copy_from_slice(&0xff00_001d_u32.to_be_bytes());
        let (to, from) = (b"to".to_vec(), b"me".to_vec());
        assert_eq!(initials(&draft), Err(Unreadable::Version { version: 0xff00_001d, to, from }));
    }

    #[test]
    fn a_packet_that_ends_early_is_unreadable() {
        let whole = initial(b"to");
        for end in 1..whole.len() {
            assert_eq!(initials(&whole[..end]), Err(Unreadable::Header), "{end}");
        }
    }

    #[test]
    fn version_2_has_other_types() {
        let mut datagram = initial(b"to");
        datagram.resize(1200, 0);
        datagram[1..5].copy_from_slice(&Version::V2.number().to_be_bytes());
        assert_eq!(initials(&datagram), Err(Unreadable::Header), "a Retry of version 2");
        datagram[0] |= Version::V2.initial_bits();
        assert_eq!(initials(&datagram).unwrap()[0].hail.version, Version::V2);
    }

    fn initial(to: &[u8]) -> Vec<u8> {
        [&long(0xc0, to)[..], &[3, 1, 2, 3, 9], b"protected"].concat()
    }

    fn other(to: &[u8]) -> Vec<u8> {
        [&long(0xe0, to)[..], &[9], b"protected"].concat()
    }

    fn long(first: u8, to: &[u8]) -> Vec<u8> {
        [&[first, 0, 0, 0, 1, to.len() as u8][..], to, &[2], b"me"].concat()
    }
}
