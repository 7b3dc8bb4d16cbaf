//! SOCKS5 on the listener for explicit proxies: RFC 1928, CONNECT only, without authentication.
//!
//! What comes behind the request is judged as behind CONNECT of HTTP.

use super::{
    authority::Authority,
    dial::DialError,
    explicit::{Manner, tunnel},
    origin::{Caller, Sought},
    peek::{self, Unread},
    refuse::{Refusal, refuse},
    wire::AgentStream,
};
use crate::policy::{Destination, Protocol, Reason};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};
use tokio::time::Instant;

/// First octet of all that a SOCKS5 agent sends.
pub const VERSION: u8 = 5;

/// First octet of SOCKS4, which has no names, and of SOCKS4a, whose names end where a zero is.
pub const OLD_VERSION: u8 = 4;

/// The answer to a tunnel that stands. The address that it comes from is nobody's business.
pub const SUCCEEDED: Reply = reply(0);

/// An answer: version, code, reserved, and an IPv4 address and port of zeros (RFC 1928, section 6).
pub type Reply = [u8; 10];

/// Serves a connection whose first octet is [`VERSION`] or [`OLD_VERSION`]. The whole request must be there by `end`.
pub async fn serve(caller: Caller, mut agent: AgentStream, end: Instant) {
    let refused = match negotiate(&mut agent, end).await {
        Ok(authority) => return tunnel(caller, agent, authority, Manner::Socks).await,
        Err(refused) => refused,
    };
    if let Refused::Denied(refusal, last) = refused {
        refuse(&caller, agent, &Sought::default(), Protocol::Tcp, refusal, last.as_deref()).await;
    }
}

/// The answer to a denied tunnel.
#[must_use]
pub fn denied(reason: Reason) -> Reply {
    // What the policy allows and an upstream fails is no matter of leave.
    let is_failure = reason == Reason::UpstreamFailed;
    reply(if is_failure { HOST_UNREACHABLE } else { NOT_ALLOWED })
}

/// The answer where a flow is allowed but its upstream cannot be reached.
#[must_use]
pub fn unreachable(error: &DialError) -> Reply {
    match error {
        DialError::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
            reply(REFUSED)
        }
        DialError::Connect { error, .. } if error.kind() == io::ErrorKind::NetworkUnreachable => {
            reply(NETWORK_UNREACHABLE)
        }
        DialError::NoAddress | DialError::Timeout(_) | DialError::Connect { .. } => reply(HOST_UNREACHABLE),
    }
}

enum Refused {
    /// The agent left before it said what it wants.
    Gone,
    Denied(Refusal, Option<Vec<u8>>),
}

/// Agrees that there is no authentication, and reads what the agent wants.
async fn negotiate(agent: &mut AgentStream, end: Instant) -> Result<Authority, Refused> {
    let methods = take(agent, end, parse_methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        let why = "SOCKS5 agent insists on authentication, of which there is none";
        return Err(malformed(why, Some(vec![VERSION, NO_METHOD])));
    }
    if agent.0.send(&[VERSION, NO_AUTHENTICATION]).await.is_err() {
        return Err(Refused::Gone);
    }
    take(agent, end, parse_request).await
}

/// Reads until `parse` has all that it needs, and takes that out of the buffer.
async fn take<T>(
    agent: &mut AgentStream,
    end: Instant,
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Wrong>,
) -> Result<T, Refused> {
    loop {
        match parse(agent.0.buffer()) {
            Ok(Some((value, length))) => {
                agent.0.consume(length);
                return Ok(value);
            }
            Ok(None) => {}
            Err(Wrong { code, why }) => return Err(malformed(&why, code.map(|code| reply(code).to_vec()))),
        }
        peek::more(agent, end, Reason::RequestMalformed).await.map_err(|unread| match unread {
            Unread::Gone => Refused::Gone,
            Unread::Misread(misread) => Refused::Denied(misread.into(), None),
        })?;
    }
}

/// The methods of authentication that an agent offers (RFC 1928, section 3).
pub fn parse_methods(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Wrong> {
    let Some((version, rest)) = bytes.split_first() else { return Ok(None) };
    check_version(*version)?;
    let Some((count, rest)) = rest.split_first() else { return Ok(None) };
    let methods = rest.get(..usize::from(*count));
    Ok(methods.map(|methods| (methods.to_vec(), 2 + methods.len())))
}

/// Where an agent wants to go (RFC 1928, section 4).
pub fn parse_request(bytes: &[u8]) -> Result<Option<(Authority, usize)>, Wrong> {
    let [version, command, reserved, kind, rest @ ..] = bytes else { return Ok(None) };
    check_version(*version)?;
    if *command != CONNECT {
        return Err(Wrong::answered(COMMAND_NOT_SUPPORTED, "SOCKS5 command is not CONNECT"));
    }
    if *reserved != 0 {
        return Err(Wrong::answered(FAILURE, "SOCKS5 request has a reserved octet that is not 0"));
    }
    let Some((destination, length)) = parse_destination(*kind, rest)? else { return Ok(None) };
    let Some(port) = rest[length..].first_chunk() else { return Ok(None) };
    match u16::from_be_bytes(*port) {
        0 => Err(Wrong::answered(FAILURE, "SOCKS5 request names port 0")),
        port => Ok(Some((Authority { destination, port: Some(port) }, 4 + length + 2))),
    }
}

fn parse_destination(kind: u8, rest: &[u8]) -> Result<Option<(Destination, usize)>, Wrong> {
    let address = |ip: IpAddr| Destination::Address(ip.to_canonical());
    match kind {
        IPV4 => Ok(rest.first_chunk().map(|octets| (address(Ipv4Addr::from_octets(*octets).into()), 4))),
        IPV6 => Ok(rest.first_chunk().map(|octets| (address(Ipv6Addr::from_octets(*octets).into()), 16))),
        NAME => {
            let Some((length, rest)) = rest.split_first() else { return Ok(None) };
            let Some(name) = rest.get(..usize::from(*length)) else { return Ok(None) };
            Ok(Some((parse_name(name)?, 1 + name.len())))
        }
        _ => Err(Wrong::answered(KIND_NOT_SUPPORTED, "SOCKS5 address is of no kind that there is")),
    }
}

/// A host name, or an address that was written as one.
fn parse_name(name: &[u8]) -> Result<Destination, Wrong> {
    let wrong = |why: &dyn std::fmt::Display| {
        Wrong::answered(FAILURE, format!("failed to read the host of a SOCKS5 request: {why}"))
    };
    match Authority::parse(name).map_err(|error| wrong(&error))? {
        Authority { destination, port: None } => Ok(destination),
        Authority { port: Some(_), .. } => Err(wrong(&"it has a port")),
    }
}

fn check_version(version: u8) -> Result<(), Wrong> {
    if version == VERSION {
        return Ok(());
    }
    Err(Wrong { code: None, why: format!("SOCKS message has version {version}, expected {VERSION}") })
}

/// Why a message is refused, and with what code if the agent would understand one.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    code: Option<u8>,
    why: String,
}

impl Wrong {
    fn answered(code: u8, why: impl Into<String>) -> Self {
        Self { code: Some(code), why: why.into() }
    }
}

fn malformed(why: &str, last: Option<Vec<u8>>) -> Refused {
    Refused::Denied(Refusal::explained(Reason::RequestMalformed, why), last)
}

const fn reply(code: u8) -> Reply {
    [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const KIND_NOT_SUPPORTED: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_host_or_an_address_at_every_split() {
        reads(b"\x05\x01\x00\x03\x07OK.test\x01\xbb", "ok.test:443");
        reads(b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1:80");
        reads(b"\x05\x01\x00\x03\x09192.0.2.1\x00\x50", "192.0.2.1:80");
        let mapped = b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01\x00\x50";
        reads(mapped, "192.0.2.1:80");
    }

    #[test]
    fn a_request_that_is_no_plain_connect_is_refused_with_its_code() {
        refuses(b"\x05\x02\x00\x03\x07ok.test\x01\xbb", Some(COMMAND_NOT_SUPPORTED));
        refuses(b"\x05\x03\x00\x01\0\0\0\0\0\0", Some(COMMAND_NOT_SUPPORTED));
        refuses(b"\x05\x01\x01\x03\x07ok.test\x01\xbb", Some(FAILURE));
        refuses(b"\x05\x01\x00\x02\x07ok.test\x01\xbb", Some(KIND_NOT_SUPPORTED));
        refuses(b"\x05\x01\x00\x03\x07ok.test\x00\x00", Some(FAILURE));
        refuses(b"\x05\x01\x00\x03\x00\x01\xbb", Some(FAILURE));
        refuses(b"\x05\x01\x00\x03\x0aok.test:80\x01\xbb", Some(FAILURE));
        refuses(b"\x05\x01\x00\x03\x07ok\0test\x01\xbb", Some(FAILURE));
        refuses(b"\x04\x01\x00\x50", None);
    }

    #[test]
    fn the_methods_are_counted_and_not_guessed() {
        assert_eq!(parse_methods(b"\x05\x02\x00\x02rest"), Ok(Some((vec![0, 2], 4))));
        assert_eq!(parse_methods(b"\x05\x02\x00"), Ok(None));
        assert_eq!(parse_methods(b"\x05\x00"), Ok(Some((vec![], 2))));
    }

    fn reads(bytes: &[u8], expected: &str) {
        for cut in 0..bytes.len() {
            assert_eq!(parse_request(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let (authority, length) = parse_request(&[bytes, b"more"].concat()).unwrap().unwrap();
        assert_eq!((authority.to_string().as_str(), length), (expected, bytes.len()));
    }

    fn refuses(bytes: &[u8], code: Option<u8>) {
        assert_eq!(parse_request(bytes).unwrap_err().code, code, "{bytes:?}");
    }
}
