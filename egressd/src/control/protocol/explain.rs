//! What is asked and told of one flow that nobody has started.

use super::{BudgetState, LeakBounds};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The query of `GET /v1/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// A host name, an address, with or without a port, or a URL.
    pub host: String,
    pub port: Option<u16>,
    /// `tls`, `http`, `tcp` or `udp`; None: what rules open at that port, else what is usual there.
    pub protocol: Option<String>,
    /// None: the policy of agents that have none of their own name.
    pub agent: Option<String>,
}

/// What the enforcing matcher says of one flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub verdict: crate::audit::Verdict,
    pub agent: String,
    pub destination: String,
    pub port: u16,
    pub protocol: String,
    /// The word of the reason, where it is denied.
    pub reason: Option<String>,
    /// The word of the reason for which it would be denied, where it is allowed only to be observed.
    #[serde(default)]
    pub observed: Option<String>,
    /// The reason as a sentence.
    pub explanation: Option<String>,
    /// `file:line` of the rule that allowed, denied or came nearest.
    pub rule: Option<String>,
    /// The line of YAML that would allow it.
    pub remedy: Option<String>,
    /// What is open to that name, as in `443/tls`.
    pub open: Vec<String>,
    /// The record types that may be asked for beside addresses, as in `TXT`.
    #[serde(default)]
    pub types: Vec<String>,
    /// Where it is looked up for a wildcard.
    #[serde(default)]
    pub leak: Option<LeakBounds>,
    /// Where it is allowed, and has to name its server in a ClientHello.
    #[serde(default)]
    pub tls: Option<TlsBounds>,
    /// How long the rule counts that allows it, as in `expires: 2026-12-31T00:00:00Z`. None: for ever.
    #[serde(default)]
    pub term: Option<String>,
    /// What the rule that allows it says an agent can do there, as in `external`.
    #[serde(default)]
    pub risk: Option<String>,
    /// Rules for networks that open this port, as in `192.0.2.0/24 (FILE:LINE)`: where a name's own rules do not,
    /// its addresses may lie in them.
    #[serde(default)]
    pub networks: Vec<String>,
    /// The same of rules that deny: where a name is allowed, its addresses must not lie in them.
    #[serde(default)]
    pub denied_networks: Vec<String>,
    /// What lookups of the agent have earned it of this destination, soonest to end first; of one that runs.
    #[serde(default)]
    pub grants: Vec<LiveGrant>,
    /// Where it is allowed: the budgets that it would use up.
    #[serde(default)]
    pub budgets: Vec<BudgetState>,
}

/// Leave that a lookup earned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveGrant {
    pub name: String,
    pub address: IpAddr,
    pub port: u16,
    pub protocol: String,
    /// Until then, new flows may start.
    pub seconds_left: u64,
}

/// What a rule says of flows that speak TLS, in the words of policy files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsBounds {
    /// Who reads the server name, as in `auto`; None where there is no choice.
    pub gate: Option<String>,
    /// What becomes of Encrypted Client Hello, as in `grease`.
    pub ech: String,
    pub inspection: Option<InspectionBounds>,
}

/// What a rule that inspects says of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectionBounds {
    /// As in `GET /repos/**`. None: all.
    pub allow: Option<Vec<String>>,
    /// Octets of one request's body.
    pub max_body: Option<u64>,
    /// Octets of the bodies of one connection.
    pub max_bodies: Option<u64>,
    /// Header fields that are set, with the names of their credentials, as in `authorization: forge`.
    pub inject: Vec<String>,
}
