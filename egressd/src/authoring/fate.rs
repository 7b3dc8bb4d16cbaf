//! What became of one line of a policy in another language.

use serde::Serialize;
use std::fmt;

/// How true a translation is to what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It allows and denies what it did.
    Exact,
    /// It allows less than it did.
    Narrowed,
    /// It allows more than it did.
    Widened,
    /// It was left out.
    Lost,
}

impl Fate {
    /// Whether whoever translated has to look at it before they use the result.
    #[must_use]
    pub fn needs_a_look(self) -> bool {
        match self {
            Self::Exact | Self::Narrowed => false,
            Self::Widened | Self::Lost => true,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Narrowed => "narrowed",
            Self::Widened => "widened",
            Self::Lost => "lost",
        })
    }
}

/// One line of a report: what was there, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Translated {
    /// `file:line`, or `file: key.path` in a language whose parser tells no lines.
    pub place: String,
    /// As it was written, shortened to [`MAX_QUOTE`] characters that a terminal shows as they are.
    pub was: String,
    /// What stands for it now; empty where nothing does.
    pub became: Vec<String>,
    pub fate: Fate,
    /// One clause, without a full stop; None only where there is nothing to say.
    pub why: Option<String>,
}

impl fmt::Display for Translated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} `{}`", self.fate, self.place, self.was)?;
        self.why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
    }
}

/// The most characters that are quoted of a foreign file: enough for a sentence about the longest name.
pub const MAX_QUOTE: usize = 400;

/// `text` on one line, in characters that neither a terminal nor YAML obeys.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::new();
    let mut characters = text.trim().chars();
    for character in characters.by_ref().take(MAX_QUOTE) {
        match character {
            ' '..='~' => quoted.push(character),
            other => quoted.extend(other.escape_default()),
        }
    }
    if characters.next().is_some() {
        quoted.push_str("...");
    }
    quoted
}

/// `lines` as comments that stand `indent` deep.
pub(super) fn comments<'t>(lines: impl Iterator<Item = &'t Translated>, indent: &str) -> String {
    lines.map(|line| format!("{indent}# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_stays_on_its_line() {
        assert_eq!(quote(" a\n# b\u{1b}[2J\u{202e} "), "a\\n# b\\u{1b}[2J\\u{202e}");
        assert_eq!(quote(&"x".repeat(MAX_QUOTE + 1)), format!("{}...", "x".repeat(MAX_QUOTE)));
    }
}
