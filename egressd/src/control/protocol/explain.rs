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
    /// The reason that its rule gives.
    #[serde(default)]
    pub why: Option<String>,
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
    /// Where its rules allow it: the budgets that it would use up.
    #[serde(default)]
    pub budgets: Vec<BudgetState>,
    /// The gates in the order in which it comes to them.
    #[serde(default)]
    pub gates: Vec<GateState>,
    /// What a lookup of the name would be told; None of an address.
    #[serde(default)]
    pub resolver: Option<Resolution>,
    /// What would have to be written otherwise for it to be allowed; None where it is.
    #[serde(default)]
    pub change: Option<SmallestChange>,
    /// The section that is for the agent, where it is not the one of its name; of a policy file that was asked.
    #[serde(default)]
    pub section: Option<String>,
    /// What a URL asks for, as in `GET /repos`, where the rule that opens it judges requests.
    #[serde(default)]
    pub request: Option<String>,
}

/// What one gate does about the flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateState {
    pub gate: Gate,
    pub step: Step,
    /// The word of the reason, where it is denied, held or observed.
    pub reason: Option<String>,
}

/// Where a flow may be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// What looks its name up.
    Resolver,
    /// What judges addresses, ports and transports.
    Address,
    /// What reads the name that a flow of TLS, HTTP or QUIC says.
    ServerName,
    /// What counts flows and octets.
    Budget,
}

impl Gate {
    /// In the order of a flow.
    pub const ALL: [Self; 4] = [Self::Resolver, Self::Address, Self::ServerName, Self::Budget];
}

/// How far a flow comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Passed,
    /// It passes, and is recorded as one that would be denied.
    Observed,
    Denied,
    /// It waits for people.
    Held,
    /// An earlier gate ends it.
    NotReached,
    /// There is nothing for this gate to judge.
    NotAsked,
}

/// What the resolver would tell a lookup of the addresses of a name. Nobody was asked for this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    pub answer: ResolverAnswer,
    /// As in `REFUSED`. None of addresses, and where no daemon knows.
    pub code: Option<String>,
    /// The info code of its Extended DNS Error (RFC 8914).
    pub ede: Option<u16>,
    /// The word of the reason of a refusal.
    pub reason: Option<String>,
    /// `file:line` of the rule that refuses, or came nearest.
    pub rule: Option<String>,
    /// What the reason cannot say.
    pub detail: Option<String>,
    /// What is known of the name, whether it would be told or not.
    pub addresses: Vec<KnownAddress>,
    /// Who may be asked, where the name would leave.
    pub upstreams: Vec<String>,
    /// What the leak ledger would charge for that.
    pub charge: Option<LeakCharge>,
}

impl Resolution {
    /// An answer without anything else.
    #[must_use]
    pub fn of(answer: ResolverAnswer) -> Self {
        Self {
            answer,
            code: None,
            ede: None,
            reason: None,
            rule: None,
            detail: None,
            addresses: Vec::new(),
            upstreams: Vec::new(),
            charge: None,
        }
    }
}

/// What kind of answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolverAnswer {
    /// The addresses that are known, without a byte to anybody.
    Known,
    /// That there is no address, without a byte to anybody.
    Absent,
    /// What upstream says.
    Asked,
    /// A failure, until upstream answers again.
    Failed,
    /// That the name does not exist, whatever upstream would say.
    Hidden,
    /// Nothing, until somebody approves the name.
    Held,
    Refused,
}

impl ResolverAnswer {
    /// Whether it is the policy's, and ends every flow to the name.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        match self {
            Self::Hidden | Self::Held | Self::Refused => true,
            Self::Known | Self::Absent | Self::Asked | Self::Failed => false,
        }
    }
}

/// An address of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    pub address: IpAddr,
    /// Until it is looked up again.
    pub seconds_left: u64,
}

/// What a name costs that leaves by a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakCharge {
    pub bits: u32,
    /// Left of the zone of the wildcard.
    pub zone_left_bits: u32,
    /// Left over all wildcards of the agent.
    pub agent_left_bits: u32,
}

/// The smallest change of a policy. Where neither `add` nor `remove` says one, `note` says why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallestChange {
    /// A line of `rules:`, which allows this destination and nothing else.
    pub add: Option<String>,
    /// `file:line` of rules that deny, and would have to go first. What they deny beside it is judged by the
    /// other rules then.
    pub remove: Vec<String>,
    /// A sentence without its full stop.
    pub note: Option<String>,
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
    /// Who would read the server name at this moment, as in `kernel`; of an agent that runs.
    #[serde(default)]
    pub read_by: Option<String>,
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
