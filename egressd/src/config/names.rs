//! What a rule says of looking its names up.

use super::{diagnostic::Diagnostic, document::Document};
use crate::policy::{Approval, LeakBudget, NameTerms, RecordType, Subject};
use serde_saphyr::Spanned;

/// The terms of a rule about `subject`.
pub(super) fn terms(
    document: &Document,
    subject: &Subject,
    budget: Option<&Spanned<u64>>,
    types: Option<&Spanned<Vec<Spanned<String>>>>,
) -> Result<NameTerms, Diagnostic> {
    Ok(NameTerms {
        leak_budget: allowed_budget(document, subject, budget)?,
        types: allowed_types(document, subject, types)?,
        approval: Approval::default(),
    })
}

/// Reads bytes a day.
pub(super) fn leak_budget(document: &Document, bytes: &Spanned<u64>) -> Result<LeakBudget, Diagnostic> {
    u32::try_from(bytes.value).ok().and_then(LeakBudget::of_bytes).ok_or_else(|| {
        document
            .error(bytes.referenced, format!("`leak_budget` of {} bytes a day is no bound", bytes.value))
            .label(format!("at most {} are allowed", LeakBudget::MAX))
    })
}

fn allowed_budget(
    document: &Document,
    subject: &Subject,
    budget: Option<&Spanned<u64>>,
) -> Result<Option<LeakBudget>, Diagnostic> {
    let Some(budget) = budget else { return Ok(None) };
    if !subject.is_wildcard() {
        return Err(document
            .error(budget.referenced, "`leak_budget` belongs to a rule with a wildcard")
            .label("of this one, an agent chooses nothing that upstream sees")
            .help("leave the key out, or set the agent's own `leak_budget`"));
    }
    leak_budget(document, budget).map(Some)
}

/// The numbers of the types that are named, sorted.
fn allowed_types(
    document: &Document,
    subject: &Subject,
    types: Option<&Spanned<Vec<Spanned<String>>>>,
) -> Result<Vec<u16>, Diagnostic> {
    let Some(types) = types else { return Ok(Vec::new()) };
    match subject {
        Subject::Network(_) => {
            return Err(document
                .error(types.referenced, "`types` belongs to a rule with `host`")
                .help("a network is not looked up; leave the key out"));
        }
        Subject::Host(_) => {}
    }
    let numbers = types.value.iter().map(|word| parse_type(document, word).map(RecordType::number));
    let mut numbers: Vec<u16> = numbers.collect::<Result<_, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

fn parse_type(document: &Document, word: &Spanned<String>) -> Result<RecordType, Diagnostic> {
    RecordType::parse(&word.value).ok_or_else(|| {
        let diagnostic =
            document.error(word.referenced, format!("record type `{}` cannot be allowed", word.value));
        if matches!(word.value.to_ascii_uppercase().as_str(), "A" | "AAAA") {
            return diagnostic.label("every rule with `host` allows it").help("leave it out");
        }
        let known: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
        diagnostic.help(format!("types that a rule can allow: {}", known.join(", ")))
    })
}
