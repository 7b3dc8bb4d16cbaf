//! The first messages of TLS, as far as those who look at names look.

/// A ClientHello for `name`, as long as one of OpenSSL is (RFC 8446, section 4.1.2).
pub fn client(name: &str) -> Vec<u8> {
    let server_name = {
        let host = [&[0][..], &vector16(name.as_bytes())].concat();
        extension(0, &vector16(&host))
    };
    let key_share = {
        let x25519 = [&[0, 0x1d][..], &vector16(&[0x42; 32])].concat();
        extension(51, &vector16(&x25519))
    };
    let rest = [
        extension(10, &vector16(&[0, 0x1d, 0, 0x17, 0, 0x18])),
        extension(11, &[1, 0]),
        extension(13, &vector16(&[4, 3, 5, 3, 6, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 6, 1])),
        extension(16, &vector16(b"\x02h2\x08http/1.1")),
        extension(22, &[]),
        extension(23, &[]),
        extension(35, &[]),
        extension(43, &[4, 3, 4, 3, 3]),
        extension(45, &[1, 1]),
    ]
    .concat();
    let extensions = [server_name, key_share, rest].concat();
    let suites = [0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2c, 0xc0, 0x2f, 0xc0, 0x30, 0, 0xff];
    let body =
        [&[3, 3][..], &[0x17; 32], &[32], &[0x23; 32], &vector16(&suites), &[1, 0], &vector16(&extensions)]
            .concat();
    record(CLIENT_HELLO, &body)
}

/// A ServerHello that asks for nothing (section 4.1.3).
pub fn server() -> Vec<u8> {
    let key_share = [&[0, 0x1d][..], &vector16(&[0x42; 32])].concat();
    let extensions = [extension(43, &[3, 4]), extension(51, &key_share)].concat();
    let body = [&[3, 3][..], &[0x71; 32], &[32], &[0x23; 32], &[0x13, 1, 0], &vector16(&extensions)].concat();
    record(SERVER_HELLO, &body)
}

/// How long a record is whose first octets are `first`; None where they are too few to tell.
pub fn length(first: &[u8]) -> Option<usize> {
    let length = first.get(3..HEADER)?;
    Some(HEADER + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// Octets in front of a record's content (section 5.1).
const HEADER: usize = 5;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

fn record(message: u8, body: &[u8]) -> Vec<u8> {
    let handshake = [&[message, 0][..], &vector16(body)].concat();
    [&[22, 3, 1][..], &vector16(&handshake)].concat()
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes()[..], &vector16(content)].concat()
}

/// With its length in front, in two octets.
fn vector16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a hello is short");
    [&length.to_be_bytes()[..], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustls_reads_the_name_in_a_hello() {
        let hello = client("ok.test");
        assert_eq!(length(&hello), Some(hello.len()));
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).expect("it is read");
        let accepted = acceptor.accept().ok().flatten().expect("it is a ClientHello");
        assert_eq!(accepted.client_hello().server_name(), Some("ok.test"));
    }
}
