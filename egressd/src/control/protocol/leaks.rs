//! What is asked and told of what agents let out through names.

use crate::audit::Time;
use serde::{Deserialize, Serialize};

/// The query of `GET /v1/leaks`. The answer is a list of [`AgentLeaks`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaksRequest {
    /// None: every agent that runs.
    pub agent: Option<String>,
}

/// `POST /v1/leaks/approve`: lifts what flags did. What was let out stays counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveLeaks {
    pub agent: String,
    /// None: every zone of the agent, and its quarantine.
    #[serde(default)]
    pub zone: Option<String>,
}

/// The ledger of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLeaks {
    pub agent: String,
    /// Only names that rules spell out are looked up.
    pub quarantined: bool,
    /// Over all rules.
    pub total: LeakLevel,
    /// Zones of which a wildcard let names through, in the order of their names.
    pub accounts: Vec<ZoneLeaks>,
    /// Zones that are denied, those with most names first. Nothing of them left.
    pub denied: Vec<DeniedZone>,
}

/// How much of a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakLevel {
    pub used_bits: u32,
    pub capacity_bits: u32,
    /// What comes back in an hour.
    pub hourly_bits: u32,
}

/// What one zone can have learnt through names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneLeaks {
    /// What the wildcard stands above.
    pub zone: String,
    pub level: LeakLevel,
    /// Names that left for the first time within the last hour.
    pub names_this_hour: u32,
    /// Names that left for the first time within the last 24 hours.
    pub names_today: u32,
    /// Names that go on while others are frozen.
    pub known_names: u32,
    pub frozen: bool,
    pub rate_limited: bool,
    /// Names that were refused.
    pub refused: u64,
    /// The last of each flag.
    pub flags: Vec<RaisedFlag>,
}

/// A flag that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedFlag {
    /// As in `E3`.
    pub id: String,
    /// Its word.
    pub flag: String,
    /// The word of what was done.
    pub action: String,
    pub at: Time,
    /// What was seen. It may quote names that the agent chose.
    pub evidence: String,
    /// What the flag means.
    pub explanation: String,
}

/// What may be let out through names of one wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakBounds {
    /// What the wildcard stands above, where its names can be seen.
    pub zone: String,
    /// `file:line` of its rule.
    pub rule: String,
    /// Through names of this zone.
    pub bytes_a_day: u32,
    /// Through names of all wildcards of the agent.
    pub agent_bytes_a_day: u32,
}

/// What was asked for below a zone that is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedZone {
    pub zone: String,
    pub names: u64,
    /// Its names look like a tunnel's.
    pub flagged: bool,
}
