//! What a judgement returns.

use super::{
    flow::{Destination, Flow},
    host::HostName,
    inspect::Inspection,
    leaks::Wildcard,
    rule::{Protocol, Rule, RuleId},
    source::Source,
};
use std::{fmt, net::IpAddr, sync::Arc};

/// Proof that a rule allowed a flow, or that it is only observed. Only this module's parent can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    pub(super) destination: Destination,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) rule: RuleId,
    pub(super) source: Option<Source>,
    pub(super) inspection: Option<Arc<Inspection>>,
    pub(super) observed: Option<Denial>,
}

impl Permit {
    /// A permit of `rule`.
    pub(super) fn by(rule: &Rule, flow: &Flow, address: Option<IpAddr>) -> Self {
        Self {
            rule: rule.id,
            source: Some(rule.source.clone()),
            inspection: rule.tls.inspection.clone(),
            ..Self::observed_at(flow, address)
        }
    }

    /// A permit that no rule stands behind.
    pub(super) fn observed_at(flow: &Flow, address: Option<IpAddr>) -> Self {
        Self {
            destination: flow.destination.clone(),
            address,
            port: flow.port,
            protocol: flow.protocol,
            rule: RuleId::OBSERVED,
            source: None,
            inspection: None,
            observed: None,
        }
    }

    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The one address that may be dialled; None where the flow was judged by name alone.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// Where the rule is written; None where there is none, and the flow is only observed.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// The denial that the flow would meet if nothing were only observed.
    #[must_use]
    pub fn observed(&self) -> Option<&Denial> {
        self.observed.as_ref()
    }

    /// What the rule says of requests; None: the bytes pass as they come.
    #[must_use]
    pub fn inspection(&self) -> Option<&Arc<Inspection>> {
        self.inspection.as_ref()
    }
}

/// Leave to look a name up, and what its addresses are then granted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    pub(super) name: HostName,
    pub(super) openings: Vec<Opening>,
    pub(super) private: bool,
    pub(super) types: Vec<u16>,
    pub(super) wildcard: Option<Wildcard>,
    pub(super) observed: Option<Denial>,
}

/// One (port, protocol) that a rule opens at the addresses of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    pub port: u16,
    pub protocol: Protocol,
    pub rule: RuleId,
}

impl Leave {
    /// Leave that no rule stands behind: what speaks its name goes by the proxy, which records it; the rest is
    /// the kernel's to observe.
    pub(super) fn observed_name(name: &HostName) -> Self {
        let opening = |port, protocol| Opening { port, protocol, rule: RuleId::OBSERVED };
        Self {
            name: name.clone(),
            openings: vec![opening(443, Protocol::Tls), opening(80, Protocol::Http)],
            private: false,
            types: Vec::new(),
            wildcard: None,
            observed: None,
        }
    }

    #[must_use]
    pub fn name(&self) -> &HostName {
        &self.name
    }

    /// What to grant for each address of the answer. Never empty.
    #[must_use]
    pub fn openings(&self) -> &[Opening] {
        &self.openings
    }

    /// Whether the rule lets the answer hold private addresses.
    #[must_use]
    pub fn private(&self) -> bool {
        self.private
    }

    /// Whether records of this type may be asked for, beside A and AAAA.
    #[must_use]
    pub fn has_type(&self, number: u16) -> bool {
        self.types.contains(&number)
    }

    /// The wildcard that allows the name; None where a rule names it exactly, so that the agent chose
    /// nothing of it, and where there is no rule.
    #[must_use]
    pub fn wildcard(&self) -> Option<&Wildcard> {
        self.wildcard.as_ref()
    }

    /// The denial that the name would meet if nothing were only observed.
    #[must_use]
    pub fn observed(&self) -> Option<&Denial> {
        self.observed.as_ref()
    }

    /// Whether a rule opens the name. If none does, the agent chose all of it.
    #[must_use]
    pub fn has_rule(&self) -> bool {
        self.openings.iter().any(|opening| opening.rule != RuleId::OBSERVED)
    }
}

/// Refusal and its cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    pub reason: Reason,
    /// The deny rule that matched, or the rule that came nearest.
    pub rule: Option<Source>,
}

impl Denial {
    /// A denial that no rule stands behind.
    #[must_use]
    pub fn because(reason: Reason) -> Self {
        Self { reason, rule: None }
    }

    /// A denial by, or nearest to, the rule at `source`.
    #[must_use]
    pub fn by(reason: Reason, source: &Source) -> Self {
        Self { reason, rule: Some(source.clone()) }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+) => {
        /// Why a flow is denied. A closed set: the words are part of the audit schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason there is, in the order of the gates.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The word of records and of `--reason`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word),+ }
            }

            /// One sentence for people and models that read a denial.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Reason::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

reasons! {
    /// No rule allows this host.
    HostNotAllowed = "host-not-allowed",
    /// A deny rule covers this destination.
    DeniedByRule = "denied-by-rule",
    /// A rule allows this host, but not at this port.
    PortNotAllowed = "port-not-allowed",
    /// A rule allows this host and port, but for another protocol.
    ProtocolNotAllowed = "protocol-not-allowed",
    /// The name is not a valid host name.
    NameInvalid = "name-invalid",
    /// Only A and AAAA queries of class IN are answered.
    QueryTypeNotAllowed = "query-type-not-allowed",
    /// The DNS message could not be read.
    QueryMalformed = "query-malformed",
    /// The address is special (private, loopback, metadata, ...), and no rule names it.
    AddressSpecialPurpose = "address-special-purpose",
    /// No upstream resolver gave an answer.
    UpstreamFailed = "upstream-failed",
    /// The grants could not be written to the kernel.
    GrantNotInstalled = "grant-not-installed",
    /// No rule and no live grant covers this address.
    AddressNotGranted = "address-not-granted",
    /// The grant for this address has expired; look the name up again.
    GrantExpired = "grant-expired",
    /// The rule that allowed this flow was removed.
    RuleRemoved = "rule-removed",
    /// The rule that allowed this host has expired.
    RuleExpired = "rule-expired",
    /// Somebody has to approve this first, see `egressctl approvals`: try again then.
    ApprovalRequired = "approval-required",
    /// Somebody was asked to approve this, and denied it.
    ApprovalDenied = "approval-denied",
    /// Somebody was asked to approve this, and has not decided yet: try again.
    ApprovalTimedOut = "approval-timed-out",
    /// The agent asks for more approvals than people can look at: try again in a minute.
    ApprovalsExceeded = "approvals-exceeded",
    /// What the rule, or the agent, may use up is used up: see `egressctl budgets`.
    BudgetSpent = "budget-spent",
    /// Flows of the rule, or of the agent, start faster than they may.
    RateExceeded = "rate-exceeded",
    /// Sockets other than TCP and UDP over IP are not allowed.
    SocketTypeNotAllowed = "socket-type-not-allowed",
    /// The Unix socket belongs to a process outside of the agent.
    UnixSocketNotAllowed = "unix-socket-not-allowed",
    /// Agents use no devices but terminals, graphics and those that every program needs.
    DeviceNotAllowed = "device-not-allowed",
    /// Agents use neither io_uring nor bpf(2).
    SystemCallNotAllowed = "system-call-not-allowed",
    /// The packet is not plain TCP or UDP (options, extension headers, fragments).
    PacketNotAllowed = "packet-not-allowed",
    /// The source address is not the agent's own.
    SourceForged = "source-forged",
    /// Nothing may connect to an agent.
    InboundNotAllowed = "inbound-not-allowed",
    /// The name is a resolver's, which would answer what this one denies; a rule has to name it exactly.
    ResolverNotAllowed = "resolver-not-allowed",
    /// What may leak through names of wildcards is used up; it comes back hour by hour.
    LeakBudgetSpent = "leak-budget-spent",
    /// Names of this wildcard look like a leak: only known ones are looked up, until somebody approves or none
    /// was refused for an hour.
    NamesFrozen = "names-frozen",
    /// The name looks like a leak.
    NameSuspicious = "name-suspicious",
    /// The agent is in quarantine: only names that a rule spells out are looked up.
    AgentQuarantined = "agent-quarantined",
    /// The agent reached one of its bounds.
    QuotaExceeded = "quota-exceeded",
    /// The kernel has no policy for this cgroup.
    AgentUnknown = "agent-unknown",
    /// The flow reached the proxy without an original destination.
    OriginalDestinationUnknown = "original-destination-unknown",
    /// The first bytes are not a TLS ClientHello.
    NotTls = "not-tls",
    /// The ClientHello is not valid.
    HelloMalformed = "hello-malformed",
    /// The kernel could not read the ClientHello; the next connection goes through the proxy.
    HelloUnreadable = "hello-unreadable",
    /// Bytes were sent before the ClientHello, or before the server answered it.
    HelloSkipped = "hello-skipped",
    /// The ClientHello is larger than 64 KiB.
    HelloTooLarge = "hello-too-large",
    /// The first request or ClientHello did not arrive within five seconds.
    HelloTimeout = "hello-timeout",
    /// The ClientHello names no server.
    ServerNameMissing = "server-name-missing",
    /// The server name is allowed, but it does not resolve to this address.
    ServerNameNotGranted = "server-name-not-granted",
    /// The second ClientHello of the flow names another server than the first.
    ServerNameChanged = "server-name-changed",
    /// Encrypted Client Hello may hide another server name.
    EchNotAllowed = "ech-not-allowed",
    /// The HTTP request could not be read, or its host is ambiguous.
    RequestMalformed = "request-malformed",
    /// The QUIC Initial could not be read.
    InitialMalformed = "initial-malformed",
    /// The rule allows this host, but not this method and path.
    RequestNotAllowed = "request-not-allowed",
    /// The request is larger than the rule allows.
    BodyTooLarge = "body-too-large",
    /// The server's certificate is not valid for this name.
    UpstreamUntrusted = "upstream-untrusted",
    /// The flow cannot be inspected: the agent does not trust us (a pinned certificate), or the server wants a
    /// certificate of the agent's.
    InspectionRefused = "inspection-refused",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(|| UnknownReason(word.to_owned()))
    }
}

/// The word is not one of [`Reason::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a denial reason")]
pub struct UnknownReason(String);
