//! Reads the server name of a TLS ClientHello, whatever pieces and records it arrives in.

use super::server_name;
use crate::policy::{HostName, Reason};
use rustls::{Error, InvalidMessage, PeerMisbehaved, server::Acceptor};

/// The largest ClientHello, with its record headers. Post-quantum key shares bring it to 2 KiB,
/// pre-shared keys to a few more; it must be held whole until it is judged.
pub const MAX_HELLO: usize = 64 * 1024;

/// First octet of every TLS record that carries a handshake (RFC 8446, section 5.1).
pub const HANDSHAKE: u8 = 0x16;

/// Takes the bytes that a flow starts with until they make a ClientHello.
///
/// The name is that of the outer hello. Encrypted Client Hello (extension 0xfe0d) passes, for
/// browsers send it as GREASE to every server; the address is granted to the outer name, and no
/// resolver of ours hands out the keys that a true inner hello needs (RFC 9849; SECURITY.md).
pub struct HelloReader {
    acceptor: Acceptor,
    /// All that was taken, at most [`MAX_HELLO`] and one read more.
    taken: Vec<u8>,
}

impl HelloReader {
    #[must_use]
    pub fn new() -> Self {
        Self { acceptor: Acceptor::default(), taken: Vec::new() }
    }

    /// Takes the next bytes; returns the server name when the hello is complete. Bytes behind the
    /// hello are ignored.
    ///
    /// # Errors
    /// The bytes are no ClientHello with exactly one DNS name (RFC 6066, section 3). The reader
    /// must not be fed again after an error, nor after a name.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<HostName>, Misread> {
        if self.taken.is_empty() && bytes.first().is_some_and(|first| *first != HANDSHAKE) {
            return Err(Misread::because(Reason::NotTls));
        }
        while !bytes.is_empty() {
            let before = bytes;
            let taken = self.acceptor.read_tls(&mut bytes).unwrap_or(0);
            self.taken.extend_from_slice(&before[..taken]);
            // What the deframer cannot hold, it does not take.
            if taken == 0 || self.taken.len() > MAX_HELLO {
                return Err(Misread::because(Reason::HelloTooLarge));
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(hello)) => {
                    let name = server_name(hello.client_hello().server_name())?;
                    return match server_name::is_alone(&self.taken) {
                        true => Ok(Some(name)),
                        false => Err(Misread::explained(Reason::NameInvalid, NOT_ONE_NAME)),
                    };
                }
                Err((error, _alert)) => return Err(misread(error)),
            }
        }
        Ok(None)
    }
}

impl Default for HelloReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Why the first bytes of a flow name no destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    pub reason: Reason,
    pub detail: Option<String>,
}

impl Misread {
    #[must_use]
    pub fn because(reason: Reason) -> Self {
        Self { reason, detail: None }
    }

    #[must_use]
    pub fn explained(reason: Reason, why: impl std::fmt::Display) -> Self {
        Self { reason, detail: Some(why.to_string()) }
    }
}

/// An address as the server name counts as none: RFC 6066 allows names only.
fn server_name(name: Option<&str>) -> Result<HostName, Misread> {
    let name = name.ok_or(Misread::because(Reason::ServerNameMissing))?;
    HostName::parse(name).map_err(|error| Misread::explained(Reason::NameInvalid, error))
}

fn misread(error: Error) -> Misread {
    if error == Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) {
        Misread::because(Reason::HelloTooLarge)
    } else if error == Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName) {
        Misread::explained(Reason::NameInvalid, NOT_ONE_NAME)
    } else {
        Misread::explained(Reason::HelloMalformed, error)
    }
}

const NOT_ONE_NAME: &str = "server name is not one valid DNS name";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::bytes::{client_hello, crafted_hello, in_records};

    #[test]
    fn a_hello_is_read_in_segments_split_at_every_octet() {
        let hello = client_hello("ok.test");
        for split in 0..hello.len() {
            let mut reader = HelloReader::new();
            assert_eq!(reader.feed(&hello[..split]), Ok(None), "split at {split}");
            assert_eq!(reader.feed(&hello[split..]), Ok(Some(name("ok.test"))), "split at {split}");
        }
    }

    #[test]
    fn a_hello_is_read_in_records_of_every_size_and_in_single_octets() {
        let hello = client_hello("ok.test");
        for size in 1..hello.len() {
            let bytes = in_records(&hello[5..], size);
            assert_eq!(read(&bytes), Ok(Some(name("ok.test"))), "records of {size}");
            assert_eq!(read_in_octets(&bytes), Ok(Some(name("ok.test"))), "records of {size}");
        }
    }

    #[test]
    fn nothing_is_named_before_the_last_octet_of_the_hello() {
        let bytes = in_records(&client_hello("ok.test")[5..], 7);
        assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None));
    }

    #[test]
    fn bytes_behind_the_hello_do_not_matter() {
        let mut bytes = client_hello("ok.test");
        bytes.extend_from_slice(b"\x14\x03\x03\x00\x01\x01\x17\x03\x03\x00\x02hi");
        assert_eq!(read(&bytes), Ok(Some(name("ok.test"))));
    }

    #[test]
    fn a_name_is_folded_like_every_other_name() {
        assert_eq!(read(&named(&[(0, b"OK.Test")])), Ok(Some(name("ok.test"))));
    }

    #[test]
    fn a_hello_without_exactly_one_dns_name_is_refused() {
        refuses(&crafted_hello(&[]), Reason::ServerNameMissing);
        refuses(&named(&[]), Reason::HelloMalformed);
        refuses(&named(&[(0, b"192.0.2.1")]), Reason::ServerNameMissing);
        refuses(&named(&[(0, b"2001:db8::1")]), Reason::ServerNameMissing);
        refuses(&named(&[(0, b"ok.test"), (0, b"evil.test")]), Reason::HelloMalformed);
        refuses(&named(&[(7, b"ok.test")]), Reason::NameInvalid);
        refuses(&named(&[(0, b"")]), Reason::HelloMalformed);
        // Other readers read on behind a type of name that they do not know.
        refuses(&named(&[(0, b"ok.test"), (7, b"x"), (0, b"evil.test")]), Reason::NameInvalid);
        refuses(&named(&[(0, b"ok.test"), (7, b"x")]), Reason::NameInvalid);
        refuses(&named(&[(0, b"ok.test\0.evil.test")]), Reason::NameInvalid);
        refuses(&named(&[(0, b"ok.test..")]), Reason::NameInvalid);
        refuses(&named(&[(0, b"*.test")]), Reason::NameInvalid);
        refuses(&named(&[(0, "b\u{fc}cher.test".as_bytes())]), Reason::NameInvalid);
        let list = server_names(&[(0, b"ok.test")]);
        refuses(&crafted_hello(&[(0, list.clone()), (0, list)]), Reason::HelloMalformed);
    }

    #[test]
    fn a_hello_with_grease_for_ech_passes_by_its_outer_name() {
        let list = server_names(&[(0, b"ok.test")]);
        // Outer; HKDF-SHA256, AES-128-GCM; configuration 9; key of 32 octets; payload of 16.
        let grease = [&[0, 0, 1, 0, 1, 9, 0, 32][..], &[5; 32], &[0, 16], &[6; 16]].concat();
        let bytes = crafted_hello(&[(0xfe0d, grease), (0, list)]);
        assert_eq!(read(&bytes), Ok(Some(name("ok.test"))));
    }

    #[test]
    fn a_large_hello_is_read_and_one_above_the_bound_is_refused() {
        let padded = |length| {
            let list = server_names(&[(0, b"ok.test")]);
            let hello = crafted_hello(&[(0xaaaa, vec![0; length]), (0, list)]);
            in_records(&hello[5..], 16_384)
        };
        assert_eq!(read(&padded(60_000)), Ok(Some(name("ok.test"))));
        refuses(&padded(65_500), Reason::HelloTooLarge);
        let endless = in_records(&[&[1, 0xff, 0xff, 0xff][..], &[0; 70_000]].concat(), 16_384);
        refuses(&endless, Reason::HelloTooLarge);
        refuses(&[0x16, 3, 1, 0xff, 0xff].repeat(20_000), Reason::HelloMalformed);
    }

    #[test]
    fn what_is_not_tls_is_refused_at_its_first_octet() {
        for bytes in [&b"SSH-2.0-x"[..], b"GET / HTTP/1.1", b"\x80\x2e\x01\x03\x01", b"\x17\x03\x03", b"\0"] {
            refuses(&bytes[..1], Reason::NotTls);
        }
    }

    #[test]
    fn a_handshake_that_is_not_a_hello_is_refused() {
        refuses(&in_records(&[2, 0, 0, 4, 3, 3, 0, 0], 100), Reason::HelloMalformed);
        refuses(b"\x16\x09\x09\x00\x01\x01", Reason::HelloMalformed);
        refuses(&in_records(&[1, 0, 0, 2, 3, 3], 100), Reason::HelloMalformed);
    }

    fn read(bytes: &[u8]) -> Result<Option<HostName>, Reason> {
        HelloReader::new().feed(bytes).map_err(|misread| misread.reason)
    }

    fn read_in_octets(bytes: &[u8]) -> Result<Option<HostName>, Reason> {
        let mut reader = HelloReader::new();
        for octet in bytes {
            if let Some(name) = reader.feed(&[*octet]).map_err(|misread| misread.reason)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn refuses(bytes: &[u8], reason: Reason) {
        assert_eq!(read(bytes), Err(reason), "{:02x?}", &bytes[..bytes.len().min(120)]);
    }

    fn named(names: &[(u8, &[u8])]) -> Vec<u8> {
        crafted_hello(&[(0, server_names(names))])
    }

    fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
        let mut list = Vec::new();
        for (kind, name) in names {
            list.push(*kind);
            list.extend_from_slice(&(name.len() as u16).to_be_bytes());
            list.extend_from_slice(name);
        }
        [&(list.len() as u16).to_be_bytes()[..], &list].concat()
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }
}
