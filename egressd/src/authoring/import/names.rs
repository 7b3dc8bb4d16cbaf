//! Names, wildcards and ports as other tools write them.

use crate::policy::{Pattern, Protocol};
use ipnet::IpNet;
use std::{collections::HashMap, net::IpAddr};

/// How many names a spelling means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The name.
    Only,
    /// The names one label below it.
    OneLabel,
    /// All names below it.
    Below,
    /// The name and all names below it.
    AndBelow,
}

impl Reach {
    fn of(self, name: &str) -> Option<Vec<Pattern>> {
        let texts = match self {
            Self::Only => vec![name.to_owned()],
            Self::OneLabel => vec![format!("*.{name}")],
            Self::Below => vec![format!("**.{name}")],
            Self::AndBelow => vec![name.to_owned(), format!("**.{name}")],
        };
        texts.iter().map(|text| Pattern::parse(text).ok()).collect()
    }
}

/// What numbers in place of a name mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Networks, and addresses.
    Networks,
    /// Addresses. A network is read as a name, which no host has.
    Addresses,
    /// Nothing that a flow has.
    Nothing,
}

/// What the spellings of one tool mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    /// `example.com`.
    pub(super) plain: Reach,
    /// `*.example.com`.
    pub(super) star: Reach,
    /// `**.example.com`, where the tool knows it.
    pub(super) two_stars: Option<Reach>,
    /// The widest that a `*` inside a name stands for: [`Reach::OneLabel`] or [`Reach::Below`].
    pub(super) inner: Reach,
    pub(super) numbers: Numbers,
}

/// What a text means in our terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reading {
    Names(Vec<Pattern>),
    Network(IpNet),
    /// Numbers that fit no flow, as the tool reads them.
    NoHost(IpNet),
    Everything,
    /// Only something wider can be written.
    Wider(Vec<Pattern>),
    /// Why it means nothing.
    Unreadable(String),
}

/// Reads a host as `dialect` means it. The port is no part of it, see [`split_port`].
pub(super) fn read(host: &str, dialect: Dialect) -> Reading {
    let host = host.trim().to_ascii_lowercase();
    if matches!(host.as_str(), "*" | "**" | "*.*" | "**.*") {
        return Reading::Everything;
    }
    if let Some(network) = network(&host) {
        return match (dialect.numbers, host.contains('/')) {
            (Numbers::Networks, _) | (Numbers::Addresses, false) => Reading::Network(network),
            (Numbers::Addresses, true) | (Numbers::Nothing, _) => Reading::NoHost(network),
        };
    }
    let (name, reach) = match (host.strip_prefix("**."), host.strip_prefix("*."), dialect.two_stars) {
        (Some(name), _, Some(reach)) => (name, reach),
        (None, Some(name), _) => (name, dialect.star),
        (Some(_), _, None) | (None, None, _) => (host.as_str(), dialect.plain),
    };
    if let Some(patterns) = reach.of(name) {
        return Reading::Names(patterns);
    }
    match wider(&host, dialect.inner) {
        Some(patterns) => Reading::Wider(patterns),
        None => Reading::Unreadable(match Pattern::parse(name) {
            Ok(_) => "not a host".to_owned(),
            Err(error) => error.to_string(),
        }),
    }
}

/// The wildcard that covers a name with `*` inside: what stands behind the label of its last one.
fn wider(host: &str, inner: Reach) -> Option<Vec<Pattern>> {
    let star = host.rfind('*')?;
    let (_, suffix) = host.get(star..)?.split_once('.')?;
    let is_first_label = !host.get(..star)?.contains('.');
    let reach = if is_first_label { inner } else { Reach::Below };
    // What stands around the stars has to be a name, lest nonsense becomes a wildcard.
    Pattern::parse(&host.replace('*', "x")).ok()?;
    reach.of(suffix)
}

/// A network, or an address as the network that holds only it.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?.to_canonical()),
    };
    // The kernel judges mapped addresses as IPv4, and so does a rule.
    let is_mapped = matches!(network.network(), IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    (!is_mapped).then_some(network)
}

/// The host of `host:port`, and its port; the port is None where there is none, and an error where it
/// is not a number from 1 to 65535. IPv6 addresses have a port only behind brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<Result<u16, String>>) {
    let text = text.trim();
    let (host, port) = match (text.rfind(']'), text.rfind(':')) {
        (Some(bracket), _) => match text.get(bracket + 1..) {
            Some(rest) if rest.starts_with(':') => (&text[..=bracket], &rest[1..]),
            Some(_) | None => return (text, None),
        },
        (None, Some(colon)) if text.find(':') == Some(colon) => (&text[..colon], &text[colon + 1..]),
        (None, Some(_) | None) => return (text, None),
    };
    let number = port.parse::<u16>().ok().filter(|number| *number != 0);
    (host, Some(number.ok_or_else(|| format!("`{port}` is not a port"))))
}

/// `names` as `--only` tells them apart: those that are there several times get their number, `name:1`, `name:2`.
pub(super) fn distinct(names: &[String]) -> Vec<String> {
    let mut seen: HashMap<&String, usize> = HashMap::new();
    let mut counts: HashMap<&String, usize> = HashMap::new();
    names.iter().for_each(|name| *counts.entry(name).or_default() += 1);
    let label = |name| {
        let number = seen.entry(name).or_default();
        *number += 1;
        if counts.get(name) == Some(&1) { name.clone() } else { format!("{name}:{number}") }
    };
    names.iter().map(label).collect()
}

/// Ports that are opened for one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) protocol: Protocol,
    pub(super) ports: Vec<u16>,
}

/// What a proxy for the web lets through: TLS on 443 and HTTP on 80.
pub(super) fn web() -> Vec<Opening> {
    tcp(&[443, 80])
}

/// TCP on these ports, each with what is spoken there.
pub(super) fn tcp(ports: &[u16]) -> Vec<Opening> {
    by_protocol(ports, |port| match port {
        443 => Protocol::Tls,
        80 => Protocol::Http,
        _ => Protocol::Tcp,
    })
}

/// UDP on these ports, each with what is spoken there.
pub(super) fn udp(ports: &[u16]) -> Vec<Opening> {
    by_protocol(ports, |port| if port == 443 { Protocol::Quic } else { Protocol::Udp })
}

fn by_protocol(ports: &[u16], speaks: impl Fn(u16) -> Protocol) -> Vec<Opening> {
    let of = |protocol| {
        let ports: Vec<u16> = ports.iter().copied().filter(|port| speaks(*port) == protocol).collect();
        Opening { protocol, ports }
    };
    Protocol::ALL.into_iter().map(of).filter(|opening| !opening.ports.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECT: Dialect = Dialect {
        plain: Reach::Only,
        star: Reach::Below,
        two_stars: None,
        inner: Reach::Below,
        numbers: Numbers::Networks,
    };

    #[test]
    fn a_star_inside_a_name_is_only_covered_by_something_wider() {
        assert_eq!(read("api-*.example.com", DIALECT), wider_than("**.example.com"));
        let within = Dialect { inner: Reach::OneLabel, ..DIALECT };
        assert_eq!(read("api-*.example.com", within), wider_than("*.example.com"));
        assert_eq!(read("a.*.example.com", within), wider_than("**.example.com"));
        for nonsense in ["", "a b.*.example.com", "example.*", "https://example.com", "a..b", "*", "**."] {
            assert!(!matches!(read(nonsense, DIALECT), Reading::Names(_) | Reading::Wider(_)), "{nonsense}");
        }
    }

    #[test]
    fn addresses_are_networks_and_mapped_ones_are_ipv4() {
        for (text, network) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("[2001:db8::1]", "2001:db8::1/128"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
        ] {
            assert_eq!(read(text, DIALECT), Reading::Network(network.parse().unwrap()), "{text}");
        }
        assert!(matches!(read("::ffff:0:0/96", DIALECT), Reading::Unreadable(_)));
    }

    #[test]
    fn numbers_that_a_tool_does_not_know_are_no_network() {
        let reads = |text: &str, numbers| match read(text, Dialect { numbers, ..DIALECT }) {
            Reading::Network(_) => true,
            Reading::NoHost(_) => false,
            other
            @ (Reading::Names(_) | Reading::Everything | Reading::Wider(_) | Reading::Unreadable(_)) => {
                panic!("{text}: {other:?}")
            }
        };
        for (text, addresses) in
            [("192.0.2.7", true), ("[2001:db8::1]", true), ("10.0.0.0/8", false), ("192.0.2.7/32", false)]
        {
            assert!(reads(text, Numbers::Networks) && !reads(text, Numbers::Nothing), "{text}");
            assert_eq!(reads(text, Numbers::Addresses), addresses, "{text}");
        }
    }

    #[test]
    fn only_one_colon_or_brackets_tell_a_port() {
        assert_eq!(split_port("a.example:8443"), ("a.example", Some(Ok(8443))));
        assert_eq!(split_port("[::1]:443"), ("[::1]", Some(Ok(443))));
        assert_eq!(split_port("::1"), ("::1", None));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert!(matches!(split_port("a:0"), ("a", Some(Err(_)))));
        assert!(matches!(split_port("a:x"), ("a", Some(Err(_)))));
    }

    fn wider_than(pattern: &str) -> Reading {
        Reading::Wider(vec![Pattern::parse(pattern).unwrap()])
    }
}
