//! What holds for all that a client can say in its Initials.

use super::{
    conversation::{Conversation, Heard},
    frames,
    keys::InitialKeys,
    packet::{Hail, MIN_DATAGRAM, VERSIONS},
};
use crate::{policy::HostName, proxy::laws::server_names};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The name of a connection whose datagrams pass is the only one that a server finds in them, whichever of
/// two contradicting pieces it would believe. `bytes` are payloads of Initials behind their lengths, of two
/// octets.
pub fn initial(bytes: &[u8]) {
    let now = Instant::now();
    let _ = Conversation::default().hear(bytes, now);
    let mut talk = Conversation::default();
    let mut believed = BTreeMap::new();
    for (number, payload) in payloads(bytes).enumerate().take(MAX_PAYLOADS) {
        let Some(datagram) = sealed(number, payload) else { return };
        let Ok(heard) = talk.hear(&datagram, now) else { return };
        for (offset, piece) in frames::crypto(payload).into_iter().flatten() {
            believed.extend((offset..).zip(piece.iter().copied()));
        }
        if let Heard::Whole(_, hello) = heard {
            assert!(believed.keys().copied().eq(0..believed.len() as u64), "nothing is amiss");
            let handshake: Vec<u8> = believed.values().copied().collect();
            let mut rest = handshake.as_slice();
            while let [_, high, middle, low, ..] = rest {
                let length = 4 + u32::from_be_bytes([0, *high, *middle, *low]) as usize;
                let found = server_names(&rest[..length]).unwrap_or_default();
                let [only] = found.as_slice() else {
                    panic!("{} was read, {found:?} stand there", hello.name)
                };
                assert_eq!(HostName::from_ascii(only).as_ref(), Ok(&hello.name));
                rest = &rest[length..];
            }
        }
    }
}

/// More take long, and say nothing else.
const MAX_PAYLOADS: usize = 64;

fn payloads(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (payload, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        bytes = rest;
        Some(payload)
    })
}

/// In either version, as a client that has seen its server's answer may.
fn sealed(number: usize, payload: &[u8]) -> Option<Vec<u8>> {
    let version = VERSIONS[number % VERSIONS.len()];
    let mut padded = payload.to_vec();
    padded.resize(padded.len().max(MIN_DATAGRAM), frames::PADDING);
    let hail = Hail { version, to: b"original", from: b"client" };
    InitialKeys::of_client(version, b"original")?.seal(hail, u16::try_from(number).ok()?, &padded)
}
