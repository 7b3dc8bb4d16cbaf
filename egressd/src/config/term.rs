//! How long a rule is to count: `expires` and `for`.

use super::{diagnostic::Diagnostic, document::Document};
use crate::policy::Term;
use jiff::{Span, SpanRelativeTo, Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde_saphyr::Spanned;
use std::time::Duration;

/// The term that a rule's keys set.
pub(super) fn term(
    document: &Document,
    expires: Option<&Spanned<String>>,
    lasts: Option<&Spanned<String>>,
) -> Result<Term, Diagnostic> {
    Ok(Term {
        until: expires.map(|text| moment(document, text)).transpose()?,
        within: lasts.map(|text| duration(document, text)).transpose()?,
    })
}

/// Reads `2026-12-31`, to the end of that day (UTC), or `2026-12-31T18:00:00Z`.
fn moment(document: &Document, text: &Spanned<String>) -> Result<Timestamp, Diagnostic> {
    let end_of = |date: Date| date.checked_add(1.day()).ok()?.to_zoned(TimeZone::UTC).ok();
    let day = || Some(end_of(text.value.parse::<Date>().ok()?)?.timestamp());
    let is_date = text.value.len() == DATE.len();
    let read = if is_date { day() } else { text.value.parse().ok() };
    read.ok_or_else(|| {
        document
            .error(text.referenced, format!("invalid time `{}`", text.value))
            .help(format!("for example: {DATE} (to the end of that day, UTC) or 2026-12-31T18:00:00Z"))
    })
}

/// Reads `90s`, `30m`, `2h`, `7d` or sums of them, as in `1h 30m`.
pub(super) fn duration(document: &Document, text: &Spanned<String>) -> Result<Duration, Diagnostic> {
    let span = text.value.parse::<Span>().ok();
    let whole = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let read = whole.and_then(|length| Duration::try_from(length).ok());
    read.filter(|length| !length.is_zero()).ok_or_else(|| {
        document
            .error(text.referenced, format!("invalid duration `{}`", text.value))
            .help("for example: 90s, 30m, 2h, 7d")
    })
}

const DATE: &str = "2026-12-31";
