//! What is wrong with a file, and how people are shown it.

use crate::policy::SourceFile;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::{fmt, ops::Range, sync::Arc};

/// Everything that is wrong with the files that were loaded. Displays as full diagnostics with
/// file, line and caret, without colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Every single thing that is wrong, in the order of the files. Never empty.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The diagnostics as a terminal shows them, with ANSI colour if `colour` is set.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let rendered: Vec<String> =
            self.diagnostics.iter().map(|diagnostic| diagnostic.render(&renderer)).collect();
        rendered.join("\n\n")
    }

    pub(super) fn all(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics }
    }
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    title: String,
    place: Option<Place>,
    label: String,
    help: Option<String>,
}

impl Diagnostic {
    /// The error in one line.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The line of the file, from 1; None where the file could not be read at all.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        let place = self.place.as_ref()?;
        Some(place.text.get(..place.span.start)?.matches('\n').count() + 1)
    }

    /// An error that no line of a file shows.
    pub(super) fn general(title: impl Into<String>) -> Self {
        Self { title: title.into(), place: None, label: String::new(), help: None }
    }

    pub(super) fn at(place: Place, title: impl Into<String>) -> Self {
        Self { title: title.into(), place: Some(place), label: String::new(), help: None }
    }

    pub(super) fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut group = Group::with_title(Level::ERROR.primary_title(&self.title));
        let text = self.place.as_ref().map(|place| without_passwords(&place.text)).unwrap_or_default();
        if let Some(place) = &self.place {
            let mut caret = AnnotationKind::Primary.span(place.span.clone());
            if !self.label.is_empty() {
                caret = caret.label(&self.label);
            }
            group = group.element(Snippet::source(&*text).path(&*place.file).annotation(caret));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: SourceFile,
    pub(super) text: Arc<str>,
    /// In octets, on character boundaries, within the text.
    pub(super) span: Range<usize>,
}

/// The text with stars for what stands between `SCHEME://USER:` and `@`, octet by octet: what is wrong with a file
/// is told in logs, too.
fn without_passwords(text: &str) -> String {
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'');
    text.split_inclusive(ends).map(without_password).collect()
}

fn without_password(word: &str) -> String {
    let found = || {
        let (start, end) = (word.find("://")? + 3, word.rfind('@')?);
        let password = start + word.get(start..end)?.find(':')? + 1;
        Some(format!("{}{}{}", word.get(..password)?, "*".repeat(end - password), word.get(end..)?))
    };
    found().unwrap_or_else(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_of_an_address_is_shown_by_no_diagnostic() {
        for (text, shown) in [
            ("git: https://me:s\u{e9}@x/p # a@b", "git: https://me:***@x/p # a@b"),
            ("{git: \"https://me:a/b@c@x/p\", x: 1}", "{git: \"https://me:*****@x/p\", x: 1}"),
            ("https://me@x/p ssh://a:b@c a:b@c", "https://me@x/p ssh://a:*@c a:b@c"),
            ("@://: ://@:", "@://: ://@:"),
        ] {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(shown.len(), text.len());
        }
    }
}
