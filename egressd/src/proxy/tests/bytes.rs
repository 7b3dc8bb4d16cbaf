//! Bytes that agents send.

/// The ClientHello of a real client, in one record.
#[cfg(test)]
pub fn client_hello(name: &str) -> Vec<u8> {
    use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};
    use std::sync::Arc;

    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A ClientHello with `extensions` and what every hello needs beside them, in one record.
pub fn crafted_hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    let signatures = (13, vec![0, 2, 4, 3]);
    let versions = (43, vec![2, 3, 4]);
    for (kind, body) in extensions.iter().chain([&signatures, &versions]) {
        all.extend_from_slice(&kind.to_be_bytes());
        all.extend_from_slice(&(body.len() as u16).to_be_bytes());
        all.extend_from_slice(body);
    }
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    hello.extend_from_slice(&(all.len() as u16).to_be_bytes());
    hello.extend_from_slice(&all);
    let length = (hello.len() as u32).to_be_bytes();
    let handshake = [&[1], &length[1..], &hello].concat();
    in_records(&handshake, 0xffff)
}

/// The start of a ServerHello with `random`, in one record: as much as tells what it is.
#[cfg(test)]
pub fn server_hello(random: [u8; 32]) -> Vec<u8> {
    let hello = [&[3, 3][..], &random, &[0, 0x13, 1, 0]].concat();
    let length = (hello.len() as u32).to_be_bytes();
    in_records(&[&[2], &length[1..], &hello].concat(), 0xffff)
}

/// Cuts a handshake into TLS records with `size` octets each.
pub fn in_records(handshake: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in handshake.chunks(size) {
        bytes.extend_from_slice(&[0x16, 3, 1]);
        bytes.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        bytes.extend_from_slice(piece);
    }
    bytes
}
