//! The rules of each agent, and the one function that decides by them.
//!
//! This module is pure: it reads no clock, opens no file and no socket, never waits and never
//! fails. Edges hand it values and the current [`Moment`], and act on what it returns.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod agent;
mod approval;
mod asked;
mod budget;
mod capability;
mod change;
mod decide;
mod decision;
mod expansion;
mod flow;
mod glob;
mod grant;
mod host;
mod inspect;
mod judge;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod leaks;
mod loan;
mod mode;
mod moment;
mod pattern;
mod record_type;
mod remedy;
mod request;
mod resolvers;
mod risk;
mod rule;
mod secrets;
mod selector;
mod source;
mod special;
mod suffix;
mod term;
mod tls;

pub use agent::{Agent, AgentId, AgentName, AgentNameError};
pub use approval::{Approval, Approvals, Question};
pub use asked::{Asked, AskedError, AskedRequest};
pub use budget::{Budget, BudgetMark, Rate, Spend, Usage};
pub use capability::Capability;
pub use change::Change;
pub use decide::Policy;
pub use decision::{Denial, Leave, Opening, Permit, Reason, UnknownReason};
pub use flow::{Destination, Flow, Origin, OriginLookup, OriginalDestination, Process, Resolve, Transport};
pub use grant::{Grant, GrantError, GrantSink, Grants, MAX_GRANTS};
pub use host::{HostName, HostNameError};
pub use inspect::{Injection, Inspection, RequestDenial};
pub use leaks::{LeakAction, LeakActions, LeakBudget, LeakFlag, LeakTerms, Wildcard};
pub use loan::{Loan, LoanError, MAX_LOANS, Operator};
pub use mode::Mode;
pub use moment::Moment;
pub use pattern::{Pattern, PatternError};
pub use record_type::RecordType;
pub use remedy::{host_rule, remedy, spoken};
pub use request::RequestPattern;
pub use resolvers::ZONES as RESOLVER_ZONES;
pub use risk::Risk;
pub use rule::{NameTerms, Protocol, Rule, RuleId, Subject};
pub use secrets::{SecretError, Secrets};
pub use selector::{Selector, Workload};
pub use source::{Revision, Source, SourceFile};
pub use special::{SpecialPurpose, special_purpose, special_within};
pub use term::{Occasion, Term};
pub use tls::{Ech, GateChoice, TlsTerms};
