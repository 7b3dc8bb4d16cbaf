//! What a rule says of flows that speak TLS.

use super::{credential::Credential, diagnostic::Diagnostic, document::Document, file::AllowRule, inspect};
use crate::policy::{Ech, GateChoice, Protocol, Subject, TlsTerms};
use serde_saphyr::Spanned;
use std::sync::Arc;

/// The terms of a rule about `subject` whose flows speak `protocol`. `known` are the credentials that
/// there are, where that is known.
pub(super) fn terms(
    document: &Document,
    rule: &AllowRule,
    subject: &Subject,
    protocol: Protocol,
    known: Option<&[Credential]>,
) -> Result<TlsTerms, Diagnostic> {
    let AllowRule { gate, ech, .. } = rule;
    let (gate, ech) = (gate.as_ref(), ech.as_ref());
    let gates = GateChoice::ALL.map(|choice| (choice.as_str(), choice));
    let ech_words = Ech::ALL.map(|ech| (ech.as_str(), ech));
    Ok(TlsTerms {
        gate: word(document, "gate", gate, &gates, matches!(protocol, Protocol::Tls))?,
        ech: word(document, "ech", ech, &ech_words, matches!(protocol, Protocol::Tls | Protocol::Quic))?,
        inspection: inspect::terms(document, rule, subject, protocol, known)?.map(Arc::new),
    })
}

/// What `value` means, by a table of words; the default where the key is left out.
fn word<T: Copy + Default>(
    document: &Document,
    key: &str,
    value: Option<&Spanned<String>>,
    words: &[(&str, T)],
    belongs: bool,
) -> Result<T, Diagnostic> {
    let Some(value) = value else { return Ok(T::default()) };
    if !belongs {
        return Err(document
            .error(value.referenced, format!("`{key}` belongs to a rule with `protocol: tls`"))
            .help("leave the key out"));
    }
    let found = words.iter().find(|(word, _)| *word == value.value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        document
            .error(value.referenced, format!("unknown `{key}` `{}`", value.value))
            .help(format!("known words: {}", known.join(", ")))
    })
}
