//! `host:port`, as CONNECT, absolute URIs and the Host field spell it.

use crate::policy::{Destination, HostName, HostNameError};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A destination and, where it is written, its port. User information is not part of it and is
/// refused (RFC 9110, section 4.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub destination: Destination,
    pub port: Option<u16>,
}

impl Authority {
    /// Parses `name`, `192.0.2.1` or `[2001:db8::1]`, each with or without `:port`.
    ///
    /// # Errors
    /// Says what is neither a host name nor an address, or that the port is not 1 to 65535.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        if let Some(rest) = bytes.strip_prefix(b"[") {
            let end = rest.iter().position(|octet| *octet == b']').ok_or(AuthorityError::Bracket)?;
            let (host, tail) = (&rest[..end], &rest[end + 1..]);
            let address: Ipv6Addr = parse_text(host).ok_or(AuthorityError::Bracket)?;
            let destination = Destination::Address(IpAddr::V6(address).to_canonical());
            return Ok(Self { destination, port: parse_port(tail)? });
        }
        let colon = bytes.iter().position(|octet| *octet == b':').unwrap_or(bytes.len());
        let (host, tail) = bytes.split_at(colon);
        let destination = match parse_text::<Ipv4Addr>(host) {
            Some(address) => Destination::Address(IpAddr::V4(address)),
            None => Destination::Name(HostName::from_ascii(host)?),
        };
        Ok(Self { destination, port: parse_port(tail)? })
    }

    /// Whether `other` means the same, given the port that both leave out.
    #[must_use]
    pub fn agrees_with(&self, other: &Self, default: u16) -> bool {
        self.destination == other.destination && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Destination::Address(IpAddr::V4(address)) => address.fmt(f)?,
            Destination::Name(name) => name.fmt(f)?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Why a text is not an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    #[error("brackets hold no IPv6 address")]
    Bracket,
    #[error("port is not a number from 1 to 65535")]
    Port,
    #[error(transparent)]
    Name(#[from] HostNameError),
}

fn parse_text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn parse_port(tail: &[u8]) -> Result<Option<u16>, AuthorityError> {
    let Some(digits) = tail.strip_prefix(b":") else {
        return if tail.is_empty() { Ok(None) } else { Err(AuthorityError::Port) };
    };
    // `u16::from_str` would take `+443`.
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(AuthorityError::Port);
    }
    match parse_text(digits) {
        Some(0) | None => Err(AuthorityError::Port),
        Some(port) => Ok(Some(port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_name_or_an_address_with_or_without_a_port() {
        reads("OK.test.:443", "ok.test:443");
        reads("ok.test", "ok.test");
        reads("192.0.2.1:80", "192.0.2.1:80");
        reads("[2001:DB8::1]:80", "[2001:db8::1]:80");
        reads("[::ffff:192.0.2.1]", "192.0.2.1");
    }

    #[test]
    fn an_authority_that_two_parsers_could_read_differently_is_refused() {
        for text in [
            "",
            ":443",
            "ok.test:",
            "ok.test:0",
            "ok.test:+443",
            "ok.test:65536",
            "ok.test:443:443",
            "user@ok.test:443",
            "ok.test:443@evil.test",
            "[ok.test]:443",
            "[::1",
            "[::1]443",
            "::1",
            "[fe80::1%eth0]:443",
            "127.1:80",
            "0x7f.1",
            "2130706433:80",
            "0177.0.0.1",
            "ok.test#",
            "ok.test/",
            "ok.test\\evil.test",
            "ok.test ",
            " ok.test",
            "ok.test,evil.test",
        ] {
            assert!(Authority::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    fn reads(text: &str, same_as: &str) {
        assert_eq!(Authority::parse(text.as_bytes()).unwrap().to_string(), same_as);
    }
}
