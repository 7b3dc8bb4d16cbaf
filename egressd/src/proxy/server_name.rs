//! The server name extension of a ClientHello, read as strictly as its strictest reader.
//!
//! rustls takes the rest of a list for one name as soon as it meets a type of name that it does not
//! know; others read on, and could find another host name there.

/// Whether `records`, which hold a whole ClientHello, name one server and nothing else: the list of
/// each server name extension is one entry, of type `host_name` (RFC 6066, section 3).
#[must_use]
pub fn is_alone(records: &[u8]) -> bool {
    lists(&handshake(records)).is_some_and(|lists| lists.into_iter().all(is_one_host_name))
}

/// The list is as long as the type, the length and the name of its one entry.
fn is_one_host_name(list: &[u8]) -> bool {
    let Some((entry, [])) = vector(list, 2) else { return false };
    matches!(entry.split_first(), Some((&HOST_NAME, name)) if matches!(vector(name, 2), Some((_, []))))
}

/// The data of each server name extension (RFC 8446, section 4.1.2). None if the hello ends within.
fn lists(handshake: &[u8]) -> Option<Vec<&[u8]>> {
    let (hello, _) = vector(handshake.get(1..)?, 3)?;
    let (_version_and_random, body) = hello.split_at_checked(34)?;
    let (_session, body) = vector(body, 1)?;
    let (_ciphers, body) = vector(body, 2)?;
    let (_compressions, body) = vector(body, 1)?;
    let (mut extensions, _) = vector(body, 2)?;
    let mut lists = Vec::new();
    while let Some((kind, rest)) = extensions.split_first_chunk() {
        let (data, rest) = vector(rest, 2)?;
        extensions = rest;
        if *kind == SERVER_NAME {
            lists.push(data);
        }
    }
    Some(lists)
}

/// What the records carry (RFC 8446, section 5.1).
fn handshake(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(records.len());
    while let Some((fragment, rest)) = records.get(3..).and_then(|record| vector(record, 2)) {
        message.extend_from_slice(fragment);
        records = rest;
    }
    message
}

/// What stands behind a length of `octets` octets, and the rest.
fn vector(bytes: &[u8], octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(octets)?;
    rest.split_at_checked(length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
}

const SERVER_NAME: [u8; 2] = [0, 0];
const HOST_NAME: u8 = 0;
