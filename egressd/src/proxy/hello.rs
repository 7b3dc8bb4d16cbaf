//! Reads the server name of a TLS ClientHello, whatever pieces and records it arrives in.
//!
//! As strict as `egress_common::hello`, which reads the same in the kernel: `laws` holds the two to one
//! verdict. What stands inside of other extensions is between the agent and its upstream.

use super::{
    record::{HANDSHAKE, NotARecord, Record, vector},
    server_name,
};
use crate::policy::{HostName, Reason};

/// A ClientHello that names one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Of the outer hello, where another one is encrypted within.
    pub name: HostName,
    /// Whether the extension of Encrypted Client Hello is there (RFC 9849); most of those are GREASE.
    pub has_ech: bool,
    /// Octets of it, with its record headers where it has any.
    pub length: usize,
}

/// Reads the ClientHello that a flow starts with.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Octets of the records that were read.
    read: usize,
    /// What they carried.
    message: Vec<u8>,
}

impl HelloReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on in `taken`, which is all that the flow has sent, from its first octet. None as long as
    /// the hello is not whole. Bytes behind its last record are ignored.
    ///
    /// # Errors
    /// The bytes are no ClientHello with exactly one DNS name. The reader must not be asked again after an
    /// error, nor after a hello.
    pub fn read(&mut self, taken: &[u8]) -> Result<Option<Hello>, Misread> {
        if taken.first().is_some_and(|first| *first != HANDSHAKE) {
            return Err(Misread::because(Reason::NotTls));
        }
        while let Some(record) = self.next(taken)? {
            self.read += record.length();
            // A hello in one record, as nearly all are, is read where it lies.
            let hello = match self.message.is_empty() {
                true => alone(record.fragment)?,
                false => None,
            };
            let hello = match hello {
                Some(hello) => Some(hello),
                None => {
                    self.message.extend_from_slice(record.fragment);
                    alone(&self.message)?
                }
            };
            if let Some(hello) = hello {
                return Ok(Some(Hello { length: self.read, ..hello }));
            }
            if self.read > MAX_HELLO {
                return Err(Misread::because(Reason::HelloTooLarge));
            }
        }
        Ok(None)
    }

    fn next<'a>(&self, taken: &'a [u8]) -> Result<Option<Record<'a>>, Misread> {
        match Record::first(taken.get(self.read..).unwrap_or_default()) {
            Ok(Some(record)) if record.kind != HANDSHAKE => Err(malformed("hello is interrupted")),
            Ok(record) => Ok(record),
            Err(NotARecord) => Err(malformed("hello is not in a valid record")),
        }
    }
}

/// Reads the ClientHello at the start of `handshake`, which has no record headers. None as long as it is
/// not whole.
///
/// # Errors
/// It is no ClientHello with exactly one DNS name.
pub fn message(handshake: &[u8]) -> Result<Option<Hello>, Misread> {
    let Some(length) = announced(handshake)? else { return Ok(None) };
    let Some(body) = handshake.get(MESSAGE_HEADER..length) else { return Ok(None) };
    let extensions = extensions(body).map_err(malformed)?;
    let name = extensions.iter().find(|(kind, _)| *kind == SERVER_NAME);
    let (_, name) = name.ok_or(Misread::because(Reason::ServerNameMissing))?;
    let name = server_name::parse(name).map_err(|why| Misread::explained(Reason::NameInvalid, why))?;
    let has_ech = extensions.iter().any(|(kind, _)| *kind == ENCRYPTED_CLIENT_HELLO);
    Ok(Some(Hello { name, has_ech, length }))
}

/// The largest ClientHello, with its record headers. Post-quantum key shares bring it to 2 KiB,
/// pre-shared keys to a few more; it must be held whole until it is judged.
pub const MAX_HELLO: usize = 64 * 1024;

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

/// The same of a message behind which nothing may follow: in the record that ends a hello, for the agent
/// has nothing more to say before the answer.
fn alone(carried: &[u8]) -> Result<Option<Hello>, Misread> {
    match announced(carried)? {
        Some(length) if length < carried.len() => Err(malformed("bytes follow the hello in its record")),
        Some(_) | None => message(carried),
    }
}

/// Octets that the message at the start of `handshake` will have.
fn announced(handshake: &[u8]) -> Result<Option<usize>, Misread> {
    if handshake.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(malformed("handshake does not start with a hello"));
    }
    let Some((&[_, high, middle, low], _)) = handshake.split_first_chunk() else { return Ok(None) };
    let length = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    match length <= MAX_HELLO {
        true => Ok(Some(length)),
        false => Err(Misread::because(Reason::HelloTooLarge)),
    }
}

/// The extensions of a hello (RFC 8446, section 4.1.2), each type at most once.
fn extensions(body: &[u8]) -> Result<Vec<(u16, &[u8])>, &'static str> {
    let extensions = list(extension_block(body)?).ok_or("extensions do not end where they should")?;
    let mut kinds: Vec<u16> = extensions.iter().map(|(kind, _)| *kind).collect();
    // Its binders cover all that stands before them (RFC 8446, section 4.2.11).
    if kinds.iter().rev().skip(1).any(|kind| *kind == PRE_SHARED_KEY) {
        return Err("pre-shared key is not the last extension");
    }
    kinds.sort_unstable();
    match kinds.is_sorted_by(|one, next| one < next) {
        true => Ok(extensions),
        false => Err("an extension stands there twice"),
    }
}

/// What stands behind the fields that every hello has.
fn extension_block(body: &[u8]) -> Result<&[u8], &'static str> {
    const SHORT: &str = "hello is cut short";
    let (_version_and_random, body) = body.split_at_checked(34).ok_or(SHORT)?;
    let (session, body) = vector(body, 1).ok_or(SHORT)?;
    if session.len() > MAX_SESSION {
        return Err("session id is too long");
    }
    let (ciphers, body) = vector(body, 2).ok_or(SHORT)?;
    if ciphers.is_empty() || !ciphers.len().is_multiple_of(2) {
        return Err("list of cipher suites is not valid");
    }
    let (compressions, block) = vector(body, 1).ok_or(SHORT)?;
    match compressions.contains(&NO_COMPRESSION) {
        true => Ok(block),
        false => Err("uncompressed is not offered"),
    }
}

/// A hello of before there were extensions has no block of them.
fn list(block: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut list = Vec::new();
    if block.is_empty() {
        return Some(list);
    }
    let (mut extensions, []) = vector(block, 2)? else { return None };
    while !extensions.is_empty() {
        let (kind, rest) = extensions.split_first_chunk()?;
        let (data, rest) = vector(rest, 2)?;
        list.push((u16::from_be_bytes(*kind), data));
        extensions = rest;
    }
    Some(list)
}

fn malformed(why: &'static str) -> Misread {
    Misread::explained(Reason::HelloMalformed, why)
}

const CLIENT_HELLO: u8 = 1;
const MESSAGE_HEADER: usize = 4;
const MAX_SESSION: usize = 32;
const NO_COMPRESSION: u8 = 0;
const SERVER_NAME: u16 = 0;
const PRE_SHARED_KEY: u16 = 41;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::bytes::{client_hello, crafted_hello, in_records};

    #[test]
    fn a_hello_is_read_in_segments_split_at_every_octet() {
        let hello = client_hello("ok.test");
        for split in 0..hello.len() {
            let mut reader = HelloReader::new();
            assert_eq!(reader.read(&hello[..split]), Ok(None), "split at {split}");
            let read = reader.read(&hello).unwrap().unwrap();
            assert_eq!((read.name, read.length), (name("ok.test"), hello.len()), "split at {split}");
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
        let invalid: [&[(u8, &[u8])]; 12] = [
            &[],
            &[(0, b"192.0.2.1")],
            &[(0, b"2001:db8::1")],
            &[(0, b"ok.test"), (0, b"evil.test")],
            &[(7, b"ok.test")],
            &[(0, b"")],
            // Other readers read on behind a type of name that they do not know.
            &[(0, b"ok.test"), (7, b"x"), (0, b"evil.test")],
            &[(0, b"ok.test"), (7, b"x")],
            &[(0, b"ok.test\0.evil.test")],
            &[(0, b"ok.test.")],
            &[(0, b"*.test")],
            &[(0, "b\u{fc}cher.test".as_bytes())],
        ];
        for names in invalid {
            refuses(&named(names), Reason::NameInvalid);
        }
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
        HelloReader::new()
            .read(bytes)
            .map(|hello| hello.map(|hello| hello.name))
            .map_err(|misread| misread.reason)
    }

    fn read_in_octets(bytes: &[u8]) -> Result<Option<HostName>, Reason> {
        let mut reader = HelloReader::new();
        for end in 1..=bytes.len() {
            if let Some(hello) = reader.read(&bytes[..end]).map_err(|misread| misread.reason)? {
                return Ok(Some(hello.name));
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
