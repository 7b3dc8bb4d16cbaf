//! What an edge reports of one flow. The log and the feed turn it into a record.

use crate::policy::{AgentName, Denial, Destination, Permit, Process, Protocol, Reason, Revision, Source};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// What happened to one flow, as the edge that judged it saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub agent: AgentName,
    pub verdict: Verdict,
    pub gate: Gate,
    /// Who read the server name, where that was looked at.
    pub path: Option<Path>,
    pub process: Option<Process>,
    /// As the agent named it.
    pub destination: Option<Destination>,
    /// On the wire, where it is known beside a name.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub protocol: Spoken,
    /// None where the verdict is allow.
    pub reason: Option<Reason>,
    /// Of a flow that is allowed only to be observed: why it would be denied.
    pub observed: Option<Reason>,
    /// The rule that allowed, denied or came nearest, also of a denial that is only observed.
    pub rule: Option<Source>,
    /// What the reason cannot say: a query type, a server name that was not granted, ...
    pub detail: Option<String>,
    /// How many flows this event stands for; more than 1 where the kernel aggregated.
    pub count: u64,
    /// The commit of the policy that judged, which the recorder fills in.
    pub revision: Option<Revision>,
}

impl Event {
    /// The event of a denial, to be completed with what is known.
    #[must_use]
    pub fn denied(agent: &AgentName, gate: Gate, protocol: Spoken, denial: &Denial) -> Self {
        Self {
            verdict: Verdict::Deny,
            reason: Some(denial.reason),
            rule: denial.rule.clone(),
            ..Self::empty(agent, gate, protocol)
        }
    }

    /// The event of a flow that a rule allowed, or that is only observed.
    #[must_use]
    pub fn allowed(agent: &AgentName, gate: Gate, protocol: Spoken, permit: &Permit) -> Self {
        Self {
            destination: Some(permit.destination().clone()),
            address: permit.address(),
            port: Some(permit.port()),
            observed: permit.observed().map(|denial| denial.reason),
            rule: permit.observed().map_or_else(|| permit.source().cloned(), |denial| denial.rule.clone()),
            ..Self::empty(agent, gate, protocol)
        }
    }

    fn empty(agent: &AgentName, gate: Gate, protocol: Spoken) -> Self {
        Self {
            agent: agent.clone(),
            verdict: Verdict::Allow,
            gate,
            path: None,
            process: None,
            destination: None,
            address: None,
            port: None,
            protocol,
            reason: None,
            observed: None,
            rule: None,
            detail: None,
            count: 1,
            revision: None,
        }
    }
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Allow,
    Deny,
}

impl Verdict {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Which of the three gates judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The resolver.
    Name,
    /// The kernel programs.
    Address,
    /// The proxy.
    ServerName,
}

impl Gate {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Address => "address",
            Self::ServerName => "server-name",
        }
    }
}

/// Who read the server name of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// The kernel programs, on the agent's own socket.
    Kernel,
    /// The proxy, which relays the bytes as they come.
    Proxy,
    /// The proxy, which ended the TLS of the agent and began one of its own.
    Inspection,
}

impl Path {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
            Self::Inspection => "inspection",
        }
    }
}

/// What the flow spoke, as far as the gate could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spoken {
    Dns,
    Of(Protocol),
    /// Another IP protocol, by its IANA number.
    Ip(u8),
    /// A socket of another address family, by its `AF_` number.
    Family(u16),
    /// Nothing: a device, or a system call.
    None,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("dns"),
            Self::Of(protocol) => protocol.fmt(f),
            Self::Ip(1) => f.write_str("icmp"),
            Self::Ip(58) => f.write_str("icmp6"),
            Self::Ip(6) => f.write_str("tcp"),
            Self::Ip(17) => f.write_str("udp"),
            Self::Ip(number) => write!(f, "ip-{number}"),
            Self::Family(1) => f.write_str("unix"),
            Self::Family(number) => write!(f, "family-{number}"),
            Self::None => f.write_str("none"),
        }
    }
}
