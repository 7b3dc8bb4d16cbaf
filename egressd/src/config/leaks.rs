//! From the keys about names and leaks to the terms of an agent.

use super::{
    diagnostic::Diagnostic,
    document::Document,
    file::{AgentSection, Honeytoken, Named, SecretFile},
    load::{ReadError, read_octets},
    names::leak_budget,
};
use crate::policy::{LeakAction, LeakActions, LeakBudget, LeakFlag, LeakTerms, Secrets};
use serde_saphyr::Spanned;
use std::path::Path;

/// Whether a policy may name files of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretFiles<'a> {
    /// Relative to this folder: the policy is a file that its loader chose.
    Below(&'a Path),
    /// Yes, and nobody reads them: what is asked of the policy does not depend on them.
    Elsewhere,
    /// No: the policy is a text that somebody handed in, and whoever learns which names are refused
    /// for a secret learns the secret.
    Denied,
}

/// What one section, or several, the nearest first, say of leaks.
#[derive(Debug, Clone, Default)]
pub(super) struct LeakPart {
    budget: Option<LeakBudget>,
    actions: Vec<(LeakFlag, LeakAction)>,
    /// Names, and what is looked for.
    secrets: Vec<(String, Vec<u8>)>,
}

impl LeakPart {
    /// The same with what `parent` says besides.
    pub(super) fn inherit(&mut self, parent: &Self) {
        self.budget = self.budget.or(parent.budget);
        self.actions.extend(&parent.actions);
        let fresh = parent.secrets.iter().filter(|secret| !self.secrets.contains(secret));
        let fresh: Vec<_> = fresh.cloned().collect();
        self.secrets.extend(fresh);
    }

    /// # Errors
    /// There are too many secrets.
    pub(super) fn into_terms(self) -> Result<LeakTerms, String> {
        let mut actions = LeakActions::default();
        // The nearest last: it counts.
        for (flag, action) in self.actions.into_iter().rev() {
            actions = actions.with(flag, action);
        }
        let secrets = Secrets::new(self.secrets).map_err(|error| error.to_string())?;
        Ok(LeakTerms { budget: self.budget.unwrap_or(LeakBudget::AGENT), actions, secrets: secrets.into() })
    }
}

/// What `section` says. What is wrong is added to `wrong`, and left out.
pub(super) fn part(
    document: &Document,
    section: &AgentSection,
    files: SecretFiles<'_>,
    wrong: &mut Vec<Diagnostic>,
) -> LeakPart {
    let budget = section.leak_budget.as_ref().map(|budget| leak_budget(document, budget));
    let budget = budget.transpose().unwrap_or_else(|diagnostic| {
        wrong.push(diagnostic);
        None
    });
    LeakPart {
        budget,
        actions: actions(document, section.leak_actions.as_ref(), wrong),
        secrets: secrets(document, section, files, wrong),
    }
}

fn actions(
    document: &Document,
    chosen: Option<&Named<Spanned<String>>>,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<(LeakFlag, LeakAction)> {
    let mut actions = Vec::new();
    for (flag, action) in chosen.iter().flat_map(|chosen| &chosen.0) {
        let flag = parse_flag(document, flag).map_err(|diagnostic| wrong.push(diagnostic));
        let action = parse_action(document, action).map_err(|diagnostic| wrong.push(diagnostic));
        if let (Ok(flag), Ok(action)) = (flag, action) {
            actions.push((flag, action));
        }
    }
    actions
}

fn parse_flag(document: &Document, word: &Spanned<String>) -> Result<LeakFlag, Diagnostic> {
    LeakFlag::ALL.iter().copied().find(|flag| flag.as_str() == word.value).ok_or_else(|| {
        let known: Vec<&str> = LeakFlag::ALL.iter().map(|flag| flag.as_str()).collect();
        document
            .error(word.referenced, format!("unknown flag `{}`", word.value))
            .help(format!("known flags: {}", known.join(", ")))
    })
}

fn parse_action(document: &Document, word: &Spanned<String>) -> Result<LeakAction, Diagnostic> {
    LeakAction::ALL.into_iter().find(|action| action.as_str() == word.value).ok_or_else(|| {
        let known = LeakAction::ALL.map(LeakAction::as_str).join(", ");
        document
            .error(word.referenced, format!("unknown action `{}`", word.value))
            .help(format!("known actions: {known}"))
    })
}

fn secrets(
    document: &Document,
    section: &AgentSection,
    files: SecretFiles<'_>,
    wrong: &mut Vec<Diagnostic>,
) -> Vec<(String, Vec<u8>)> {
    let mut held: Vec<(String, Vec<u8>)> = Vec::new();
    let from_files = section.secrets.iter().map(|secret| (&secret.name, from_file(document, secret, files)));
    let given = section.honeytokens.iter().map(|token| (&token.name, given(document, token)));
    for (name, octets) in from_files.chain(given) {
        match octets.and_then(|octets| named(document, name, octets, &held)) {
            Ok(secret) => held.push(secret),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    held
}

/// The secret under its name, which reports show in its place.
fn named(
    document: &Document,
    name: &Spanned<String>,
    octets: Vec<u8>,
    held: &[(String, Vec<u8>)],
) -> Result<(String, Vec<u8>), Diagnostic> {
    let text = &name.value;
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_plain) {
        return Err(document
            .error(name.referenced, format!("invalid name of a secret: {text:?}"))
            .help(format!("write 1 to {MAX_NAME} letters, digits, `-`, `_` or `.`")));
    }
    if held.iter().any(|(held, _)| held == text) {
        return Err(document.error(name.referenced, format!("`{text}` is the name of a secret already")));
    }
    if held.len() >= Secrets::MAX {
        let title = format!("at most {} secrets and honeytokens are looked for", Secrets::MAX);
        return Err(document.error(name.referenced, title));
    }
    Ok((text.clone(), octets))
}

fn from_file(
    document: &Document,
    secret: &SecretFile,
    files: SecretFiles<'_>,
) -> Result<Vec<u8>, Diagnostic> {
    let (name, file) = (&secret.name.value, &secret.file);
    let folder = match files {
        SecretFiles::Below(folder) => folder,
        // A name has no such octet: none is taken for the secret.
        SecretFiles::Elsewhere => return Ok(format!("\0\0\0\0\0\0\0\0{name}").into_bytes()),
        SecretFiles::Denied => {
            return Err(document
                .error(file.referenced, format!("secret `{name}` cannot be read from a file here"))
                .label(
                    "this policy was handed in as a text, or is of a commit whose signature nobody looks at",
                )
                .help(
                    "put the policy into the daemon's `policy_dir`, or plant a honeytoken with a `value`",
                ));
        }
    };
    let read = read_octets(&folder.join(&file.value), Secrets::MAX_LENGTH as u64 + NEWLINE);
    let mut octets = match read {
        Ok(octets) => octets,
        Err(ReadError::TooLarge(..)) => return Err(too_long(document, file, name)),
        Err(error) => {
            let title = format!("failed to learn secret `{name}`");
            return Err(document.error(file.referenced, title).label(error.to_string()));
        }
    };
    if octets.pop_if(|octet| *octet == b'\n').is_some() {
        octets.pop_if(|octet| *octet == b'\r');
    }
    checked(document, file, name, octets)
}

fn given(document: &Document, token: &Honeytoken) -> Result<Vec<u8>, Diagnostic> {
    checked(document, &token.value, &token.name.value, token.value.value.clone().into_bytes())
}

fn checked(
    document: &Document,
    place: &Spanned<String>,
    name: &str,
    octets: Vec<u8>,
) -> Result<Vec<u8>, Diagnostic> {
    match octets.len() {
        0..Secrets::MIN_LENGTH => {
            Err(document.error(place.referenced, format!("secret `{name}` is too short")).label(format!(
                "it has {} bytes; fewer than {} are found by accident",
                octets.len(),
                Secrets::MIN_LENGTH
            )))
        }
        Secrets::MIN_LENGTH..=Secrets::MAX_LENGTH => Ok(octets),
        _ => Err(too_long(document, place, name)),
    }
}

fn too_long(document: &Document, place: &Spanned<String>, name: &str) -> Diagnostic {
    document
        .error(place.referenced, format!("secret `{name}` is too long"))
        .label(format!("at most {} bytes are looked for", Secrets::MAX_LENGTH))
        .help("name a file that holds the secret and nothing else")
}

/// Octets of the name of a secret at the most: it is shown in a line.
const MAX_NAME: usize = 48;
/// Octets of the longest end of a line, which is no part of a secret.
const NEWLINE: u64 = 2;
