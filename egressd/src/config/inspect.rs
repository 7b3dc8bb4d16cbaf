//! What a rule says of requests, where its TLS is to be ended.

use super::{
    credential::Credential,
    diagnostic::Diagnostic,
    document::Document,
    file::{AllowRule, InjectSection},
};
use crate::policy::{Injection, Inspection, Protocol, RequestPattern, Subject};
use http::HeaderName;
use serde_saphyr::{Location, Spanned};

/// The terms of a rule with `inspect: true`; None for any other. `known` are the credentials that there
/// are, where that is known.
pub(super) fn terms(
    document: &Document,
    rule: &AllowRule,
    subject: &Subject,
    protocol: Protocol,
    known: Option<&[Credential]>,
) -> Result<Option<Inspection>, Diagnostic> {
    let inspect = rule.inspect.as_ref().filter(|inspect| inspect.value);
    let Some(inspect) = inspect else {
        return match stray(rule) {
            Some((key, place)) => Err(document
                .error(place, format!("`{key}` belongs to a rule with `inspect: true`"))
                .help("without it, the proxy sees no request: its bytes pass as they come")),
            None => Ok(None),
        };
    };
    if protocol != Protocol::Tls {
        return Err(document
            .error(inspect.referenced, "`inspect` belongs to a rule with `protocol: tls`")
            .help("leave the key out"));
    }
    if let Some(gate) = rule.gate.as_ref().filter(|gate| gate.value == "kernel") {
        return Err(document
            .error(gate.referenced, "the kernel cannot inspect")
            .help("leave the key `gate` out, or `inspect`"));
    }
    Ok(Some(Inspection {
        allow: rule.allow.as_ref().map(|patterns| allowed(document, patterns)).transpose()?,
        max_body: rule.max_body.as_ref().map(|size| octets(document, size)).transpose()?,
        max_bodies: rule.max_bodies.as_ref().map(|size| octets(document, size)).transpose()?,
        inject: rule
            .inject
            .iter()
            .flat_map(|inject| &inject.0)
            .map(|inject| injection(document, inject, subject, known))
            .collect::<Result<_, _>>()?,
    }))
}

/// A key that means nothing without inspection.
fn stray(rule: &AllowRule) -> Option<(&'static str, Location)> {
    let AllowRule { allow, max_body, max_bodies, inject, .. } = rule;
    let inject = inject.as_ref().and_then(|inject| inject.0.first());
    let found = [
        ("allow", allow.as_ref().map(|allow| allow.referenced)),
        ("max_body", max_body.as_ref().map(|size| size.referenced)),
        ("max_bodies", max_bodies.as_ref().map(|size| size.referenced)),
        ("inject", inject.map(|inject| inject.header.referenced)),
    ];
    found.into_iter().find_map(|(key, place)| Some((key, place?)))
}

fn allowed(
    document: &Document,
    patterns: &Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<RequestPattern>, Diagnostic> {
    if patterns.value.is_empty() {
        return Err(document
            .error(patterns.referenced, "`allow` is empty")
            .help("leave the key out to let every request pass, or name at least one"));
    }
    if patterns.value.len() > MAX_PATTERNS {
        let title =
            format!("`allow` names {} requests, at most {MAX_PATTERNS} are allowed", patterns.value.len());
        return Err(document.error(patterns.referenced, title));
    }
    let parsed = patterns.value.iter().map(|pattern| {
        RequestPattern::parse(&pattern.value).map_err(|error| {
            document
                .error(pattern.referenced, format!("invalid request `{}`", pattern.value))
                .label(error.to_string())
        })
    });
    parsed.collect()
}

fn injection(
    document: &Document,
    inject: &InjectSection,
    subject: &Subject,
    known: Option<&[Credential]>,
) -> Result<Injection, Diagnostic> {
    if subject.is_wildcard() {
        return Err(document
            .error(inject.header.referenced, "`inject` belongs to a rule with one host")
            .label("below a wildcard, the agent would choose who gets the credential")
            .help("name the hosts one by one"));
    }
    let text = inject.header.value.as_str();
    let header = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| document.error(inject.header.referenced, format!("invalid header `{text}`")))?;
    if NEVER_INJECTED.contains(&header.as_str()) {
        return Err(document
            .error(inject.header.referenced, format!("header `{header}` cannot be injected"))
            .label("it says where the request goes, or where it ends"));
    }
    let from = &inject.from;
    if let Some(known) = known.filter(|known| !known.iter().any(|one| one.name == from.value)) {
        let error = document.error(from.referenced, format!("no credential `{}`", from.value));
        let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        return Err(match names.as_slice() {
            [] => error.help("name it under `credentials` in egressd.yaml"),
            names => error.help(format!("credentials of egressd.yaml: {}", names.join(", "))),
        });
    }
    Ok(Injection { header: header.as_str().to_owned(), credential: from.value.clone() })
}

/// Reads `65536`, `64kB` or `1MB`: by the thousand.
pub(super) fn octets(document: &Document, size: &Spanned<String>) -> Result<u64, Diagnostic> {
    let text = size.value.as_str();
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let factor = UNITS.iter().find(|(word, _)| *word == unit).map(|(_, factor)| *factor);
    let octets = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    octets.ok_or_else(|| {
        document
            .error(size.referenced, format!("invalid size `{text}`"))
            .help("for example: 65536, 64kB, 1MB, 2GB")
    })
}

/// The most patterns of one rule: each is compared with each request.
const MAX_PATTERNS: usize = 256;

const UNITS: [(&str, u64); 5] = [("", 1), ("B", 1), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];

/// What frames a request and says where it goes is ours to write.
const NEVER_INJECTED: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
