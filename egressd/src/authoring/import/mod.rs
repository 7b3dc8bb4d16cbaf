//! From the allowlists of other tools to a policy file of ours, with a report of what did not fit.
//!
//! The law: nothing is allowed that the other tool denies, unless whoever imports asks for it, and nothing
//! is left out in silence. What every importer takes for granted is in [`ASSUMPTIONS`].

mod cilium;
mod claude;
mod codex;
mod copilot;
mod docker;
mod draft;
mod gh_aw;
mod harden_runner;
mod names;
mod order;
mod overlap;
mod parts;
mod ports;
mod squid;
mod tree;
mod yaml;

use super::fate::{Translated, quote};
use crate::{
    config::{self, ConfigError},
    policy::AgentName,
};
use draft::Draft;
use serde::Serialize;
use std::{fmt, path::Path};

/// A language from which policies are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Steps of GitHub workflows: `step-security/harden-runner`.
    HardenRunner,
    /// GitHub Agentic Workflows: Markdown with `network:` in its front matter.
    GhAw,
    /// The custom allowlist of Copilot's coding agent.
    Copilot,
    /// `config.toml` of Codex.
    Codex,
    /// `settings.json` of Claude Code.
    ClaudeCode,
    /// The settings of Anthropic's sandbox runtime.
    Srt,
    /// Docker sandboxes: command lines of `sbx policy` and `docker sandbox network proxy`, and rules in JSON.
    Docker,
    /// `CiliumNetworkPolicy` and `CiliumClusterwideNetworkPolicy`.
    Cilium,
    /// `squid.conf`.
    Squid,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::HardenRunner,
        Self::GhAw,
        Self::Copilot,
        Self::Codex,
        Self::ClaudeCode,
        Self::Srt,
        Self::Docker,
        Self::Cilium,
        Self::Squid,
    ];

    /// The word of the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HardenRunner => "harden-runner",
            Self::GhAw => "gh-aw",
            Self::Copilot => "copilot",
            Self::Codex => "codex",
            Self::ClaudeCode => "claude-code",
            Self::Srt => "srt",
            Self::Docker => "docker",
            Self::Cilium => "cilium",
            Self::Squid => "squid",
        }
    }

    /// Whether its files may hold several policies.
    fn tells_policies_apart(self) -> bool {
        match self {
            Self::HardenRunner | Self::Codex | Self::Docker | Self::Cilium | Self::Squid => true,
            Self::GhAw | Self::Copilot | Self::ClaudeCode | Self::Srt => false,
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What whoever imports wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose policy it becomes.
    pub agent: AgentName,
    /// Where a file holds several policies, the one that is meant.
    pub only: Option<String>,
    pub widening: Widening,
}

/// Whether a rule may allow more than what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Widening {
    Never,
    /// Where nothing exact can be written, something wider is, and reported.
    Allowed,
}

/// A policy that was translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// A whole policy file, with what needs to be known of it as comments. It compiles.
    pub policy: String,
    /// Every line of the other tool's, in the order of its file.
    pub report: Vec<Translated>,
}

impl Imported {
    /// Whether something was widened or lost.
    #[must_use]
    pub fn needs_a_look(&self) -> bool {
        self.report.iter().any(|line| line.fate.needs_a_look())
    }
}

/// What every importer takes for granted.
pub const ASSUMPTIONS: [&str; 3] = [
    "port 443 speaks TLS and port 80 HTTP, which name the host; UDP 443 speaks QUIC",
    "an agent that has this policy is one whom the file is about",
    "names with private addresses stay closed until their rule says `private: true`",
];

/// Translates `text`, which stands in `file`.
///
/// # Errors
/// The text is not of this kind, or too large, or holds several policies of which none was chosen.
pub fn import(kind: Kind, file: &str, text: &str, options: &Options) -> Result<Imported, ImportError> {
    if text.len() as u64 > config::MAX_FILE {
        return Err(ImportError::TooLarge(file.to_owned()));
    }
    let file = quote(file);
    let mut draft = Draft::new(&file, options);
    if !kind.tells_policies_apart() {
        draft.choose(&[])?;
    }
    match kind {
        Kind::HardenRunner => harden_runner::read(text, &mut draft)?,
        Kind::GhAw => gh_aw::read(text, &mut draft)?,
        Kind::Copilot => copilot::read(text, &mut draft),
        Kind::Codex => codex::read(text, &mut draft)?,
        Kind::ClaudeCode => claude::settings(text, &mut draft)?,
        Kind::Srt => claude::runtime(text, &mut draft)?,
        Kind::Docker => docker::read(text, &mut draft)?,
        Kind::Cilium => cilium::read(text, &mut draft)?,
        Kind::Squid => squid::read(text, &mut draft)?,
    }
    if draft.size() > MAX_RULES {
        return Err(ImportError::TooMany(draft.size()));
    }
    let lines = draft.finish();
    // Allowlists and package tools are of the machine where the policy will be in force.
    let own = yaml::render(kind, &options.agent, &lines, yaml::Part::OwnRules);
    config::load_str("the translation", &own, Path::new(""), &[]).map_err(ImportError::Refused)?;
    let policy = yaml::render(kind, &options.agent, &lines, yaml::Part::Whole);
    Ok(Imported { policy, report: lines.into_iter().map(|line| line.translated).collect() })
}

/// The most rules that a policy of ours has; to compare denials with what they take from takes its square.
const MAX_RULES: usize = 4096;

/// Why nothing was translated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("failed to read `{0}`: larger than {max} octets: split it", max = config::MAX_FILE)]
    TooLarge(String),
    #[error("found {0} rules, at most {MAX_RULES} fit in a policy: split it")]
    TooMany(usize),
    #[error("failed to read `{place}`: {why}")]
    Syntax { place: String, why: String },
    #[error("found {0} in `{1}`: check that the file is what `--from` says")]
    Nothing(&'static str, String),
    #[error("found several policies in `{file}`: choose one with --only: {names}")]
    Several { file: String, names: String },
    #[error("found no policy `{only}` in `{file}`: {}", choice(names))]
    NoSuch { file: String, only: String, names: String },
    #[error("failed to write a policy: the translation does not compile\n{0}")]
    Refused(ConfigError),
}

fn choice(names: &str) -> String {
    match names.is_empty() {
        true => "it holds one policy: leave --only out".to_owned(),
        false => format!("choose one with --only: {names}"),
    }
}
