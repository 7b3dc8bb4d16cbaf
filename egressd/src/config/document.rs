//! The text of one YAML file, and what its parser says about it.

use super::diagnostic::{Diagnostic, Place};
use crate::policy::{Source, SourceFile};
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, Options, Spanned, options::MergeKeyPolicy};
use std::sync::Arc;

/// The text of one file, from which values and places are taken.
#[derive(Debug, Clone)]
pub(super) struct Document {
    file: SourceFile,
    text: Arc<str>,
}

impl Document {
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self::of(file.into(), text)
    }

    pub(super) fn of(file: SourceFile, text: &str) -> Self {
        Self { file, text: text.into() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Parses the text. Aliases, anchors, merge keys, tags and further documents are refused, and
    /// depth and nodes are bounded, so that a small file stays a small value.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        serde_saphyr::from_str_with_options(&self.text, strict()).map_err(|error| self.explain(&error))
    }

    pub(super) fn source(&self, location: Location) -> Source {
        let line = u32::try_from(location.line()).unwrap_or(u32::MAX).max(1);
        Source { file: self.file.clone(), line }
    }

    pub(super) fn error(&self, location: Location, title: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.place(location), title)
    }

    /// There is one version of every file so far.
    pub(super) fn check_version(&self, version: &Spanned<u64>) -> Result<(), Diagnostic> {
        match version.value {
            1 => Ok(()),
            other => Err(self
                .error(version.referenced, format!("version {other} is not known"))
                .help("write `version: 1`")),
        }
    }

    fn explain(&self, error: &Error) -> Diagnostic {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let place = self.place(location);
        if self.is_bare_wildcard(&place) {
            return Diagnostic::at(place, "`*` must be quoted")
                .label("YAML reads an unquoted `*` as an alias")
                .help("put the pattern in quotes: \"*.example.com\"");
        }
        let diagnostic = Diagnostic::at(place, summary(error));
        match help(error) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    fn is_bare_wildcard(&self, place: &Place) -> bool {
        let before = self.text[..place.span.start].trim_end_matches('*').trim_end();
        self.text[..place.span.end].trim_end().ends_with('*')
            || (self.text[place.span.start..].starts_with('*') && before.ends_with([':', '-', ',', '[']))
    }

    /// The parser counts characters; a place counts octets and stays within one line.
    fn place(&self, location: Location) -> Place {
        let start = usize::try_from(location.span().offset()).unwrap_or(usize::MAX);
        let length = usize::try_from(location.span().len()).unwrap_or(1).max(1);
        let octet = |text: &str, nth| text.char_indices().nth(nth).map_or(text.len(), |(octet, _)| octet);
        let start = octet(&self.text, start);
        let rest = &self.text[start..];
        let line = rest.find('\n').unwrap_or(rest.len());
        let end = start + octet(rest, length).min(line);
        Place { file: self.file.clone(), text: Arc::clone(&self.text), span: start..end }
    }
}

fn strict() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        emit_comments: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        merge_keys: MergeKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_documents: 1,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
        },
    }
}

/// The schema nests 7 deep: file, agents, agent, rules, rule, ports, port.
const MAX_DEPTH: usize = 16;

/// A rule with every key has about 16 nodes; this leaves room for 6,000 of them in a file.
const MAX_NODES: usize = 100_000;

fn summary(error: &Error) -> String {
    if let Error::SerdeUnknownField { field, .. } = error {
        return format!("unknown key `{field}`");
    }
    if let Error::SerdeMissingField { field, .. } = error {
        return format!("key `{field}` is missing");
    }
    if let Error::DuplicateMappingKey { key, .. } = error {
        return match key {
            Some(key) => format!("key `{key}` stands here for the second time"),
            None => "a key stands here for the second time".to_owned(),
        };
    }
    if let Error::InvalidScalar { ty, .. } = error {
        return match *ty {
            "u16" => "expected a port, 1 to 65535".to_owned(),
            _ => "expected a whole number".to_owned(),
        };
    }
    if let Error::Unexpected { expected, .. } = error {
        return match *expected {
            "sequence start" => "expected a list".to_owned(),
            "mapping start" => "expected keys with values".to_owned(),
            other => format!("expected {other}"),
        };
    }
    if let Error::InvalidBooleanStrict { .. } = error {
        return "expected `true` or `false`".to_owned();
    }
    if let Error::Eof { .. } = error {
        return "file is empty".to_owned();
    }
    if let Error::MergeKeyNotAllowed { .. } | Error::UnknownAnchor { .. } = error {
        return REFERENCE.to_owned();
    }
    if let Error::Budget { breach, .. } = error {
        return budget_summary(breach);
    }
    without_location(&error.to_string())
}

const REFERENCE: &str = "YAML anchors, aliases and merge keys are not allowed";

fn budget_summary(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach;
    if let BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. } = breach {
        return REFERENCE.to_owned();
    }
    if let BudgetBreach::Documents { .. } = breach {
        return "a file holds one YAML document".to_owned();
    }
    "file is too large or nests too deep".to_owned()
}

fn help(error: &Error) -> Option<String> {
    if let Error::SerdeUnknownField { expected, .. } = error {
        return Some(format!("known keys here: {}", expected.join(", ")));
    }
    if let Error::Eof { .. } = error {
        return Some("a policy that allows nothing is `version: 1` and `agents: {}`".to_owned());
    }
    None
}

/// The parser ends its messages with a place, which the snippet shows better.
fn without_location(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
