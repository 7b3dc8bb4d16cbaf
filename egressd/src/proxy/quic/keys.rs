//! The protection of Initials (RFC 9001, section 5; RFC 9369, section 3.3). Pure.
//!
//! Their keys are made of a connection id that is on the wire: they keep no secret, and who reads them is
//! nobody's deputy.

use super::packet::{Hail, Initial, Version};
use rustls::{
    Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{self, DirectionalKeys, HeaderProtectionKey, PacketKey},
};

/// The keys of one side of a connection.
pub struct InitialKeys {
    header: Box<dyn HeaderProtectionKey>,
    packet: Box<dyn PacketKey>,
}

/// An Initial without its protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub number: u64,
    pub payload: Vec<u8>,
    /// Whether the reserved bits are zero, as they must be (RFC 9000, section 17.2).
    pub is_plain: bool,
}

impl InitialKeys {
    /// What a client protects with whose first Initial went to the connection id `original`.
    #[must_use]
    pub fn of_client(version: Version, original: &[u8]) -> Option<Self> {
        Self::of(Side::Client, version, original)
    }

    /// What its server protects with.
    #[must_use]
    pub fn of_server(version: Version, original: &[u8]) -> Option<Self> {
        Self::of(Side::Server, version, original)
    }

    fn of(side: Side, version: Version, original: &[u8]) -> Option<Self> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13()?.quic_suite()?;
        let version = match version {
            Version::V1 => quic::Version::V1,
            Version::V2 => quic::Version::V2,
        };
        let DirectionalKeys { header, packet, .. } = suite.keys(original, side, version).local;
        Some(Self { header, packet })
    }

    /// Takes the protection off; None where these are not its keys. `next` is the number that its sender
    /// would give to its next packet.
    #[must_use]
    pub fn open(&self, initial: &Initial<'_>, next: u64) -> Option<Opened> {
        let mut packet = initial.packet.to_vec();
        let (header, protected) = packet.split_at_mut_checked(initial.number_at)?;
        let (number, sampled) = protected.split_at_mut_checked(MAX_NUMBER)?;
        let sample = sampled.get(..self.header.sample_len())?;
        let first = header.first_mut()?;
        self.header.decrypt_in_place(sample, first, number).ok()?;
        let is_plain = *first & RESERVED_BITS == 0;
        let octets = usize::from(*first & 0b11) + 1;
        let number = number[..octets].iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
        let number = whole_number(number, octets, next);
        let (header, payload) = packet.split_at_mut_checked(initial.number_at + octets)?;
        let payload = self.packet.decrypt_in_place(number, header, payload).ok()?.to_vec();
        Some(Opened { number, payload, is_plain })
    }

    /// An Initial that carries `payload`, in a datagram of its own; None where that is too long for one.
    #[must_use]
    pub fn seal(&self, hail: Hail<'_>, number: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let number_octets = number.to_be_bytes();
        let length = u16::try_from(number_octets.len() + payload.len() + self.packet.tag_len()).ok()?;
        let length = (length < 1 << 14).then(|| super::varint::two_octets(length))?;
        let mut datagram = vec![LONG | hail.version.initial_bits() | 0b01];
        datagram.extend_from_slice(&hail.version.number().to_be_bytes());
        for id in [hail.to, hail.from] {
            datagram.push(u8::try_from(id.len()).ok()?);
            datagram.extend_from_slice(id);
        }
        datagram.push(NO_TOKEN);
        datagram.extend_from_slice(&length);
        let number_at = datagram.len();
        datagram.extend_from_slice(&number_octets);
        let mut payload = payload.to_vec();
        let tag = self.packet.encrypt_in_place(u64::from(number), &datagram, &mut payload).ok()?;
        datagram.extend_from_slice(&payload);
        datagram.extend_from_slice(tag.as_ref());
        let (header, protected) = datagram.split_at_mut(number_at);
        let (number, sampled) = protected.split_at_mut_checked(MAX_NUMBER)?;
        let sample = sampled.get(..self.header.sample_len())?;
        self.header.encrypt_in_place(sample, header.first_mut()?, &mut number[..number_octets.len()]).ok()?;
        Some(datagram)
    }
}

/// Form and fixed bit.
const LONG: u8 = 0xc0;
const RESERVED_BITS: u8 = 0x0c;
const NO_TOKEN: u8 = 0;

/// Octets of a packet number, at most; the sample begins behind as many (RFC 9001, section 5.4.2).
const MAX_NUMBER: usize = 4;

/// The number that `short`, its last `octets` octets, stands for (RFC 9000, appendix A.3).
fn whole_number(short: u64, octets: usize, next: u64) -> u64 {
    let window = 1_u64 << (octets * 8);
    let candidate = (next & !(window - 1)) | short;
    if candidate + window / 2 <= next && candidate < (1 << 62) - window {
        candidate + window
    } else if candidate > next + window / 2 && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet::initials, *};

    #[test]
    fn the_client_initials_of_rfc_9001_and_rfc_9369_are_opened() {
        let sent = [
            (Version::V1, include_str!("../../../../tests/fixtures/quic/rfc9001-client-initial.hex")),
            (Version::V2, include_str!("../../../../tests/fixtures/quic/rfc9369-client-initial.hex")),
        ];
        for (version, datagram) in sent {
            let datagram = octets(datagram);
            let found = initials(&datagram).unwrap();
            assert_eq!(found[0].hail, Hail { version, to: &octets(ORIGINAL), from: &[] });
            let keys = InitialKeys::of_client(version, found[0].hail.to).unwrap();
            let opened = keys.open(&found[0], 0).unwrap();
            assert_eq!((opened.number, opened.is_plain, opened.payload.len()), (2, true, 1162));
            assert_eq!(opened.payload[..4], [6, 0, 0x40, 0xf1]);
            assert!(opened.payload[0xf1 + 4..].iter().all(|octet| *octet == 0), "the rest is padding");
        }
    }

    #[test]
    fn the_server_initials_of_rfc_9001_and_rfc_9369_are_opened() {
        let sent = [
            (Version::V1, include_str!("../../../../tests/fixtures/quic/rfc9001-server-initial.hex")),
            (Version::V2, include_str!("../../../../tests/fixtures/quic/rfc9369-server-initial.hex")),
        ];
        for (version, packet) in sent {
            let packet = octets(packet);
            let hail = Hail { version, to: &[], from: &octets("f067a5502a4262b5") };
            let initial = Initial { hail, packet: &packet, number_at: 18 };
            let keys = InitialKeys::of_server(version, &octets(ORIGINAL)).unwrap();
            let opened = keys.open(&initial, 0).unwrap();
            assert_eq!((opened.number, &opened.payload[..7]), (1, &octets("02000000000600")[..]));
        }
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_own_keys_alone() {
        for version in super::super::packet::VERSIONS {
            let hail = Hail { version, to: b"original", from: b"me" };
            let payload = [&[6, 0, 2, 7, 8][..], &[0; 1200]].concat();
            let datagram = InitialKeys::of_client(version, b"original").unwrap().seal(hail, 300, &payload);
            let datagram = datagram.unwrap();
            let initial = initials(&datagram).unwrap()[0];
            let open = |id: &[u8]| InitialKeys::of_client(version, id).unwrap().open(&initial, 0);
            assert_eq!(open(b"original").unwrap(), Opened { number: 300, payload, is_plain: true });
            assert_eq!(open(b"another"), None);
            let server = InitialKeys::of_server(version, b"original").unwrap();
            assert_eq!(server.open(&initial, 0), None);
        }
    }

    #[test]
    fn short_numbers_stand_for_the_nearest() {
        assert_eq!(whole_number(0x9b32, 2, 0xa82f_30eb), 0xa82f_9b32);
        assert_eq!(whole_number(0, 1, 255), 256);
        assert_eq!(whole_number(255, 1, 256), 255);
        assert_eq!(whole_number(7, 1, 0), 7);
        assert_eq!(whole_number(0xffff_ffff, 4, 0), 0xffff_ffff);
    }

    fn octets(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    const ORIGINAL: &str = "8394c8f03e515708";
}
