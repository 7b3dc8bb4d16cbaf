//! What is open only once a human has said so.

use super::{
    agent::{Agent, AgentId},
    decide::Policy,
    decision::{Denial, Reason},
    flow::{Destination, Process},
    rule::{Protocol, Rule, Subject},
    source::Source,
};
use std::{future::Future, pin::Pin};

/// Whether a rule counts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Approval {
    #[default]
    NotNeeded,
    /// It says what a human may be asked for.
    Required,
}

/// What somebody is asked: whether an agent may go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub destination: Destination,
    /// None of a lookup.
    pub port: Option<u16>,
    pub protocol: Option<Protocol>,
    pub process: Option<Process>,
}

/// Asks people. Implemented by the composition root; used by the edges that can wait.
pub trait Approvals: Send + Sync {
    /// Waits until somebody decides. After a yes, judge again: it is a rule from then on.
    ///
    /// # Errors
    /// [`Reason::ApprovalDenied`], [`Reason::ApprovalTimedOut`], and where too much waits already
    /// [`Reason::ApprovalRequired`], or [`Reason::ApprovalsExceeded`] where people are not asked.
    fn ask<'a>(
        &'a self,
        agent: &'a Agent,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Result<(), Denial>> + Send + 'a>>;

    /// Whether a no about `destination` is remembered, so that nobody is asked.
    fn remember_no(&self, agent: AgentId, destination: &Destination) -> bool;
}

impl Policy {
    /// The rule by which somebody may be asked about a flow to `destination`; where the port and the protocol
    /// are not known yet, about any.
    #[must_use]
    pub fn asking_rule(
        &self,
        destination: &Destination,
        port: Option<u16>,
        protocol: Option<Protocol>,
    ) -> Option<&Rule> {
        let is_about = |rule: &&Rule| {
            let is_meant = match (&rule.subject, destination) {
                (Subject::Host(pattern), Destination::Name(name)) => pattern.matches(name),
                (subject @ Subject::Network(_), Destination::Address(address)) => subject.opens(*address),
                (Subject::Host(_), Destination::Address(_)) | (Subject::Network(_), Destination::Name(_)) => {
                    false
                }
            };
            is_meant
                && rule.names.approval == Approval::Required
                && port.is_none_or(|port| rule.covers_port(port))
                && protocol.is_none_or(|protocol| rule.covers_protocol(protocol))
        };
        self.allow().iter().find(is_about)
    }

    /// The same denial, unless somebody may be asked.
    #[must_use]
    pub fn or_asked(
        &self,
        denial: Denial,
        destination: &Destination,
        port: Option<u16>,
        protocol: Option<Protocol>,
    ) -> Denial {
        if !matches!(denial.reason, Reason::HostNotAllowed | Reason::AddressNotGranted) {
            return denial;
        }
        match self.asking_rule(destination, port, protocol) {
            Some(rule) => Denial::by(Reason::ApprovalRequired, &rule.source),
            None if self.asks_about_unknown() => Denial::because(Reason::ApprovalRequired),
            None => denial,
        }
    }
}

impl Question {
    /// The rule behind it: None of a destination that no rule knows.
    #[must_use]
    pub fn rule<'a>(&self, policy: &'a Policy) -> Option<&'a Rule> {
        policy.asking_rule(&self.destination, self.port, self.protocol)
    }

    /// Where that stands.
    #[must_use]
    pub fn source(&self, policy: &Policy) -> Option<Source> {
        self.rule(policy).map(|rule| rule.source.clone())
    }
}
