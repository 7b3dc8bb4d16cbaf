//! What somebody asks a policy about.

use super::{
    decide::Policy,
    flow::{Destination, Flow},
    host::{HostName, HostNameError},
    inspect::{Inspection, RequestDenial},
    request::{RequestPath, RequestPattern},
    rule::Protocol,
};
use std::{fmt, net::IpAddr};

/// A destination, as somebody writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub destination: Destination,
    /// None: 443.
    pub port: Option<u16>,
    /// None: what rules open to that name at that port, else what is usual there.
    pub protocol: Option<Protocol>,
    /// What a URL asks for beyond its host; None where it says nothing of it.
    pub request: Option<AskedRequest>,
}

/// A request that gets what a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedRequest {
    /// `/path`, or `/path?query`.
    pub target: String,
    /// Whether the connection is to become a WebSocket (RFC 6455, section 4.1).
    pub upgrades: bool,
}

impl AskedRequest {
    /// What `inspection` says of it.
    ///
    /// # Errors
    /// No pattern allows it, it has no one meaning, or what follows it could not be judged.
    pub fn judge(&self, inspection: &Inspection) -> Result<(), RequestDenial> {
        match self.upgrades {
            true => Err(RequestDenial::Upgrade),
            false => inspection.judge(Self::METHOD, &self.target).map(|_| ()),
        }
    }

    /// The pattern of a rule that lets it pass, and nothing else but other queries; None where none can.
    #[must_use]
    pub fn pattern(&self) -> Option<RequestPattern> {
        let path = self.target.split('?').next().filter(|_| !self.upgrades)?;
        let path = RequestPath::parse(path).ok()?;
        RequestPattern::parse(&format!("{} {path}", Self::METHOD)).ok()
    }

    /// What programs get a URL by.
    pub const METHOD: &str = "GET";
}

impl fmt::Display for AskedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Self::METHOD, self.target)
    }
}

impl Asked {
    /// Reads `HOST`, `HOST:PORT`, an address, `[ADDRESS]:PORT`, each with `/PROTOCOL` or without, or a URL of
    /// `http` or `https`.
    ///
    /// # Errors
    /// Says which part cannot be read.
    pub fn parse(text: &str) -> Result<Self, AskedError> {
        let (text, named) = split_protocol(text);
        let Parts { authority, scheme, request } = Parts::of(text)?;
        let (host, port) = split_port(authority)?;
        let destination = match host.parse::<IpAddr>() {
            Ok(address) => Destination::Address(address.to_canonical()),
            Err(_) => Destination::Name(HostName::parse(host)?),
        };
        let (usual_port, protocol) = scheme.unzip();
        Ok(Self { destination, port: port.or(usual_port), protocol: named.or(protocol), request })
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

/// What a URL is made of; of anything else, the authority is all of it.
struct Parts<'a> {
    authority: &'a str,
    scheme: Option<Scheme>,
    request: Option<AskedRequest>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, AskedError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { authority: text, scheme: None, request: None });
        };
        let (known, upgrades) = match scheme.to_ascii_lowercase().as_str() {
            "https" => ((443, Protocol::Tls), false),
            "http" => ((80, Protocol::Http), false),
            "wss" => ((443, Protocol::Tls), true),
            "ws" => ((80, Protocol::Http), true),
            _ => return Err(AskedError::Scheme(scheme.to_owned())),
        };
        // No fragment is ever sent (RFC 9110, section 7.1).
        let sent = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = sent.split_at(sent.find(['/', '?']).unwrap_or(sent.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let is_said = upgrades || authority.len() < sent.len();
        let request = is_said.then_some(AskedRequest { target, upgrades });
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        Ok(Self { authority, scheme: Some(known), request })
    }
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

    #[test]
    fn what_a_url_asks_for_beyond_its_host_is_read() {
        for (text, target, upgrades) in [
            ("https://ok.test/a/b?c=/d#/e", "/a/b?c=/d", false),
            ("https://u@ok.test:8443/", "/", false),
            ("https://ok.test?x", "/?x", false),
            ("http://ok.test/x@y", "/x@y", false),
            ("wss://ok.test", "/", true),
        ] {
            let request = AskedRequest { target: target.to_owned(), upgrades };
            assert_eq!(Asked::parse(text).unwrap().request, Some(request), "{text}");
        }
        for text in ["https://ok.test", "https://ok.test#x", "ok.test", "ok.test/tcp"] {
            assert_eq!(Asked::parse(text).unwrap().request, None, "{text}");
        }
    }
}
