//! Datagrams as clients send them.

use crate::proxy::{
    bytes::{client_hello, crafted_hello},
    quic::{
        keys::InitialKeys,
        packet::{Hail, MIN_DATAGRAM, Version},
        varint::two_octets,
    },
};

/// A client that speaks to the connection id `to`, with keys made of `original`.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub version: Version,
    pub original: &'static [u8],
    pub to: &'static [u8],
}

impl Client {
    pub const fn new(original: &'static [u8]) -> Self {
        Self { version: Version::V1, original, to: original }
    }

    /// An Initial with `frames`, padded to a whole datagram.
    pub fn says(self, number: u16, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = frames.concat();
        payload.resize(payload.len().max(MIN_DATAGRAM), 0);
        self.says_exactly(number, &payload)
    }

    pub fn says_exactly(self, number: u16, payload: &[u8]) -> Vec<u8> {
        let hail = Hail { version: self.version, to: self.to, from: b"client" };
        InitialKeys::of_client(self.version, self.original).unwrap().seal(hail, number, payload).unwrap()
    }

    /// The Initial with the hello of a real client.
    pub fn hello(self, name: &str) -> Vec<u8> {
        self.says(0, &[crypto(0, &hello(name))])
    }
}

/// A CRYPTO frame.
pub fn crypto(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let offset = two_octets(offset as u16);
    let length = two_octets(bytes.len() as u16);
    [&[6][..], &offset, &length, bytes].concat()
}

/// An ACK of packet 0.
pub const ACK: [u8; 5] = [2, 0, 0, 0, 0];

/// A ClientHello without a record around it.
pub fn hello(name: &str) -> Vec<u8> {
    client_hello(name)[5..].to_vec()
}

/// One with these extensions beside the server name.
pub fn hello_with(name: &str, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let entry = [&[0, 0, name.len() as u8][..], name.as_bytes()].concat();
    let list = (0, [&(entry.len() as u16).to_be_bytes()[..], &entry].concat());
    let all: Vec<_> = extensions.iter().cloned().chain([list]).collect();
    crafted_hello(&all)[5..].to_vec()
}
