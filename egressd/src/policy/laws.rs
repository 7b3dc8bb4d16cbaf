//! What holds for all names and all rules.

use super::{
    decide::Policy,
    flow::{Destination, Flow},
    grant::Grants,
    host::HostName,
    moment::Moment,
    pattern::Pattern,
    resolvers::ZONES,
    rule::{NameTerms, Protocol, Rule, RuleId, Subject},
    source::Source,
    tls::TlsTerms,
};

/// A name that is read is read as itself again, in each of its spellings.
pub fn host_name(bytes: &[u8]) {
    let Ok(name) = HostName::from_ascii(bytes) else { return };
    let text = name.as_str();
    let is_plain = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    assert!(text.bytes().all(is_plain) && text.len() <= 253, "{name}");
    assert!(name.labels().all(|label| (1..=63).contains(&label.len())), "{name}");
    assert!(text.parse::<std::net::IpAddr>().is_err(), "{name}");
    for spelling in [text.to_owned(), text.to_ascii_uppercase(), format!("{text}.")] {
        assert_eq!(HostName::parse(&spelling).as_ref(), Ok(&name), "{spelling:?}");
    }
    assert!(HostName::parse(&format!("{text}..")).is_err());
    assert!(bytes.strip_suffix(b".").unwrap_or(bytes).eq_ignore_ascii_case(text.as_bytes()));
}

/// A policy says of a name what the texts of its rules say. Lines of `bytes` are rules that allow
/// (`+PATTERN`), rules that deny (`-PATTERN`) and names (`?NAME`).
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let patterns = |sign| lines(text, sign).filter_map(|line| Pattern::parse(line).ok()).collect::<Vec<_>>();
    let (allow, deny) = (patterns('+'), patterns('-'));
    for pattern in allow.iter().chain(&deny) {
        assert_eq!(Pattern::parse(&pattern.to_string()).as_ref(), Ok(pattern));
    }
    let rules = |patterns: &[Pattern]| patterns.iter().zip(1..).map(rule).collect();
    let policy = Policy::new(rules(&allow), rules(&deny));
    for name in lines(text, '?').filter_map(|line| HostName::parse(line).ok()) {
        let is_in = |patterns: &[Pattern]| {
            patterns.iter().any(|pattern| {
                let is_match = matches(&pattern.to_string(), name.as_str());
                assert_eq!(pattern.matches(&name), is_match, "{pattern} and {name}");
                is_match
            })
        };
        let exact: Vec<Pattern> = allow.iter().filter(|pattern| !pattern.is_wildcard()).cloned().collect();
        let is_resolver =
            ZONES.iter().any(|zone| name.as_str() == *zone || matches(&format!("**.{zone}"), name.as_str()));
        let is_named = is_in(if is_resolver { &exact } else { &allow });
        let is_allowed = is_named && !is_in(&deny);
        assert_eq!(policy.lookup(&name).is_ok(), is_allowed, "{name}");
        let is_spelt_out = is_allowed && exact.iter().any(|pattern| pattern.matches(&name));
        expansion(&policy, &name, is_spelt_out);
        for (port, protocol) in [(443, Protocol::Tls), (444, Protocol::Tls), (443, Protocol::Http)] {
            let flow = Flow { destination: Destination::Name(name.clone()), port, protocol, address: None };
            let permit = policy.decide(&flow, &Grants::default(), Moment::default());
            let is_open = is_allowed && (port, protocol) == (443, Protocol::Tls);
            assert_eq!(permit.is_ok(), is_open, "{flow:?}");
            let at = Flow { address: Some([198, 51, 100, 1].into()), ..flow };
            let permit = policy.decide(&at, &Grants::default(), Moment::default());
            assert!(permit.is_err(), "nothing was granted: {at:?}");
        }
    }
}

/// What a name is an expansion of stands in front of it, and is allowed.
fn expansion(policy: &Policy, name: &HostName, is_spelt_out: bool) {
    if let Some(of) = policy.expansion_of(name, &[]) {
        let suffix = name.as_str().strip_prefix(of.as_str());
        assert!(suffix.is_some_and(|suffix| suffix.len() > 1 && suffix.starts_with('.')), "{name}");
        assert!(policy.lookup(&of).is_ok() && !is_spelt_out, "{name}");
    }
}

fn lines(text: &str, sign: char) -> impl Iterator<Item = &str> {
    text.lines().take(MAX_LINES).filter_map(move |line| line.strip_prefix(sign))
}

/// More rules and names say nothing new, and take the square of their number.
const MAX_LINES: usize = 64;

fn rule((pattern, id): (&Pattern, u32)) -> Rule {
    Rule {
        id: RuleId(id),
        source: Source { file: "laws".into(), line: id },
        subject: Subject::Host(pattern.clone()),
        ports: vec![443],
        protocol: Some(Protocol::Tls),
        private: false,
        reason: None,
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Default::default(),
        budget: Default::default(),
        mode: Default::default(),
        risk: None,
    }
}

/// By the texts alone, another way than the matcher's.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix("**"), pattern.strip_prefix('*')) {
        (Some(suffix), _) => name.strip_suffix(suffix).is_some_and(|below| !below.is_empty()),
        (None, Some(suffix)) => {
            name.strip_suffix(suffix).is_some_and(|below| !below.is_empty() && !below.contains('.'))
        }
        (None, None) => pattern == name,
    }
}
