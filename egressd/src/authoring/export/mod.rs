//! From a policy of ours to the languages of other enforcers, with a report of what they cannot say.
//!
//! The law: what is written never lets a flow through that the policy denies. What a target does not know of a flow
//! that both let through, such as a bound on what names leak, is told as lost. What holds of a target as a whole is in
//! [`Target::assumptions`].

mod cilium;
mod nftables;
mod plan;
mod squid;

use super::fate::{Fate, Translated, comments};
use crate::policy::{AgentName, Mode, Policy};
use serde::Serialize;
use std::fmt;

/// A language to which policies are translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Lines of `squid.conf`.
    Squid,
    /// A `CiliumNetworkPolicy`.
    Cilium,
    /// An nftables chain for the networks, with comments for the names.
    Nftables,
}

impl Target {
    pub const ALL: [Self; 3] = [Self::Squid, Self::Cilium, Self::Nftables];

    /// The word of the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Squid => "squid",
            Self::Cilium => "cilium",
            Self::Nftables => "nftables",
        }
    }

    /// The target of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.as_str() == word)
    }

    /// What is not kept of any policy.
    #[must_use]
    pub fn assumptions(self) -> &'static [&'static str] {
        match self {
            Self::Squid => &[
                "a tunnel may hold something else than TLS, and TLS may name another server",
                "a name of a wildcard costs nothing: what it leaks is not bounded",
                "clients have no way around the proxy",
            ],
            Self::Cilium => &[
                "a connection may hold something else than TLS, and TLS may name another server",
                "a name of a wildcard costs nothing: what it leaks is not bounded",
                "`**.` means names at every depth since Cilium 1.19, one label before",
            ],
            Self::Nftables => &["names are comments: whoever uses this has to keep sets of their addresses"],
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A policy as another enforcer reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The text, with what needs to be known of it as comments.
    pub text: String,
    /// What is said of the agent, every rule, and every term of one that was lost.
    pub report: Vec<Translated>,
}

impl Exported {
    /// Whether something was widened or lost.
    #[must_use]
    pub fn needs_a_look(&self) -> bool {
        self.report.iter().any(|line| line.fate.needs_a_look())
    }
}

/// Translates the policy of `agent`.
#[must_use]
pub fn export(target: Target, policy: &Policy, agent: &AgentName) -> Exported {
    let mut report = plan::Report::default();
    report.agent(agent, policy);
    let policy = &denying(policy, &mut report);
    let body = match target {
        Target::Squid => squid::write(policy, &mut report),
        Target::Cilium => cilium::write(policy, agent, &mut report),
        Target::Nftables => nftables::write(policy, agent, &mut report),
    };
    let mut text = format!("# The policy of agent {agent} for {target}.\n");
    for assumption in target.assumptions() {
        text.push_str(&format!("# - {assumption}\n"));
    }
    text.push_str(&comments(report.lines.iter().filter(|line| line.fate != Fate::Exact), ""));
    text.push_str(&body);
    Exported { text, report: report.lines }
}

/// The same without the denials that only observe, which deny nothing.
fn denying(policy: &Policy, report: &mut plan::Report) -> Policy {
    let (deny, observed): (Vec<_>, Vec<_>) =
        policy.deny().iter().cloned().partition(|rule| rule.mode == Mode::Enforce);
    observed.iter().for_each(|rule| report.wrote(rule, Vec::new()));
    policy.with_rules(policy.allow().to_vec(), deny)
}
