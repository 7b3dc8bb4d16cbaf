//! Credentials, which the proxy sends for an agent that never sees them.

use super::{
    diagnostic::Diagnostic,
    document::Document,
    file::{CredentialSection, Named},
};
use serde_saphyr::Spanned;
use std::path::PathBuf;

/// Where a credential is, and how a header field holds it. Not the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub name: String,
    pub source: CredentialSource,
    /// What stands before it in the field, and behind it.
    pub around: (String, String),
}

/// Where a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// All of a file but white space around it; read for each request.
    File(PathBuf),
    /// A variable of the daemon's own environment.
    Environment(String),
}

/// The credentials of `section`. What is wrong is added to `wrong`, and left out.
pub(super) fn credentials(
    document: &Document,
    section: Option<&Named<CredentialSection>>,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<Credential> {
    let named = section.iter().flat_map(|section| &section.0);
    named
        .filter_map(|(name, section)| {
            credential(document, name, section).map_err(|error| wrong.push(error)).ok()
        })
        .collect()
}

fn credential(
    document: &Document,
    name: &Spanned<String>,
    section: &CredentialSection,
) -> Result<Credential, Diagnostic> {
    let source = match (&section.file, &section.environment) {
        (Some(file), None) if file.value.is_absolute() => CredentialSource::File(file.value.clone()),
        (Some(file), None) => {
            return Err(document
                .error(file.referenced, format!("`{}` is not a whole path", file.value.display()))
                .help("begin with `/`"));
        }
        (None, Some(variable)) => CredentialSource::Environment(variable.value.clone()),
        (Some(_), Some(second)) => {
            return Err(document
                .error(second.referenced, "a credential has either `file` or `environment`, not both"));
        }
        (None, None) => {
            let title = format!("credential `{}` needs `file` or `environment`", name.value);
            return Err(document.error(name.referenced, title));
        }
    };
    Ok(Credential { name: name.value.clone(), source, around: around(document, section.format.as_ref())? })
}

fn around(document: &Document, format: Option<&Spanned<String>>) -> Result<(String, String), Diagnostic> {
    let Some(format) = format else { return Ok((String::new(), String::new())) };
    let is_printable = format.value.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    match format.value.split_once("{}") {
        Some((before, after)) if is_printable && !after.contains("{}") => {
            Ok((before.to_owned(), after.to_owned()))
        }
        Some(_) | None => Err(document
            .error(format.referenced, format!("invalid format `{}`", format.value))
            .label("expected `{}` once, in visible ASCII characters")
            .help("for example: \"Bearer {}\"")),
    }
}
