//! What holds for all bytes that a flow can start with. The readers here are not those of the
//! gate: they are as lenient as a careless server.

use super::{
    authority::Authority,
    bytes::crafted_hello,
    framing::{Body, Framing, Trailers},
    head::HeadScan,
    hello::{Hello, HelloReader},
    request::{Head, Request},
    response::Response,
};
use crate::policy::{Destination, HostName, Reason};

/// A hello that is read names the one server that any server would find in it, however its bytes
/// arrive.
pub fn hello(bytes: &[u8]) {
    let whole = HelloReader::new().read(bytes);
    // Every octet by itself, where that does not take too long.
    let size = if bytes.len() <= 2048 { 1 } else { 61 };
    let mut reader = HelloReader::new();
    let ends = (0..bytes.len()).step_by(size).skip(1).chain([bytes.len()]);
    let pieces = ends.map(|end| reader.read(&bytes[..end])).find(|read| read != &Ok(None));
    assert_eq!(whole, pieces.unwrap_or(Ok(None)), "the pieces do not matter");
    if let Ok(Some(Hello { name, .. })) = whole {
        let handshake = handshake(bytes);
        let found = server_names(&handshake).unwrap_or_default();
        let [only] = found.as_slice() else { panic!("{name} was read, {found:?} stand there") };
        assert_eq!(HostName::from_ascii(only), Ok(name));
    }
}

/// A request that passes names one host to every reader, and goes upstream in a form that reads
/// the same again.
pub fn request(bytes: &[u8]) {
    let mut scan = HeadScan::default();
    let octets = (0..=bytes.len()).map(|end| scan.end(&bytes[..end]));
    let end = octets.take(MAX_STEPS).find(|end| end != &Ok(None)).unwrap_or(Ok(None));
    if bytes.len() < MAX_STEPS {
        assert_eq!(end, HeadScan::default().end(bytes), "the pieces do not matter");
    }
    let Ok(Some(end)) = HeadScan::default().end(bytes) else { return };
    match Request::parse(&bytes[..end]) {
        Ok(Request::Connect(authority)) => {
            assert!(authority.port.is_some());
            assert_eq!(Authority::parse(authority.to_string().as_bytes()), Ok(authority));
        }
        Ok(Request::Plain(head)) => {
            for host in fields(&bytes[..end], b"host") {
                let host = Authority::parse(host).expect("a host that another reader finds is one");
                assert!(host.agrees_with(&head.authority, 80), "{host} stands there, {head:?} was read");
            }
            goes_upstream(&head);
        }
        Err(_) => {}
    }
}

/// A body ends at the same octet however it arrives, and where a reader of its chunks says.
pub fn body(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let trailers = if first & 1 == 0 { Trailers::Refuse } else { Trailers::Pass };
    let mut whole = Body::new(Framing::Chunked, trailers);
    let all = whole.advance(bytes);
    let mut octets = Body::new(Framing::Chunked, trailers);
    let each: Result<Vec<usize>, _> = bytes.chunks(1).map(|octet| octets.advance(octet)).collect();
    assert_eq!(all, each.map(|each| each.iter().sum()), "the pieces do not matter");
    if let Ok(taken) = all {
        assert_eq!(whole.is_at_end(), octets.is_at_end());
        assert_eq!(whole.is_at_end().then_some(taken), end_of_chunks(bytes));
        assert!(whole.is_at_end() || taken == bytes.len(), "all of it is taken until its end");
    }
}

/// A response that is relayed and not the last of its connection ends where every reader says.
pub fn response(bytes: &[u8]) {
    let Ok(Some(end)) = HeadScan::default().end(bytes) else { return };
    let head = &bytes[..end];
    for method in ["GET", "HEAD", "POST"] {
        let Ok(response) = Response::parse(head, method) else { continue };
        let lengths = fields(head, b"content-length");
        let codings = fields(head, b"transfer-encoding");
        match response.framing {
            Framing::Length(length) => {
                let is_length =
                    |text: &&[u8]| std::str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(length));
                assert!(!lengths.is_empty() && lengths.iter().all(is_length), "{lengths:?}");
                assert!(codings.is_empty());
            }
            Framing::Chunked => {
                assert!(matches!(codings.as_slice(), [one] if one.eq_ignore_ascii_case(b"chunked")));
                assert!(lengths.is_empty() || !response.is_persistent);
            }
            Framing::Empty => {}
            Framing::UntilClose => assert!(!response.is_persistent),
        }
    }
}

/// The name in a ClientHello whose only server name is `name`.
pub fn name_in_hello(name: &[u8]) -> Option<HostName> {
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    let entry = [&[0][..], &length(name), name].concat();
    let list = [&length(&entry)[..], &entry].concat();
    let hello = HelloReader::new().read(&crafted_hello(&[(0, list)])).ok().flatten()?;
    Some(hello.name)
}

/// The server name that the proxy finds in a ClientHello, how many octets the hello has, and whether it has
/// Encrypted Client Hello. None as long as it is not whole.
///
/// # Errors
/// The reason of the denial.
pub fn server_name(bytes: &[u8]) -> Result<Option<(String, usize, bool)>, Reason> {
    server_name_in_pieces(&[bytes])
}

/// The same, where the flow had sent each of `taken` in turn: each starts with the one before it.
///
/// # Errors
/// As of [`server_name`].
pub fn server_name_in_pieces(taken: &[&[u8]]) -> Result<Option<(String, usize, bool)>, Reason> {
    let mut reader = HelloReader::new();
    let read = taken.iter().map(|taken| reader.read(taken)).find(|read| read != &Ok(None));
    let read = read.unwrap_or(Ok(None)).map_err(|misread| misread.reason)?;
    Ok(read.map(|hello| (hello.name.to_string(), hello.length, hello.has_ech)))
}

/// The server name that rustls finds in a ClientHello, if there is one. None as long as it is not whole.
///
/// # Errors
/// Why it refuses the hello.
pub fn server_name_by_rustls(mut bytes: &[u8]) -> Result<Option<Option<String>>, rustls::Error> {
    let mut acceptor = rustls::server::Acceptor::default();
    while !bytes.is_empty() {
        if acceptor.read_tls(&mut bytes).unwrap_or(0) == 0 {
            // What its buffer cannot hold, it does not take.
            return Err(rustls::InvalidMessage::MessageTooLarge.into());
        }
        match acceptor.accept() {
            Ok(Some(hello)) => return Ok(Some(hello.client_hello().server_name().map(str::to_owned))),
            Ok(None) => {}
            Err((error, _alert)) => return Err(error),
        }
    }
    Ok(None)
}

/// The name in a Host field.
pub fn name_in_request(name: &[u8]) -> Option<HostName> {
    let head = [b"GET / HTTP/1.1\r\nHost: ", name, b"\r\n\r\n"].concat();
    match Request::parse(&head) {
        Ok(Request::Plain(head)) => name_of(head.destination()),
        Ok(Request::Connect(_)) | Err(_) => None,
    }
}

/// The name in the target of a CONNECT.
pub fn name_in_connect(name: &[u8]) -> Option<HostName> {
    let head = [b"CONNECT ", name, b":443 HTTP/1.1\r\n\r\n"].concat();
    match Request::parse(&head) {
        Ok(Request::Connect(authority)) => name_of(&authority.destination),
        Ok(Request::Plain(_)) | Err(_) => None,
    }
}

/// A head of so many octets is looked at octet by octet; a longer one would take too long.
const MAX_STEPS: usize = 4096;

fn name_of(destination: &Destination) -> Option<HostName> {
    match destination {
        Destination::Name(name) => Some(name.clone()),
        Destination::Address(_) => None,
    }
}

fn goes_upstream(head: &Head) {
    let sent = head.to_bytes(80);
    let text = String::from_utf8_lossy(&sent);
    let Ok(Request::Plain(again)) = Request::parse(&sent) else { panic!("{text:?} became unreadable") };
    assert_eq!(head.destination(), again.destination(), "{text:?}");
    assert_eq!((&head.target, head.framing), (&again.target, again.framing), "{text:?}");
    assert_eq!(sent, again.to_bytes(80), "{text:?}");
    let host = Authority { destination: head.destination().clone(), port: None }.to_string();
    assert_eq!(fields(&sent, b"host"), [host.as_bytes()], "{text:?}");
    let framings = fields(&sent, b"content-length").len() + fields(&sent, b"transfer-encoding").len();
    let framed = usize::from(head.framing != Framing::Empty);
    assert_eq!(framings, framed, "{text:?}");
    assert!(fields(&sent, b"upgrade").is_empty(), "{text:?}");
    let lines: Vec<&[u8]> = sent.split(|octet| *octet == b'\n').collect();
    let are_whole = lines[..lines.len() - 1].iter().all(|line| line.ends_with(b"\r"));
    assert!(are_whole && !sent.contains(&0), "{text:?}");
    assert_eq!(lines[0].split(|octet| *octet == b' ').count(), 3, "{text:?}");
    assert_eq!(sent.windows(4).filter(|window| window == b"\r\n\r\n").count(), 1, "{text:?}");
}

/// The values of the fields that a careless reader takes for `name`: lines end with any line end,
/// and white space counts nowhere.
fn fields<'a>(head: &'a [u8], name: &[u8]) -> Vec<&'a [u8]> {
    let lines = head.split(|octet| matches!(octet, b'\r' | b'\n')).skip(1);
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|octet| *octet == b':')?;
        let is_named = line[..colon].trim_ascii().eq_ignore_ascii_case(name);
        is_named.then(|| line[colon + 1..].trim_ascii())
    });
    fields.collect()
}

/// Where a chunked body ends (RFC 9112, section 7.1), if it does.
fn end_of_chunks(bytes: &[u8]) -> Option<usize> {
    let line = |at: usize| bytes.get(at..)?.windows(2).position(|two| two == b"\r\n");
    let mut at = 0;
    loop {
        let length = line(at)?;
        let size = bytes[at..at + length].split(|octet| *octet == b';').next()?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        at += length + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
    }
    loop {
        let length = line(at)?;
        at += length + 2;
        if length == 0 {
            return Some(at);
        }
    }
}

/// The first handshake message, out of its records.
fn handshake(mut bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [0x16, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        message.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    message
}

/// Every host name of every server name extension (RFC 8446, section 4.1.2; RFC 6066, section 3).
pub(super) fn server_names(handshake: &[u8]) -> Option<Vec<&[u8]>> {
    let ([1, _, _, _], body) = handshake.split_first_chunk::<4>()? else { return None };
    let (_version_and_random, body) = body.split_at_checked(34)?;
    let (_session, body) = vector(body, 1)?;
    let (_ciphers, body) = vector(body, 2)?;
    let (_compressions, body) = vector(body, 1)?;
    let (mut extensions, _) = vector(body, 2)?;
    let mut names = Vec::new();
    while let Some((kind, rest)) = extensions.split_first_chunk::<2>() {
        let (data, rest) = vector(rest, 2)?;
        extensions = rest;
        if kind != &[0, 0] {
            continue;
        }
        let (mut list, _) = vector(data, 2)?;
        while let Some((kind, rest)) = list.split_first() {
            let (name, rest) = vector(rest, 2)?;
            list = rest;
            if *kind == 0 {
                names.push(name);
            }
        }
    }
    Some(names)
}

/// What stands behind a length of `octets` octets, and the rest.
fn vector(bytes: &[u8], octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(octets)?;
    let length = length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    rest.split_at_checked(length)
}
