//! What is wrong with a policy that compiles.

use crate::policy::{Policy, Source};
use std::fmt;

/// Something that whoever wrote a policy would want to know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// A word for it, by which it can be looked up, as in `shadowed-rule`.
    pub lint: &'static str,
    /// `file:line`.
    pub place: String,
    /// One sentence, without a full stop.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Hardly meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
        })
    }
}

/// What is to be said of `policy`, in the order of its rules.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Finding> {
    policy.allow().iter().filter_map(|rule| shadowed(policy, rule)).collect()
}

/// A rule that an earlier deny covers whole.
fn shadowed(policy: &Policy, rule: &crate::policy::Rule) -> Option<Finding> {
    let covers = |deny: &&crate::policy::Rule| {
        deny.subject == rule.subject
            && rule.ports.iter().all(|port| deny.covers_port(*port))
            && rule.protocol.is_none_or(|protocol| deny.covers_protocol(protocol))
    };
    let deny = policy.deny().iter().find(covers)?;
    Some(finding(
        &rule.source,
        "denied-rule",
        format!("nothing is allowed by this rule: {} denies it", deny.source),
    ))
}

fn finding(place: &Source, lint: &'static str, text: String) -> Finding {
    Finding { severity: Severity::Warning, lint, place: place.to_string(), text, help: None }
}
