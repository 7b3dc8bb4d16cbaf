//! Answers that end a client's attempt at once, where silence would have it try again and again. Pure.

use super::{
    frames::CONNECTION_CLOSE,
    frames::CRYPTO,
    keys::InitialKeys,
    packet::{Hail, VERSIONS},
    varint::two_octets,
};
use crate::policy::Reason;

/// What a server would say whose TLS denies access. Libraries show the code, and most the words.
#[must_use]
pub fn denied(hail: Hail<'_>, reason: Reason) -> Option<Vec<u8>> {
    close(hail, ACCESS_DENIED, &format!("egressd: {reason}: {}", reason.explanation()))
}

/// What a server would say that does not want to serve.
#[must_use]
pub fn refused(hail: Hail<'_>) -> Option<Vec<u8>> {
    close(hail, CONNECTION_REFUSED, "egressd: the server cannot be reached")
}

/// The versions that there are, to a client that speaks another one (RFC 9000, section 17.2.1).
#[must_use]
pub fn other_versions(to: &[u8], from: &[u8]) -> Option<Vec<u8>> {
    let mut datagram = vec![0xc0, 0, 0, 0, 0];
    for id in [from, to] {
        datagram.push(u8::try_from(id.len()).ok()?);
        datagram.extend_from_slice(id);
    }
    datagram.extend(VERSIONS.iter().flat_map(|version| version.number().to_be_bytes()));
    Some(datagram)
}

/// RFC 9001, section 4.8: 0x0100 and the alert, here access_denied (RFC 8446, section 6.2).
const ACCESS_DENIED: u16 = 0x0100 + 49;

/// RFC 9000, section 20.1.
const CONNECTION_REFUSED: u16 = 0x02;

/// A CONNECTION_CLOSE in an Initial of the server (RFC 9000, section 10.2.3). It asks for no answer, so it
/// needs no padding (section 14.1).
fn close(hail: Hail<'_>, code: u16, why: &str) -> Option<Vec<u8>> {
    let why = why.as_bytes();
    let length = u16::try_from(why.len()).ok().filter(|length| *length < 1 << 10)?;
    let mut frame = vec![CONNECTION_CLOSE];
    frame.extend_from_slice(&two_octets(code));
    frame.push(CRYPTO);
    frame.extend_from_slice(&two_octets(length));
    frame.extend_from_slice(why);
    let back = Hail { version: hail.version, to: hail.from, from: hail.to };
    InitialKeys::of_server(hail.version, hail.to)?.seal(back, 0, &frame)
}
