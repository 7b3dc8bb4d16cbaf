//! From the keys of one rule to the rule.

use super::{
    approval, budget,
    credential::Credential,
    diagnostic::Diagnostic,
    document::Document,
    file::{AllowRule, DenyRule},
    identity::RuleIds,
    mode, names,
    packages::{Scheme, Site},
    ports, term, tls,
};
use crate::policy::{
    Approval, Budget, Destination, HostName, Mode, NameTerms, Pattern, Protocol, Risk, Rule, Source, Subject,
    Term, TlsTerms,
};
use ipnet::{IpNet, Ipv4Net};
use serde_saphyr::{Location, Spanned};
use std::net::IpAddr;

/// Compiles a rule that allows, or several where it names several hosts; `known` are the credentials that
/// they may inject, where they are known.
pub(super) fn allow(
    document: &Document,
    rule: &Spanned<AllowRule>,
    known: Option<&[Credential]>,
    ids: &mut RuleIds,
) -> Result<Vec<Rule>, Diagnostic> {
    let AllowRule { host, hosts, cidr, .. } = &rule.value;
    let subjects = subjects(document, rule.referenced, host.as_ref(), hosts.as_ref(), cidr.as_ref())?;
    subjects.into_iter().map(|about| allow_one(document, rule, about, known, ids)).collect()
}

fn allow_one(
    document: &Document,
    rule: &Spanned<AllowRule>,
    About { subject, at, place }: About,
    known: Option<&[Credential]>,
    ids: &mut RuleIds,
) -> Result<Rule, Diagnostic> {
    let AllowRule { ports, protocol, reason, private, mode, .. } = &rule.value;
    let AllowRule { danger_public_suffix, leak_budget, types, expires, lasts, risk, .. } = &rule.value;
    let AllowRule { max_bytes, max_connections, rate, .. } = &rule.value;
    let dangerous = danger_public_suffix.as_ref().is_some_and(|danger| danger.value);
    check_breadth(document, &subject, at, dangerous)?;
    let protocol = allowed_protocol(document, rule.referenced, &subject, protocol.as_ref())?;
    let ports = match ports {
        Some(ports) => ports::allowed(document, ports)?,
        None => default_ports(protocol).ok_or_else(|| {
            document
                .error(rule.referenced, format!("a rule with protocol `{protocol}` needs `ports`"))
                .help("for example: ports: [5432]")
        })?,
    };
    let private = allowed_private(document, &subject, private.as_ref())?;
    let names = names::terms(document, &subject, leak_budget.as_ref(), types.as_ref())?;
    let tls = tls::terms(document, &rule.value, &subject, protocol, known)?;
    let term = term::term(document, expires.as_ref(), lasts.as_ref())?;
    let risk = risk.as_ref().map(|word| parse_risk(document, word)).transpose()?;
    let mode = mode::mode(document, mode.as_ref())?;
    let approval = approval::required(document, &rule.value)?;
    let names = NameTerms { approval, ..names };
    let effect = match (mode, approval) {
        (Mode::Enforce, Approval::NotNeeded) => "allow",
        (Mode::Enforce, Approval::Required) => "ask",
        (Mode::Observe, _) => "observe what would not be allowed",
    };
    let bounds = budget::Keys {
        max_bytes: max_bytes.as_ref(),
        max_connections: max_connections.as_ref(),
        rate: rate.as_ref(),
    };
    let budget = budget::budget(document, bounds)?;
    Ok(Rule {
        id: ids.id(effect, &subject, &ports, Some(protocol), private, (&tls, term)),
        source: document.source(place),
        subject,
        ports,
        protocol: Some(protocol),
        private,
        reason: reason.clone(),
        names,
        tls,
        term,
        budget,
        mode,
        risk,
    })
}

/// Compiles a rule that denies, or several where it names several hosts.
pub(super) fn deny(
    document: &Document,
    rule: &Spanned<DenyRule>,
    ids: &mut RuleIds,
) -> Result<Vec<Rule>, Diagnostic> {
    let DenyRule { host, hosts, cidr, ports, protocol, reason, mode } = &rule.value;
    let mode = denied_mode(document, cidr.as_ref(), mode.as_ref())?;
    let effect = match mode {
        Mode::Enforce => "deny",
        Mode::Observe => "observe what would be denied",
    };
    let subjects = subjects(document, rule.referenced, host.as_ref(), hosts.as_ref(), cidr.as_ref())?;
    let protocol = protocol.as_ref().map(|protocol| parse_protocol(document, protocol)).transpose()?;
    let ports = ports.as_ref().map(|ports| ports::sorted(document, ports)).transpose()?.unwrap_or_default();
    let one = |About { subject, place, .. }: About| Rule {
        id: ids.id(effect, &subject, &ports, protocol, false, (&TlsTerms::default(), Term::default())),
        source: document.source(place),
        subject,
        ports: ports.clone(),
        protocol,
        private: false,
        reason: reason.clone(),
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Term::default(),
        budget: Budget::default(),
        mode,
        risk: None,
    };
    Ok(subjects.into_iter().map(one).collect())
}

/// The mode of a rule that denies. Which flows straight to an address a network would deny, nobody would tell.
fn denied_mode(
    document: &Document,
    cidr: Option<&Spanned<String>>,
    mode: Option<&Spanned<String>>,
) -> Result<Mode, Diagnostic> {
    match (mode::mode(document, mode)?, cidr, mode) {
        (Mode::Observe, Some(_), Some(word)) => Err(document
            .error(word.referenced, "a rule with `cidr` that denies cannot only observe")
            .help("name hosts, or observe the whole agent: `mode: observe` in its section")),
        (mode, _, _) => Ok(mode),
    }
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
        id: ids.id(
            "allow",
            &subject,
            &ports,
            Some(protocol),
            site.private,
            (&TlsTerms::default(), Term::default()),
        ),
        source: source.clone(),
        subject,
        ports,
        protocol: Some(protocol),
        private: site.private,
        reason: Some(format!("registry that this machine is configured for ({word})")),
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Term::default(),
        budget: Budget::default(),
        mode: Mode::default(),
        risk: None,
    })
}

/// What a rule is about.
struct About {
    subject: Subject,
    /// Where that is written.
    at: Location,
    /// Where people look for the rule: its own beginning, or in a list of hosts the line of each.
    place: Location,
}

fn subjects(
    document: &Document,
    rule: Location,
    host: Option<&Spanned<String>>,
    hosts: Option<&Spanned<Vec<Spanned<String>>>>,
    cidr: Option<&Spanned<String>>,
) -> Result<Vec<About>, Diagnostic> {
    let named = |host: &Spanned<String>, place| {
        let subject = Subject::Host(parse_host(document, host)?);
        Ok(About { subject, at: host.referenced, place })
    };
    match (host, hosts, cidr) {
        (Some(host), None, None) => Ok(vec![named(host, rule)?]),
        (None, Some(hosts), None) if hosts.value.is_empty() => {
            Err(document.error(hosts.referenced, "`hosts` is empty").help("name at least one host"))
        }
        (None, Some(hosts), None) => hosts.value.iter().map(|host| named(host, host.referenced)).collect(),
        (None, None, Some(cidr)) => {
            let subject = Subject::Network(parse_cidr(document, cidr)?);
            Ok(vec![About { subject, at: cidr.referenced, place: rule }])
        }
        (None, None, None) => Err(document.error(rule, "a rule needs `host`, `hosts` or `cidr`")),
        (_, _, Some(cidr)) => Err(document
            .error(cidr.referenced, "a rule has either `host` or `cidr`, not both")
            .help("write two rules")),
        (Some(_), Some(hosts), None) => Err(document
            .error(hosts.referenced, "a rule has either `host` or `hosts`, not both")
            .help("put all of them into `hosts`")),
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
    at: Location,
    dangerous: bool,
) -> Result<(), Diagnostic> {
    match subject {
        Subject::Host(pattern) if pattern.is_public_suffix() && !dangerous => Err(document
            .error(at, format!("wildcard `{pattern}` is too wide"))
            .label(format!("strangers can register names below `{}` (publicsuffix.org)", pattern.name()))
            .help("name the hosts one by one, or add `danger_public_suffix: true`")),
        Subject::Host(_) | Subject::Network(_) => Ok(()),
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
    Protocol::parse(&protocol.value).ok_or_else(|| {
        document
            .error(protocol.referenced, format!("unknown protocol `{}`", protocol.value))
            .help("known protocols: tls, http, tcp, udp, quic")
    })
}

fn parse_risk(document: &Document, word: &Spanned<String>) -> Result<Risk, Diagnostic> {
    Risk::ALL.into_iter().find(|risk| risk.as_str() == word.value).ok_or_else(|| {
        document
            .error(word.referenced, format!("unknown risk `{}`", word.value))
            .help(format!("known risks: {}", Risk::ALL.map(Risk::as_str).join(", ")))
    })
}

fn default_ports(protocol: Protocol) -> Option<Vec<u16>> {
    match protocol {
        Protocol::Tls | Protocol::Quic => Some(vec![443]),
        Protocol::Http => Some(vec![80]),
        Protocol::Tcp | Protocol::Udp => None,
    }
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
