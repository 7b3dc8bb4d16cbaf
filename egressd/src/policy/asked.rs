//! What somebody asks a policy about.

use super::{
    decide::Policy,
    flow::{Destination, Flow},
    host::{HostName, HostNameError},
    rule::Protocol,
};
use std::net::IpAddr;

/// A destination, as somebody writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub destination: Destination,
    /// None: 443.
    pub port: Option<u16>,
    /// None: what rules open to that name at that port, else what is usual there.
    pub protocol: Option<Protocol>,
}

impl Asked {
    /// Reads `HOST`, `HOST:PORT`, an address, `[ADDRESS]:PORT`, each with `/PROTOCOL` or without, or a URL of
    /// `http` or `https`.
    ///
    /// # Errors
    /// Says which part cannot be read.
    pub fn parse(text: &str) -> Result<Self, AskedError> {
        let (text, named) = split_protocol(text);
        let (rest, scheme) = split_scheme(text)?;
        let (host, port) = split_port(rest)?;
        let destination = match host.parse::<IpAddr>() {
            Ok(address) => Destination::Address(address.to_canonical()),
            Err(_) => Destination::Name(HostName::parse(host)?),
        };
        let (usual_port, protocol) = scheme.unzip();
        Ok(Self { destination, port: port.or(usual_port), protocol: named.or(protocol) })
    }

    /// The protocol of this word.
    ///
    /// # Errors
    /// There is none.
    pub fn parse_protocol(word: &str) -> Result<Protocol, AskedError> {
        Protocol::parse(word).ok_or_else(|| AskedError::Protocol(word.to_owned()))
    }

    /// The flow that is meant: at 443 where no port is said, and with the protocol that `policy` opens at that
    /// port, else the usual one, where none is said.
    #[must_use]
    pub fn flow(&self, policy: &Policy) -> Flow {
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let protocol = self.protocol.unwrap_or_else(|| self.usual_protocol(policy, port));
        Flow { destination: self.destination.clone(), port, protocol, address: None }
    }

    fn usual_protocol(&self, policy: &Policy, port: u16) -> Protocol {
        let leave = match &self.destination {
            Destination::Name(name) => policy.lookup(name).ok(),
            Destination::Address(_) => None,
        };
        let openings = leave.iter().flat_map(|leave| leave.openings());
        if let Some(opening) = openings.into_iter().find(|opening| opening.port == port) {
            return opening.protocol;
        }
        match (&self.destination, port) {
            // A rule with a network can't ask for a server name, so that TLS to an address is TCP.
            (Destination::Address(_), 53 | 123) => Protocol::Udp,
            (Destination::Address(_), _) => Protocol::Tcp,
            (Destination::Name(_), 443) => Protocol::Tls,
            (Destination::Name(_), 80) => Protocol::Http,
            (Destination::Name(_), _) => Protocol::Tcp,
        }
    }
}

/// Why a question cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskedError {
    #[error("host is not valid: {0}")]
    Host(#[from] HostNameError),
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    #[error("`{0}` is not a protocol (`tls`, `http`, `tcp`, `udp` or `quic`)")]
    Protocol(String),
    #[error("`{0}` is not a scheme that rules know (`https` or `http`): give HOST:PORT and --protocol")]
    Scheme(String),
}

const DEFAULT_PORT: u16 = 443;

type Scheme = (u16, Protocol);

/// What stands before a protocol at the end; the path of a URL is none.
fn split_protocol(text: &str) -> (&str, Option<Protocol>) {
    let named = text.rsplit_once('/').filter(|_| !text.contains("://"));
    match named.and_then(|(rest, word)| Some((rest, Protocol::parse(word)?))) {
        Some((rest, protocol)) => (rest, Some(protocol)),
        None => (text, None),
    }
}

/// What follows the scheme up to the path, and what the scheme stands for.
fn split_scheme(text: &str) -> Result<(&str, Option<Scheme>), AskedError> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok((text, None)) };
    let known = match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => (443, Protocol::Tls),
        "http" | "ws" => (80, Protocol::Http),
        _ => return Err(AskedError::Scheme(scheme.to_owned())),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    Ok((host, Some(known)))
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), AskedError> {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(parse_port(port)?))),
            None => Ok((address, None)),
        };
    }
    match text.split_once(':') {
        // More than one colon: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, AskedError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(AskedError::Port(text.to_owned())),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_addresses_and_urls_are_read() {
        for (text, destination, port) in [
            ("ok.test", "ok.test", None),
            ("ok.test:8443", "ok.test", Some(8443)),
            ("192.0.2.1:53", "192.0.2.1", Some(53)),
            ("::1", "::1", None),
            ("::ffff:192.0.2.1", "192.0.2.1", None),
            ("[2001:db8::1]:53", "2001:db8::1", Some(53)),
            ("http://u:p@ok.test/x?y", "ok.test", Some(80)),
            ("https://ok.test:8443", "ok.test", Some(8443)),
            ("https://ok.test/tcp", "ok.test", Some(443)),
            ("[2001:db8::1]:53/udp", "2001:db8::1", Some(53)),
            ("ok.test/tcp", "ok.test", None),
        ] {
            let asked = Asked::parse(text).unwrap();
            assert_eq!((asked.destination.to_string().as_str(), asked.port), (destination, port), "{text}");
        }
        for text in [
            "",
            "a b",
            "ok.test:",
            "ok.test:0",
            "ok.test:65536",
            "ftp://ok.test",
            "*.ok.test",
            "ok.test/",
            "ok.test/x",
        ] {
            assert!(Asked::parse(text).is_err(), "{text:?}");
        }
    }
}
