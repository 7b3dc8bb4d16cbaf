//! One line of a policy.

use super::{
    approval::Approval, budget::Budget, leaks::LeakBudget, mode::Mode, pattern::Pattern, risk::Risk,
    source::Source, special::special_within, term::Term, tls::TlsTerms,
};
use ipnet::IpNet;
use std::{fmt, net::IpAddr};

/// A rule that allows, or, in a policy's `deny` list, one that denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: RuleId,
    pub source: Source,
    pub subject: Subject,
    /// Sorted, without duplicates. Empty in a deny rule that covers every port; never empty in a
    /// rule that allows.
    pub ports: Vec<u16>,
    /// None only in a deny rule that covers every protocol.
    pub protocol: Option<Protocol>,
    /// The name's answers may be private addresses.
    pub private: bool,
    pub reason: Option<String>,
    pub names: NameTerms,
    pub tls: TlsTerms,
    pub term: Term,
    /// Of all flows by this rule, beside that of the policy.
    pub budget: Budget,
    pub mode: Mode,
    /// None where nobody judged it.
    pub risk: Option<Risk>,
}

/// What a rule says of looking its names up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameTerms {
    /// Of a wildcard; [`LeakBudget::RULE`] where the rule does not say.
    pub leak_budget: Option<LeakBudget>,
    /// Record types beside A and AAAA, by their numbers (RFC 6895, section 3.1), sorted.
    pub types: Vec<u16>,
    /// Whether somebody has to say yes first; also of a network.
    pub approval: Approval,
}

impl Rule {
    /// Whether this rule covers `port`.
    #[must_use]
    pub fn covers_port(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.binary_search(&port).is_ok()
    }

    /// Whether this rule covers flows that speak `protocol`.
    #[must_use]
    pub fn covers_protocol(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
    }
}

/// Identity of a rule by its content: a reload that leaves a rule as it was keeps its id, so
/// that live flows keep their leave. Never 0, which the kernel programs read as "no rule".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No rule's: of what the mode of a policy lets out to be observed.
    pub const OBSERVED: Self = Self(u32::MAX);
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Host(Pattern),
    Network(IpNet),
}

impl Subject {
    /// Whether this is a network that holds `address`.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&address),
            Self::Host(_) => false,
        }
    }

    /// Whether this is about more than one name.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        match self {
            Self::Host(pattern) => pattern.is_wildcard(),
            Self::Network(_) => false,
        }
    }
}

impl Subject {
    /// Whether this is a network that opens `address`: one that holds it, and names it where it is
    /// special. `0.0.0.0/0` opens no metadata service.
    #[must_use]
    pub fn opens(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => {
                network.contains(&address)
                    && !special_within(*network).iter().any(|hole| hole.contains(&address))
            }
            Self::Host(_) => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// What a flow must speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, with a TLS ClientHello that names the granted host.
    Tls,
    /// TCP, with HTTP/1.1 requests that each name the granted host.
    Http,
    /// TCP, any bytes.
    Tcp,
    /// UDP, any bytes.
    Udp,
    /// UDP, with a QUIC Initial (RFC 9000) whose ClientHello names the granted host.
    Quic,
}

impl Protocol {
    pub const ALL: [Self; 5] = [Self::Tls, Self::Http, Self::Tcp, Self::Udp, Self::Quic];

    /// The protocol of a word of policy files and records.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == word)
    }

    /// The word of policy files and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Quic => "quic",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
