//! How much may leave: `max_bytes`, `max_connections` and `rate`, of a rule or of an agent.

use super::{diagnostic::Diagnostic, document::Document, inspect::octets};
use crate::policy::{Budget, Rate};
use serde_saphyr::Spanned;
use std::time::Duration;

/// The keys of a budget, as they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) max_bytes: Option<&'a Spanned<String>>,
    pub(super) max_connections: Option<&'a Spanned<u64>>,
    pub(super) rate: Option<&'a Spanned<String>>,
}

/// The budget that the keys set.
pub(super) fn budget(document: &Document, keys: Keys<'_>) -> Result<Budget, Diagnostic> {
    Ok(Budget {
        max_bytes: keys.max_bytes.map(|size| bytes(document, size)).transpose()?,
        max_connections: keys.max_connections.map(|count| connections(document, count)).transpose()?,
        rate: keys.rate.map(|text| rate(document, text)).transpose()?,
    })
}

fn bytes(document: &Document, size: &Spanned<String>) -> Result<u64, Diagnostic> {
    match octets(document, size)? {
        0 => Err(nothing(document, "max_bytes", size)),
        octets => Ok(octets),
    }
}

fn connections(document: &Document, count: &Spanned<u64>) -> Result<u64, Diagnostic> {
    match count.value {
        0 => Err(nothing(document, "max_connections", count)),
        count => Ok(count),
    }
}

fn nothing<T>(document: &Document, key: &str, value: &Spanned<T>) -> Diagnostic {
    document.error(value.referenced, format!("`{key}` of 0 lets nothing out")).help("leave the rule out")
}

/// Reads `10/s`, `600/min` or `1000/h`.
fn rate(document: &Document, text: &Spanned<String>) -> Result<Rate, Diagnostic> {
    let read = |(count, unit): (&str, &str)| {
        let per = UNITS.iter().find(|(word, _)| *word == unit.trim()).map(|(_, seconds)| *seconds)?;
        let flows = count.trim().parse().ok().filter(|flows| (1..=MAX_RATE).contains(flows))?;
        Some(Rate { flows, per: Duration::from_secs(per) })
    };
    text.value.split_once('/').and_then(read).ok_or_else(|| {
        document
            .error(text.referenced, format!("invalid rate `{}`", text.value))
            .help(format!("for example: 10/s, 600/min, 1000/h (at most {MAX_RATE})"))
    })
}

const UNITS: [(&str, u64); 3] = [("s", 1), ("min", 60), ("h", 3600)];

/// More than any host starts.
const MAX_RATE: u32 = 1_000_000;
