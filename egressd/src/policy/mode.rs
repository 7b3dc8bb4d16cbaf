//! Whether what is denied stays here.

use super::decision::Reason;

/// Whether what is denied stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Mode {
    #[default]
    Enforce,
    /// A destination that is denied is reached all the same, and recorded with the reason for which it would
    /// not be.
    Observe,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Enforce, Self::Observe];

    /// The word of policy files and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }

    /// The mode of a word of policy files.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }

    /// Whether an agent that is observed is let out although it is denied for `reason`: where that is about the
    /// destination alone. What is said, and how, and to this host, its link or its cloud, is denied in every
    /// mode.
    #[must_use]
    pub fn lifts(reason: Reason) -> bool {
        match reason {
            Reason::HostNotAllowed
            | Reason::DeniedByRule
            | Reason::PortNotAllowed
            | Reason::ProtocolNotAllowed
            | Reason::AddressNotGranted
            | Reason::GrantExpired
            | Reason::RuleExpired
            | Reason::ApprovalRequired
            | Reason::ResolverNotAllowed
            | Reason::ServerNameNotGranted => true,
            // Of the name.
            Reason::NameInvalid | Reason::QueryTypeNotAllowed | Reason::QueryMalformed => false,
            // Of people.
            Reason::ApprovalDenied | Reason::ApprovalTimedOut | Reason::ApprovalsExceeded => false,
            // Of the address.
            Reason::AddressSpecialPurpose => false,
            // Of us: what is not known cannot be let out.
            Reason::UpstreamFailed
            | Reason::GrantNotInstalled
            | Reason::AgentUnknown
            | Reason::OriginalDestinationUnknown
            | Reason::UpstreamUntrusted
            | Reason::InspectionRefused => false,
            // Of a policy that was replaced: the next flow is judged by the one that is.
            Reason::RuleRemoved => false,
            // Of what the socket is.
            Reason::SocketTypeNotAllowed
            | Reason::UnixSocketNotAllowed
            | Reason::DeviceNotAllowed
            | Reason::SystemCallNotAllowed
            | Reason::PacketNotAllowed
            | Reason::SourceForged
            | Reason::InboundNotAllowed => false,
            // Of bounds.
            Reason::LeakBudgetSpent
            | Reason::BudgetSpent
            | Reason::RateExceeded
            | Reason::NamesFrozen
            | Reason::NameSuspicious
            | Reason::AgentQuarantined
            | Reason::QuotaExceeded => false,
            // Of what is said.
            Reason::NotTls
            | Reason::HelloMalformed
            | Reason::HelloUnreadable
            | Reason::HelloSkipped
            | Reason::HelloTooLarge
            | Reason::HelloTimeout
            | Reason::ServerNameMissing
            | Reason::ServerNameChanged
            | Reason::EchNotAllowed
            | Reason::RequestMalformed
            | Reason::InitialMalformed
            | Reason::RequestNotAllowed
            | Reason::BodyTooLarge => false,
        }
    }
}
