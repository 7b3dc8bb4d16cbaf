//! The repository that policies come from, and the commits that were seen there.

use crate::audit::Time;
use serde::{Deserialize, Serialize};

/// In the answer to `GET /v1/status`, where policies come from git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Its address, without a password.
    pub git: String,
    /// In full, as in `refs/heads/main`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The folder of policies; empty for the top of the repository.
    pub path: String,
    /// Whether commits must be signed.
    pub signed: bool,
    /// The commit in force.
    pub revision: Option<String>,
    /// Since when.
    pub since: Option<Time>,
    /// It was rolled back to, and newer commits wait.
    pub pinned: bool,
    /// The commit that waits.
    pub waiting: Option<String>,
    /// When the repository was last asked with success.
    pub checked: Option<Time>,
    pub failure: Option<SourceFailure>,
}

/// Why the newest commit is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFailure {
    /// None where the repository could not be asked.
    pub commit: Option<String>,
    /// May have several lines, as diagnostics of a policy have.
    pub why: String,
    pub since: Time,
}

/// One element of `GET /v1/source/history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRevision {
    pub time: Time,
    pub commit: String,
    pub outcome: RevisionOutcome,
    /// Of one that was refused.
    #[serde(default)]
    pub why: Option<String>,
    #[serde(default)]
    pub subject: String,
    #[serde(default)]
    pub author: String,
    /// Whose key signed it; None where that was not looked at.
    #[serde(default)]
    pub signer: Option<String>,
    /// It is in force.
    #[serde(default)]
    pub in_force: bool,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevisionOutcome {
    Entered,
    Refused,
    RolledBack,
}

impl RevisionOutcome {
    /// The word of columns.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entered => "entered",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// `POST /v1/source/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The first digits of a commit that was in force. None: the one before the one in force.
    #[serde(default)]
    pub revision: Option<String>,
}
