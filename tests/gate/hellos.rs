//! Hellos, and what servers answer to them.

/// A ClientHello for `name` with `extensions`, in one record.
pub fn hello_with(name: &str, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut all = vec![server_name(name), (13, vec![0, 2, 4, 3]), (43, vec![2, 3, 4])];
    all.extend_from_slice(extensions);
    hello_of(&all)
}

/// One for `name`, about as long as today's.
pub fn hello(name: &str) -> Vec<u8> {
    hello_with(name, &[(51, vec![0x51; 200])])
}

pub fn server_name(name: &str) -> (u16, Vec<u8>) {
    let two = |length: usize| (length as u16).to_be_bytes();
    (0, [&two(name.len() + 3)[..], &[0], &two(name.len()), name.as_bytes()].concat())
}

/// One with nothing but `extensions`.
pub fn hello_of(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let handshake = handshake(extensions);
    record(22, &handshake)
}

/// A handshake message without its record.
pub fn handshake(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let two = |length: usize| (length as u16).to_be_bytes();
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &two(data.len()), data].concat())
        .collect();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &two(list.len()), &list].concat();
    [&[1, 0][..], &two(body.len()), &body].concat()
}

pub fn record(kind: u8, carried: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &(carried.len() as u16).to_be_bytes(), carried].concat()
}

/// HelloRetryRequest (RFC 8446, section 4.1.4).
pub fn retry() -> Vec<u8> {
    const RANDOM: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let body = [&[3, 3][..], &RANDOM, &[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    record(22, &[&[2, 0, 0, body.len() as u8][..], &body].concat())
}
