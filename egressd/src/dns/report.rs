//! How a denial is told: to the agent, and to the log.

use super::{
    answer::{Answer, Code, Explanation, Info},
    query::{QueryError, Unreadable},
    upstream::LookupError,
};
use crate::{
    audit::{Event, Gate, Spoken, Verdict},
    policy::{Agent, Denial, Destination, HostName, OriginLookup, Process, Reason, Source, Transport},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A denial, and what its reason cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub denial: Denial,
    pub detail: Option<String>,
    /// What it is called in DNS, where that is more than its reason.
    pub info: Option<Info>,
}

impl Refusal {
    /// A refusal that no rule stands behind.
    #[must_use]
    pub fn because(reason: Reason, detail: impl Into<Option<String>>) -> Self {
        Self { denial: Denial::because(reason), detail: detail.into(), info: None }
    }

    /// What the agent is told.
    #[must_use]
    pub fn answer(&self, name: Option<&HostName>) -> Answer {
        let (code, info) = self.codes();
        Answer::Error { code, explanation: Explanation { info, text: self.text(name) } }
    }

    /// How it is told in DNS.
    #[must_use]
    pub fn codes(&self) -> (Code, Info) {
        let (code, info) = codes(self.denial.reason);
        (code, self.info.unwrap_or(info))
    }

    /// A sentence that a model can act on: what, why, and how to get leave.
    fn text(&self, name: Option<&HostName>) -> String {
        let reason = self.denial.reason;
        match (reason, name, &self.denial.rule) {
            (Reason::HostNotAllowed, Some(name), None) => {
                format!("egressd: {reason}: no rule allows {name}; ask for: - host: {name}")
            }
            (_, _, Some(rule)) => format!("egressd: {reason}: {} ({rule})", reason.explanation()),
            (_, _, None) => format!("egressd: {reason}: {}", reason.explanation()),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { denial, detail: None, info: None }
    }
}

impl From<LookupError> for Refusal {
    /// A failed lookup is never leave: whatever went wrong, the agent gets no address.
    fn from(error: LookupError) -> Self {
        let info = matches!(error, LookupError::Bogus(_)).then_some(Info::DnssecBogus);
        Self { info, ..Self::because(Reason::UpstreamFailed, error.to_string()) }
    }
}

/// The answer to a message that could not be read; None where there must not be one.
#[must_use]
pub fn unreadable(message: &Unreadable) -> (Refusal, Option<Answer>) {
    let (reason, code) = match &message.error {
        QueryError::NoHeader | QueryError::Response => (Reason::QueryMalformed, None),
        QueryError::Name { .. } => (Reason::NameInvalid, Some(Code::Refused)),
        QueryError::Class(..) => (Reason::QueryTypeNotAllowed, Some(Code::Refused)),
        QueryError::Opcode(_) => (Reason::QueryMalformed, Some(Code::NotImp)),
        QueryError::EdnsVersion(_) => (Reason::QueryMalformed, Some(Code::BadVers)),
        QueryError::Questions(_)
        | QueryError::Records
        | QueryError::Truncated(_)
        | QueryError::Excess(_)
        | QueryError::LabelType
        | QueryError::NameTooLong
        | QueryError::Edns => (Reason::QueryMalformed, Some(Code::FormErr)),
    };
    let refusal = Refusal::because(reason, message.error.to_string());
    let explanation =
        Explanation { info: Info::Prohibited, text: format!("egressd: {reason}: {}", message.error) };
    let answer = code.map(|code| Answer::Error { code, explanation });
    (refusal, answer)
}

/// Who asks: the agent that the listener belongs to, and the socket that the kernel redirected.
#[derive(Clone)]
pub struct Asker {
    pub agent: Arc<Agent>,
    pub transport: Transport,
    pub peer: SocketAddr,
    pub origins: Arc<dyn OriginLookup>,
}

impl Asker {
    /// The event of a denial.
    #[must_use]
    pub fn denied(&self, refusal: &Refusal, name: Option<&HostName>) -> Event {
        Event {
            process: self.process(),
            destination: name.cloned().map(Destination::Name),
            detail: refusal.detail.clone(),
            ..Event::denied(self.agent.name(), Gate::Name, Spoken::Dns, &refusal.denial)
        }
    }

    /// The event of a lookup that was answered.
    #[must_use]
    pub fn allowed(&self, name: &HostName, address: Option<IpAddr>, by: Allowed) -> Event {
        Event {
            agent: self.agent.name().clone(),
            verdict: Verdict::Allow,
            gate: Gate::Name,
            path: None,
            process: self.process(),
            destination: Some(Destination::Name(name.clone())),
            address,
            port: None,
            protocol: Spoken::Dns,
            reason: None,
            observed: by.observed,
            rule: by.rule,
            detail: None,
            count: 1,
            revision: None,
        }
    }

    /// The process behind the socket, as far as the kernel can say.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.origins.origin(self.agent.id(), self.transport, self.peer)?.process
    }
}

/// By what a lookup is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The rule that allows the name; or, where it is only observed, that denies it or came nearest.
    pub rule: Option<Source>,
    /// Why it would be denied.
    pub observed: Option<Reason>,
}

/// How each reason is told in DNS. What another try could cure is a failure, the rest a refusal.
fn codes(reason: Reason) -> (Code, Info) {
    match reason {
        Reason::HostNotAllowed
        | Reason::DeniedByRule
        | Reason::PortNotAllowed
        | Reason::ProtocolNotAllowed
        | Reason::AddressSpecialPurpose
        | Reason::RuleRemoved
        | Reason::ResolverNotAllowed
        | Reason::LeakBudgetSpent
        | Reason::NamesFrozen
        | Reason::NameSuspicious
        | Reason::RuleExpired
        | Reason::ApprovalRequired
        | Reason::ApprovalDenied
        | Reason::ApprovalTimedOut
        | Reason::ApprovalsExceeded
        | Reason::AgentQuarantined => (Code::Refused, Info::Blocked),
        Reason::NameInvalid | Reason::QueryTypeNotAllowed | Reason::QueryMalformed | Reason::AgentUnknown => {
            (Code::Refused, Info::Prohibited)
        }
        Reason::UpstreamFailed => (Code::ServFail, Info::NoReachableAuthority),
        Reason::GrantNotInstalled | Reason::QuotaExceeded => (Code::ServFail, Info::Other),
        // Reasons of the other gates: no lookup is denied for them.
        Reason::AddressNotGranted
        | Reason::GrantExpired
        | Reason::SocketTypeNotAllowed
        | Reason::UnixSocketNotAllowed
        | Reason::DeviceNotAllowed
        | Reason::SystemCallNotAllowed
        | Reason::PacketNotAllowed
        | Reason::SourceForged
        | Reason::InboundNotAllowed
        | Reason::OriginalDestinationUnknown
        | Reason::NotTls
        | Reason::HelloMalformed
        | Reason::HelloTooLarge
        | Reason::HelloTimeout
        | Reason::ServerNameMissing
        | Reason::ServerNameNotGranted
        | Reason::HelloUnreadable
        | Reason::HelloSkipped
        | Reason::ServerNameChanged
        | Reason::EchNotAllowed
        | Reason::InitialMalformed
        | Reason::RequestNotAllowed
        | Reason::BodyTooLarge
        | Reason::UpstreamUntrusted
        | Reason::InspectionRefused
        | Reason::BudgetSpent
        | Reason::RateExceeded
        | Reason::RequestMalformed => (Code::ServFail, Info::Other),
    }
}
