//! From the word of a mode to the mode.

use super::{diagnostic::Diagnostic, document::Document};
use crate::policy::Mode;
use serde_saphyr::Spanned;

/// The mode of the key `mode`; [`Mode::Enforce`] where it is left out.
///
/// # Errors
/// There is no such mode.
pub(super) fn mode(document: &Document, word: Option<&Spanned<String>>) -> Result<Mode, Diagnostic> {
    let Some(word) = word else { return Ok(Mode::default()) };
    Mode::parse(&word.value).ok_or_else(|| {
        let known = Mode::ALL.map(Mode::as_str).join("` or `");
        let title = format!("unknown mode `{}`", word.value);
        document.error(word.referenced, title).label(format!("expected `{known}`"))
    })
}
