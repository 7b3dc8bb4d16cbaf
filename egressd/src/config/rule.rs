//! From the keys of one rule to the rule.

use super::{
    credential::Credential,
    diagnostic::Diagnostic,
    document::Document,
    file::{AllowRule, DenyRule},
    identity::RuleIds,
    names,
    packages::{Scheme, Site},
    tls,
};
use crate::policy::{Destination, HostName, NameTerms, Pattern, Protocol, Rule, Source, Subject, TlsTerms};
use ipnet::{IpNet, Ipv4Net};
use serde_saphyr::{Location, Spanned};
use std::net::IpAddr;

/// The most ports that one rule may name: each costs a kernel entry for every address of the
/// name, and 64 of both still fit an agent's bound on grants.
const MAX_PORTS: usize = 64;

/// The DNS port, which the kernel hands to the agent's own resolver whatever server was asked.
const DNS_PORT: u16 = 53;

/// Compiles a rule that allows; `known` are the credentials that it may inject, where they are known.
pub(super) fn allow(
    document: &Document,
    rule: &Spanned<AllowRule>,
    known: Option<&[Credential]>,
    ids: &mut RuleIds,
) -> Result<Rule, Diagnostic> {
    let AllowRule { host, cidr, ports, protocol, reason, private, .. } = &rule.value;
    let AllowRule { danger_public_suffix, leak_budget, types, .. } = &rule.value;
    let subject = subject(document, rule.referenced, host.as_ref(), cidr.as_ref())?;
    let dangerous = danger_public_suffix.as_ref().is_some_and(|danger| danger.value);
    check_breadth(document, &subject, host.as_ref(), dangerous)?;
    let protocol = allowed_protocol(document, rule.referenced, &subject, protocol.as_ref())?;
    let ports = match ports {
        Some(ports) => allowed_ports(document, ports)?,
        None => default_ports(protocol).ok_or_else(|| {
            document
                .error(rule.referenced, format!("a rule with protocol `{protocol}` needs `ports`"))
                .help("for example: ports: [5432]")
        })?,
    };
    let private = allowed_private(document, &subject, private.as_ref())?;
    let names = names::terms(document, &subject, leak_budget.as_ref(), types.as_ref())?;
    let tls = tls::terms(document, &rule.value, &subject, protocol, known)?;
    Ok(Rule {
        id: ids.id("allow", &subject, &ports, Some(protocol), private, &tls),
        source: document.source(rule.referenced),
        subject,
        ports,
        protocol: Some(protocol),
        private,
        reason: reason.clone(),
        names,
        tls,
    })
}

/// Compiles a rule that denies.
pub(super) fn deny(
    document: &Document,
    rule: &Spanned<DenyRule>,
    ids: &mut RuleIds,
) -> Result<Rule, Diagnostic> {
    let DenyRule { host, cidr, ports, protocol, reason } = &rule.value;
    let subject = subject(document, rule.referenced, host.as_ref(), cidr.as_ref())?;
    let protocol = protocol.as_ref().map(|protocol| parse_protocol(document, protocol)).transpose()?;
    let ports = ports.as_ref().map(|ports| sorted_ports(document, ports)).transpose()?.unwrap_or_default();
    Ok(Rule {
        id: ids.id("deny", &subject, &ports, protocol, false, &TlsTerms::default()),
        source: document.source(rule.referenced),
        subject,
        ports,
        protocol,
        private: false,
        reason: reason.clone(),
        names: NameTerms::default(),
        tls: TlsTerms::default(),
    })
}

/// The rule that opens a registry; `word` and `source` are those of the `packages` line. None
/// where the site has no destination, which its parser forbids.
pub(super) fn registry(site: &Site, word: &str, source: &Source, ids: &mut RuleIds) -> Option<Rule> {
    let (subject, protocol) = match (site.destination()?, site.scheme) {
        (Destination::Name(name), Scheme::Https) => (Subject::Host(Pattern::Exact(name)), Protocol::Tls),
        (Destination::Name(name), Scheme::Http) => (Subject::Host(Pattern::Exact(name)), Protocol::Http),
        (Destination::Address(address), Scheme::Https | Scheme::Http) => {
            (Subject::Network(IpNet::from(address)), Protocol::Tcp)
        }
    };
    let ports = vec![site.port];
    Some(Rule {
        id: ids.id("allow", &subject, &ports, Some(protocol), site.private, &TlsTerms::default()),
        source: source.clone(),
        subject,
        ports,
        protocol: Some(protocol),
        private: site.private,
        reason: Some(format!("registry that this machine is configured for ({word})")),
        names: NameTerms::default(),
        tls: TlsTerms::default(),
    })
}

fn subject(
    document: &Document,
    rule: Location,
    host: Option<&Spanned<String>>,
    cidr: Option<&Spanned<String>>,
) -> Result<Subject, Diagnostic> {
    match (host, cidr) {
        (Some(host), None) => parse_host(document, host).map(Subject::Host),
        (None, Some(cidr)) => parse_cidr(document, cidr).map(Subject::Network),
        (Some(_), Some(cidr)) => Err(document
            .error(cidr.referenced, "a rule has either `host` or `cidr`, not both")
            .help("write two rules")),
        (None, None) => Err(document.error(rule, "a rule needs `host` or `cidr`")),
    }
}

fn parse_host(document: &Document, host: &Spanned<String>) -> Result<Pattern, Diagnostic> {
    let text = host.value.as_str();
    Pattern::parse(text).map_err(|error| {
        let diagnostic =
            document.error(host.referenced, format!("invalid host `{text}`")).label(error.to_string());
        match host_help(text) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    })
}

/// What was most likely meant by a text that is not a host pattern.
fn host_help(text: &str) -> Option<String> {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(format!(
            "for an address, write `cidr: {}` with `protocol: tcp` or `protocol: udp`",
            IpNet::from(address)
        ));
    }
    if text.parse::<IpNet>().is_ok() {
        return Some(format!("for a network, write `cidr: {text}`"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':', '?', '#']).next().unwrap_or(rest);
        return Some(format!("a rule names a host, not a URL: `host: {name}`"));
    }
    if let Some((name, path)) = text.split_once('/')
        && HostName::parse(name).is_ok()
    {
        return Some(format!("a rule names a host, without the path `/{path}`"));
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Some(format!("ports have a key of their own: `host: {name}` and `ports: [{port}]`"));
    }
    if text.starts_with('.') {
        return Some(format!("for every name below it, write \"**{text}\""));
    }
    if !text.is_ascii() {
        let ascii = idna::domain_to_ascii(text).ok().filter(|ascii| HostName::parse(ascii).is_ok())?;
        return Some(format!("write international names in their ASCII form: `{ascii}`"));
    }
    None
}

fn parse_cidr(document: &Document, cidr: &Spanned<String>) -> Result<IpNet, Diagnostic> {
    let text = cidr.value.as_str();
    let error =
        |label: String| document.error(cidr.referenced, format!("invalid cidr `{text}`")).label(label);
    let network: IpNet = match (text.parse(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network,
        (Err(_), Ok(address)) => {
            let hint = format!("for this one address, write `cidr: {}`", IpNet::from(address));
            return Err(error("the prefix length is missing".to_owned()).help(hint));
        }
        (Err(_), Err(_)) if text.bytes().any(|octet| octet.is_ascii_alphabetic()) && !text.contains(':') => {
            return Err(error("this is not a network".to_owned()).help("for a name, use the key `host`"));
        }
        (Err(_), Err(_)) => {
            return Err(error("expected a network such as 192.0.2.0/24 or 2001:db8::/32".to_owned()));
        }
    };
    if network != network.trunc() {
        return Err(error("bits are set to the right of the prefix".to_owned()).help(format!(
            "write `cidr: {}` for the network, or `cidr: {}` for the one address",
            network.trunc(),
            IpNet::from(network.addr())
        )));
    }
    match mapped(&network) {
        Some(plain) => Err(error("IPv4-mapped networks are not allowed".to_owned())
            .help(format!("the kernel judges the IPv4 address: write `cidr: {plain}`"))),
        None => Ok(network),
    }
}

/// The IPv4 network inside `network`, if that lies within ::ffff:0:0/96.
fn mapped(network: &IpNet) -> Option<Ipv4Net> {
    match network {
        IpNet::V4(_) => None,
        IpNet::V6(network) => {
            let address = network.network().to_ipv4_mapped()?;
            Ipv4Net::new(address, network.prefix_len().checked_sub(96)?).ok()
        }
    }
}

fn check_breadth(
    document: &Document,
    subject: &Subject,
    host: Option<&Spanned<String>>,
    dangerous: bool,
) -> Result<(), Diagnostic> {
    match (subject, host) {
        (Subject::Host(pattern), Some(host)) if pattern.is_public_suffix() && !dangerous => Err(document
            .error(host.referenced, format!("wildcard `{pattern}` is too wide"))
            .label(format!("strangers can register names below `{}` (publicsuffix.org)", pattern.name()))
            .help("name the hosts one by one, or add `danger_public_suffix: true`")),
        (Subject::Host(_) | Subject::Network(_), _) => Ok(()),
    }
}

fn allowed_protocol(
    document: &Document,
    rule: Location,
    subject: &Subject,
    protocol: Option<&Spanned<String>>,
) -> Result<Protocol, Diagnostic> {
    let parsed = protocol.map(|protocol| parse_protocol(document, protocol)).transpose()?;
    let place = protocol.map_or(rule, |protocol| protocol.referenced);
    match (subject, parsed) {
        (Subject::Host(_), None) => Ok(Protocol::Tls),
        (Subject::Host(_), Some(protocol)) => Ok(protocol),
        (Subject::Network(_), Some(protocol @ (Protocol::Tcp | Protocol::Udp))) => Ok(protocol),
        (Subject::Network(_), Some(Protocol::Tls | Protocol::Http | Protocol::Quic)) => Err(document
            .error(place, "a rule with `cidr` cannot check a server name")
            .label("`tls`, `http` and `quic` need a name")
            .help("use the key `host`, or `protocol: tcp`, with which any bytes may pass")),
        (Subject::Network(_), None) => Err(document
            .error(place, "a rule with `cidr` needs `protocol: tcp` or `protocol: udp`")
            .help("without `protocol` a rule means TLS, which needs a name")),
    }
}

fn parse_protocol(document: &Document, protocol: &Spanned<String>) -> Result<Protocol, Diagnostic> {
    Protocol::ALL.into_iter().find(|known| known.as_str() == protocol.value).ok_or_else(|| {
        document
            .error(protocol.referenced, format!("unknown protocol `{}`", protocol.value))
            .help("known protocols: tls, http, tcp, udp, quic")
    })
}

fn default_ports(protocol: Protocol) -> Option<Vec<u16>> {
    match protocol {
        Protocol::Tls | Protocol::Quic => Some(vec![443]),
        Protocol::Http => Some(vec![80]),
        Protocol::Tcp | Protocol::Udp => None,
    }
}

fn allowed_ports(document: &Document, ports: &Spanned<Vec<Spanned<u16>>>) -> Result<Vec<u16>, Diagnostic> {
    if let Some(port) = ports.value.iter().find(|port| port.value == DNS_PORT) {
        return Err(document
            .error(port.referenced, "port 53 cannot be opened")
            .label("it always reaches the resolver of egressd")
            .help("names are looked up without a rule for port 53"));
    }
    sorted_ports(document, ports)
}

fn sorted_ports(document: &Document, ports: &Spanned<Vec<Spanned<u16>>>) -> Result<Vec<u16>, Diagnostic> {
    if ports.value.is_empty() {
        return Err(document
            .error(ports.referenced, "`ports` is empty")
            .help("leave the key out for the default, or name at least one port"));
    }
    if ports.value.len() > MAX_PORTS {
        return Err(document.error(
            ports.referenced,
            format!("`ports` names {} ports, at most {MAX_PORTS} are allowed", ports.value.len()),
        ));
    }
    if let Some(port) = ports.value.iter().find(|port| port.value == 0) {
        return Err(document.error(port.referenced, "expected a port, 1 to 65535"));
    }
    let mut sorted: Vec<u16> = ports.value.iter().map(|port| port.value).collect();
    sorted.sort_unstable();
    sorted.dedup();
    Ok(sorted)
}

fn allowed_private(
    document: &Document,
    subject: &Subject,
    private: Option<&Spanned<bool>>,
) -> Result<bool, Diagnostic> {
    match (subject, private) {
        (Subject::Network(_), Some(private)) => Err(document
            .error(private.referenced, "`private` belongs to a rule with `host`")
            .help("a network names its addresses itself; leave the key out")),
        (Subject::Network(_), None) => Ok(false),
        (Subject::Host(_), private) => Ok(private.is_some_and(|private| private.value)),
    }
}
