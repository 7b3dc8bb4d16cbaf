//! What people are asked, on the wire.

use super::HumanGrant;
use crate::audit::Time;
use serde::{Deserialize, Serialize};

/// One element of `GET /v1/approvals`, oldest first: what one program asked for below one registered domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    pub id: u32,
    pub agent: String,
    /// The registered domain, or an address.
    pub group: String,
    /// The file name of the program; `-` where it is not known.
    pub process: String,
    /// `file:line` of the rule that wants an approval; None where no rule knows the destination.
    #[serde(default)]
    pub rule: Option<String>,
    /// With ports, where they were said.
    pub destinations: Vec<String>,
    /// How often it was asked for.
    pub asked: u64,
    /// Lookups and tunnels that wait for an answer.
    pub waiting: usize,
    pub first: Time,
    pub last: Time,
}

/// `POST /v1/approvals`: decides about a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    pub id: u32,
    pub decision: Decision,
    #[serde(default)]
    pub reason: Option<String>,
}

/// What people say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Decision {
    /// Each destination of the request is allowed.
    Approve {
        /// As in `1h`.
        #[serde(rename = "for")]
        lasts: String,
        /// One flow to each, and no more.
        #[serde(default)]
        once: bool,
        /// Also where a name has private addresses.
        #[serde(default)]
        private: bool,
    },
    Deny {
        /// How long the same program is denied the same domain without asking, as in `1h`.
        #[serde(default)]
        remember: Option<String>,
    },
}

/// The answer to [`Decide`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub id: u32,
    /// What is allowed.
    pub grants: Vec<HumanGrant>,
    /// The lines of `rules:` that would allow the same for ever.
    pub rules: Vec<String>,
}
