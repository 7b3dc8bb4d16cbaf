//! What people allow an agent for a time, on the wire.

use crate::audit::{RecordedOperator, Time};
use serde::{Deserialize, Serialize};

/// `POST /v1/grants`: allows a destination for a time. The answer is a [`HumanGrant`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRequest {
    /// Its name or number. None: the only one that runs.
    #[serde(default)]
    pub agent: Option<String>,
    /// A name, a wildcard, an address, a network or a URL, with or without a port.
    pub destination: String,
    /// None: `http` for names at port 80, `tls` for names at others, `tcp` for addresses.
    #[serde(default)]
    pub protocol: Option<String>,
    /// As in `1h`.
    #[serde(rename = "for")]
    pub lasts: String,
    /// Flows that may start.
    #[serde(default)]
    pub uses: Option<u64>,
    /// What may be sent, as in `10MB`.
    #[serde(default)]
    pub bytes: Option<String>,
    /// Whether the answers for the name may hold private addresses.
    #[serde(default)]
    pub private: bool,
    #[serde(default)]
    pub reason: Option<String>,
}

/// One element of `GET /v1/grants`, in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HumanGrant {
    pub id: u32,
    pub agent: String,
    /// A name, a wildcard or a network.
    pub destination: String,
    pub ports: Vec<u16>,
    pub protocol: String,
    pub since: Time,
    pub until: Time,
    /// Flows that may start; None: any number.
    #[serde(default)]
    pub uses: Option<u64>,
    /// Octets that may be sent; None: any number.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// How many of each are left.
    #[serde(default)]
    pub uses_left: Option<u64>,
    #[serde(default)]
    pub bytes_left: Option<u64>,
    #[serde(default)]
    pub reason: Option<String>,
    pub by: RecordedOperator,
    /// What whoever allowed it should know: that a rule allows it already.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The query of `GET /v1/grants`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantsRequest {
    /// The name or number of an agent. None: all of them.
    pub agent: Option<String>,
}

/// `POST /v1/grants/revoke`: takes back. The answer has the [`HumanGrant`]s that are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// None: all of `agent`.
    #[serde(default)]
    pub id: Option<u32>,
    #[serde(default)]
    pub agent: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}
