//! What a rule says of people who are asked: `approval`.

use super::{diagnostic::Diagnostic, document::Document, file::AllowRule};
use crate::policy::Approval;
use serde_saphyr::Location;

/// Whether somebody has to say yes before `rule` counts.
pub(super) fn required(document: &Document, rule: &AllowRule) -> Result<Approval, Diagnostic> {
    let Some(approval) = &rule.approval else { return Ok(Approval::NotNeeded) };
    if approval.value != "required" {
        let title = format!("unknown approval `{}`", approval.value);
        return Err(document
            .error(approval.referenced, title)
            .help("write `approval: required`, or leave it out"));
    }
    match beside(rule) {
        Some((key, place)) => Err(document
            .error(place, format!("`{key}` cannot stand beside `approval`"))
            .label("what is approved is a rule of its own, for a time")
            .help("leave one of the two out")),
        None => Ok(Approval::Required),
    }
}

/// The first key of `rule` that says more than what somebody is asked for.
fn beside(rule: &AllowRule) -> Option<(&'static str, Location)> {
    let AllowRule { inspect, gate, ech, types, leak_budget, mode, expires, lasts, .. } = rule;
    let AllowRule { max_bytes, max_connections, rate, .. } = rule;
    let keys = [
        ("inspect", inspect.as_ref().map(|key| key.referenced)),
        ("gate", gate.as_ref().map(|key| key.referenced)),
        ("ech", ech.as_ref().map(|key| key.referenced)),
        ("types", types.as_ref().map(|key| key.referenced)),
        ("leak_budget", leak_budget.as_ref().map(|key| key.referenced)),
        ("mode", mode.as_ref().map(|key| key.referenced)),
        ("expires", expires.as_ref().map(|key| key.referenced)),
        ("for", lasts.as_ref().map(|key| key.referenced)),
        ("max_bytes", max_bytes.as_ref().map(|key| key.referenced)),
        ("max_connections", max_connections.as_ref().map(|key| key.referenced)),
        ("rate", rate.as_ref().map(|key| key.referenced)),
    ];
    keys.into_iter().find_map(|(key, place)| Some((key, place?)))
}
