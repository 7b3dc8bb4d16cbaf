//! One truth about ClientHellos, by three readers.

use crate::{datapath::laws as kernel, policy::Reason, proxy::laws as proxy};
use rustls::{Error, InvalidMessage, PeerIncompatible};

/// The kernel programs, the proxy and rustls find the same server name in a ClientHello, or none of them
/// finds one; and the first two have the same reason.
pub fn differential(bytes: &[u8]) {
    let by_kernel = kernel::server_name(bytes);
    let by_proxy = proxy::server_name(bytes);
    match (&by_kernel, &by_proxy) {
        (Err(Reason::HelloUnreadable), _) => assert!(is_hard_to_read(bytes), "the kernel could read this"),
        // The kernel waits for a whole record before it looks into it, and has nothing to say of the next.
        (Ok(None), Ok(None) | Err(_)) | (Err(_), Ok(None)) => {}
        // It looks neither into `xn--` nor at the length of labels: no such name has a grant.
        (Ok(Some((name, ..))), Err(Reason::NameInvalid)) => {
            assert!(name.split('.').any(|label| label.starts_with("xn--") || label.len() > 63), "{name}");
        }
        _ => assert_eq!(by_kernel, by_proxy, "the kernel and the proxy"),
    }
    // What follows is no part of the hello, and rustls looks ahead.
    let hello =
        by_proxy.as_ref().ok().and_then(Option::as_ref).and_then(|(_, length, _)| bytes.get(..*length));
    let name = by_proxy.map(|read| read.map(|(name, ..)| name));
    match (name, proxy::server_name_by_rustls(hello.unwrap_or(bytes))) {
        (Ok(Some(name)), Ok(Some(read))) => assert_eq!(Some(name), read, "the proxy and rustls"),
        (Ok(Some(name)), Err(error)) => assert!(is_of_others(&error), "{name}, but rustls: {error}"),
        (Ok(Some(name)), Ok(None)) => panic!("{name}, but rustls waits"),
        (Ok(None), Ok(Some(read))) => panic!("the proxy waits, but rustls: {read:?}"),
        (Err(reason), Ok(Some(read))) => {
            assert!(is_stricter(reason, read.as_deref(), bytes), "{reason}: {read:?}")
        }
        (Ok(None), Ok(None) | Err(_)) | (Err(_), Ok(None) | Err(_)) => {}
    }
}

/// What the kernel may leave to the proxy: several records, long ones, many extensions, compression.
fn is_hard_to_read(bytes: &[u8]) -> bool {
    let [_, _, _, high, low, carried @ ..] = bytes else { return false };
    let record = usize::from(u16::from_be_bytes([*high, *low]));
    if !(SHORTEST..=16_384).contains(&record) {
        return true;
    }
    let Some([_, top, middle, bottom]) = carried.first_chunk() else { return false };
    let message = 4 + u32::from_be_bytes([0, *top, *middle, *bottom]) as usize;
    message > record || has_much(&carried[4..]).unwrap_or(false)
}

/// Whether a hello has many extensions, or offers compression before none.
fn has_much(body: &[u8]) -> Option<bool> {
    let (_session, rest) = vector(body.get(34..)?, 1)?;
    let (_ciphers, rest) = vector(rest, 2)?;
    let (compressions, rest) = vector(rest, 1)?;
    if compressions.first().is_some_and(|method| *method != 0) {
        return Some(true);
    }
    let mut extensions = rest.get(2..)?;
    let mut count = 0;
    while let Some((_, rest)) = extensions.get(2..).and_then(|extension| vector(extension, 2)) {
        extensions = rest;
        count += 1;
    }
    Some(count >= 32)
}

/// What stands behind a length of `octets` octets, and the rest.
fn vector(bytes: &[u8], octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(octets)?;
    rest.split_at_checked(length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
}

/// What rustls finds wrong inside of extensions that are between the agent and its upstream; and it needs
/// one that TLS 1.1 did not have.
fn is_of_others(error: &Error) -> bool {
    matches!(
        error,
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired)
            | Error::InvalidMessage(
                // Of a kind of Encrypted Client Hello that it does not know.
                InvalidMessage::InvalidContentType
                    | InvalidMessage::MissingData(_)
                    | InvalidMessage::TrailingData(_)
                    | InvalidMessage::IllegalEmptyList(_)
                    | InvalidMessage::IllegalEmptyValue
                    | InvalidMessage::MessageTooShort
                    | InvalidMessage::NoSignatureSchemes
            )
    )
}

/// Where the proxy is stricter than rustls, and where it says something else of a hello without a name.
fn is_stricter(reason: Reason, read: Option<&str>, bytes: &[u8]) -> bool {
    // It takes no more for a name than the policy can name; an address is a bad name to it, to rustls none.
    reason == Reason::NameInvalid
        || reason == Reason::ServerNameMissing && read.is_none()
        || reason == Reason::HelloTooLarge && bytes.len() > 60_000
        || reason == Reason::HelloMalformed && has_odd_record(bytes)
}

/// Whether a record is longer than RFC 8446, section 5.1, has it, or of another version than TLS has: rustls
/// knows those of SSL 2.0 and DTLS, too.
fn has_odd_record(mut bytes: &[u8]) -> bool {
    while let [_, major, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > 16_384 || *major != 3 {
            return true;
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Octets that the shortest hello has.
const SHORTEST: usize = 45;

#[cfg(test)]
#[path = "../../../tests/hellos/mod.rs"]
mod hellos;

#[cfg(test)]
mod tests {
    use super::{
        differential,
        hellos::{
            Case, Verdict, all,
            mutate::{Random, mutate},
        },
        kernel, proxy,
    };
    use crate::policy::Reason;

    #[test]
    fn every_hello_of_the_corpus_meets_its_verdict_in_the_kernel_and_in_the_proxy() {
        let cases = all();
        assert!(cases.len() > 300, "{} hellos are found", cases.len());
        for case in &cases {
            assert_eq!(verdict(proxy::server_name(&case.bytes)), case.proxy, "proxy: {}", case.title);
            assert_eq!(verdict(kernel::server_name(&case.bytes)), case.kernel, "kernel: {}", case.title);
        }
    }

    #[test]
    fn every_hello_of_the_corpus_is_one_to_three_readers_at_every_octet() {
        for Case { title, bytes, .. } in all() {
            // Of a long one, its start and its end; the middle is padding.
            let ends =
                (0..=bytes.len()).filter(|end| *end < 3_000 || end % 997 == 0 || bytes.len() - end < 50);
            for end in ends {
                let held = std::panic::catch_unwind(|| differential(&bytes[..end]));
                assert!(held.is_ok(), "{title}: the first {end} octets");
            }
        }
    }

    #[test]
    fn every_hello_of_the_corpus_reads_the_same_in_two_pieces_split_at_any_octet() {
        for Case { title, bytes, proxy, .. } in all().into_iter().filter(|case| case.bytes.len() < 2_500) {
            for split in 0..bytes.len() {
                let read = proxy::server_name_in_pieces(&[&bytes[..split], &bytes]);
                assert_eq!(verdict(read), proxy, "{title}: split at {split}");
            }
        }
    }

    #[test]
    fn hellos_changed_at_random_are_one_to_three_readers() {
        let seeds = all();
        let mut random = Random::new(1);
        let (mut named, mut denied) = (0, 0);
        for round in 0..VARIANTS {
            let bytes = mutate(&seeds[random.below(seeds.len())].bytes, &mut random);
            let held = std::panic::catch_unwind(|| differential(&bytes));
            assert!(held.is_ok(), "variant {round}: {bytes:02x?}");
            match kernel::server_name(&bytes) {
                Ok(Some(_)) => named += 1,
                Err(_) => denied += 1,
                Ok(None) => {}
            }
        }
        // The changes go deep enough: they make hellos that are still read, and others that are not.
        assert!(named > VARIANTS / 20 && denied > VARIANTS / 20, "{named} named, {denied} denied");
    }

    type Read = Result<Option<(String, usize, bool)>, Reason>;

    fn verdict(read: Read) -> Verdict {
        match read {
            Ok(Some((name, ..))) => Verdict::Named(name),
            Ok(None) => Verdict::Waits,
            Err(reason) => Verdict::Denied(reason.to_string()),
        }
    }

    /// Enough to meet every branch; `scripts/fuzz hello_differential` tries millions.
    const VARIANTS: usize = 10_000;
}
