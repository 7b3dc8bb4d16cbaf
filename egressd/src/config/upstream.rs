//! How a resolver to ask is written.

use crate::policy::HostName;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A resolver to ask: where it is, and how it is spoken to. Its address is always given: to resolve
/// a resolver's name would take a resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub address: SocketAddr,
    pub carriage: Carriage,
}

/// How a resolver is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carriage {
    /// UDP, and TCP where an answer does not fit.
    Udp,
    Tcp,
    /// DNS over TLS. The certificate has to hold `name`, or the address where there is none.
    Tls {
        name: Option<HostName>,
    },
    /// DNS over HTTPS, at `path`, which begins with a slash.
    Https {
        name: Option<HostName>,
        path: Arc<str>,
    },
}

impl Upstream {
    /// Parses `ADDRESS`, `tcp://ADDRESS`, `tls://ADDRESS#NAME` or `https://ADDRESS/PATH#NAME`, each
    /// address with or without a port, each name left out where the certificate holds the address.
    ///
    /// # Errors
    /// Says what is expected where.
    pub fn parse(text: &str) -> Result<Self, UpstreamError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self { address: parse_address(text, DNS_PORT)?, carriage: Carriage::Udp });
        };
        let (place, name) = rest.split_once('#').map_or((rest, None), |(place, name)| (place, Some(name)));
        let name = name.map(HostName::parse).transpose().map_err(|_| UpstreamError::Name)?;
        match (scheme, name) {
            ("udp" | "tcp", Some(_)) => Err(UpstreamError::NameUnused),
            ("udp", None) => Ok(Self { address: parse_address(place, DNS_PORT)?, carriage: Carriage::Udp }),
            ("tcp", None) => Ok(Self { address: parse_address(place, DNS_PORT)?, carriage: Carriage::Tcp }),
            ("tls", name) => {
                Ok(Self { address: parse_address(place, TLS_PORT)?, carriage: Carriage::Tls { name } })
            }
            ("https", name) => parse_https(place, name),
            _ => Err(UpstreamError::Scheme),
        }
    }
}

fn parse_https(place: &str, name: Option<HostName>) -> Result<Upstream, UpstreamError> {
    let (address, path) = place.split_at(place.find('/').ok_or(UpstreamError::Path)?);
    let address = parse_address(address, HTTPS_PORT)?;
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"/-._~".contains(&octet);
    if path.len() > MAX_PATH || !path.bytes().all(is_plain) {
        return Err(UpstreamError::Path);
    }
    // The request has to name whom it is for, and an IPv6 address does not read alike in a request
    // and in a certificate.
    if name.is_none() && address.is_ipv6() {
        return Err(UpstreamError::Name);
    }
    Ok(Upstream { address, carriage: Carriage::Https { name, path: path.into() } })
}

fn parse_address(text: &str, port: u16) -> Result<SocketAddr, UpstreamError> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let bare = || inner.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
    let address = text.parse().ok().or_else(bare).ok_or(UpstreamError::Address)?;
    if address.port() == 0 { Err(UpstreamError::Address) } else { Ok(address) }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, carriage } = self;
        let named =
            |name: &Option<HostName>| name.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
        match carriage {
            Carriage::Udp => write!(f, "{address}"),
            Carriage::Tcp => write!(f, "tcp://{address}"),
            Carriage::Tls { name } => write!(f, "tls://{address}{}", named(name)),
            Carriage::Https { name, path } => write!(f, "https://{address}{path}{}", named(name)),
        }
    }
}

/// Why a resolver's line cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("expected an address, with or without a port")]
    Address,
    #[error("expected udp, tcp, tls or https before `://`")]
    Scheme,
    #[error("expected the host name of the certificate behind `#`")]
    Name,
    #[error("only tls and https have a certificate that a name could be held against")]
    NameUnused,
    #[error("expected a path such as /dns-query behind the address")]
    Path,
}

const DNS_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;

/// Octets of a path: more than any resolver has.
const MAX_PATH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_address_and_how_it_is_spoken_to() {
        for (text, meaning) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("udp://192.0.2.53", "192.0.2.53:53"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
            ("tcp://192.0.2.53", "tcp://192.0.2.53:53"),
            ("tls://192.0.2.53", "tls://192.0.2.53:853"),
            ("tls://[2001:db8::53]#dns.example", "tls://[2001:db8::53]:853#dns.example"),
            ("tls://192.0.2.53:8853#DNS.Example", "tls://192.0.2.53:8853#dns.example"),
            ("https://192.0.2.53/dns-query", "https://192.0.2.53:443/dns-query"),
            ("https://192.0.2.53:8443/q#dns.example", "https://192.0.2.53:8443/q#dns.example"),
        ] {
            let upstream = Upstream::parse(text).unwrap();
            assert_eq!(upstream.to_string(), meaning);
            assert_eq!(Upstream::parse(meaning), Ok(upstream), "{meaning} means the same");
        }
    }

    #[test]
    fn an_upstream_that_is_written_otherwise_is_refused() {
        for (text, error) in [
            ("", UpstreamError::Address),
            ("dns.example.com", UpstreamError::Address),
            ("192.0.2.53:0", UpstreamError::Address),
            ("tls://dns.example.com", UpstreamError::Address),
            ("192.0.2.53#dns.example", UpstreamError::Address),
            ("tcp://192.0.2.53#dns.example", UpstreamError::NameUnused),
            ("quic://192.0.2.53", UpstreamError::Scheme),
            ("TLS://192.0.2.53", UpstreamError::Scheme),
            ("tls://192.0.2.53#", UpstreamError::Name),
            ("tls://192.0.2.53#a b", UpstreamError::Name),
            ("https://[2001:db8::53]/dns-query", UpstreamError::Name),
            ("https://192.0.2.53", UpstreamError::Path),
            ("https://192.0.2.53/dns-query{?dns}", UpstreamError::Path),
            ("https://192.0.2.53/a\r\nb", UpstreamError::Path),
        ] {
            assert_eq!(Upstream::parse(text), Err(error), "{text}");
        }
    }
}
