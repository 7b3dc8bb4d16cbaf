//! The host patterns of rules.

use super::{
    host::{HostName, HostNameError},
    suffix::is_shared,
};
use std::fmt;

/// Which host names a rule is about. The apex is never implied by a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `example.com`: exactly this name.
    Exact(HostName),
    /// `*.example.com`: exactly one label below it.
    OneLabel(HostName),
    /// `**.example.com`: one or more labels below it.
    AnyLabels(HostName),
}

impl Pattern {
    /// Parses `example.com`, `*.example.com` or `**.example.com`.
    ///
    /// # Errors
    /// Says what is wrong with the name, or that a `*` stands where none may.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some(suffix) = text.strip_prefix("**.") {
            return Ok(Self::AnyLabels(parse_suffix(suffix)?));
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            return Ok(Self::OneLabel(parse_suffix(suffix)?));
        }
        Ok(Self::Exact(parse_suffix(text)?))
    }

    /// Whether `name` is one of the names that this pattern is about, label by label.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::OneLabel(suffix) => labels_below(name, suffix) == Some(1),
            Self::AnyLabels(suffix) => labels_below(name, suffix).is_some_and(|depth| depth >= 1),
        }
    }

    /// The name without its wildcard.
    #[must_use]
    pub fn name(&self) -> &HostName {
        match self {
            Self::Exact(name) | Self::OneLabel(name) | Self::AnyLabels(name) => name,
        }
    }

    /// Whether this pattern is about more than one name.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        match self {
            Self::Exact(_) => false,
            Self::OneLabel(_) | Self::AnyLabels(_) => true,
        }
    }

    /// Whether this is a wildcard at or above a public suffix, so that strangers can register
    /// names that it is about.
    #[must_use]
    pub fn is_public_suffix(&self) -> bool {
        self.is_wildcard() && is_shared(self.name())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::OneLabel(suffix) => write!(f, "*.{suffix}"),
            Self::AnyLabels(suffix) => write!(f, "**.{suffix}"),
        }
    }
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("`*` may only stand first, as a whole label: `*.example.com` or `**.example.com`")]
    Wildcard,
    #[error(transparent)]
    Name(#[from] HostNameError),
}

fn parse_suffix(text: &str) -> Result<HostName, PatternError> {
    if text.contains('*') {
        return Err(PatternError::Wildcard);
    }
    Ok(HostName::parse(text)?)
}

/// How many labels `name` has in front of `suffix`, if it ends with it.
fn labels_below(name: &HostName, suffix: &HostName) -> Option<usize> {
    let mut name_labels = name.labels().rev();
    for suffix_label in suffix.labels().rev() {
        if name_labels.next() != Some(suffix_label) {
            return None;
        }
    }
    Some(name_labels.count())
}
