//! What is wrong with a policy that compiles.

mod breadth;
pub(in crate::authoring) mod risks;
mod useless;

use crate::{
    config::Policies,
    policy::{AgentName, Mode, Policy, Rule, Source},
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::{collections::HashSet, fmt};

/// What is to be said of all policies at `now`, in the order of their places. What is said of an allowlist that
/// several agents include is said once.
#[must_use]
pub fn lint(policies: &Policies, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in policies.names() {
        let policy = policies.for_agent(name);
        found.extend(policies.place(name).and_then(|place| observed(&policy, name, place)));
        // What its rules are good for shows where they count.
        let policy = Policy::clone(&policy).in_mode(Mode::Enforce);
        let useless = useless::find(&policy);
        found.extend(useless::dead_includes(&policy, policies.includes(name), &useless));
        found.extend(useless);
        found.extend(rules(&policy, now));
    }
    let mut said = HashSet::new();
    found.retain(|finding| said.insert((finding.place.clone(), finding.lint, finding.text.clone())));
    found.sort_by(|one, other| place(one).cmp(&place(other)));
    found
}

/// What is to be said of each rule by itself.
fn rules(policy: &Policy, now: Timestamp) -> impl Iterator<Item = Finding> + '_ {
    let found =
        move |rule| breadth::find(rule).into_iter().chain(risks::find(rule)).chain(expired(rule, now));
    let on_trial = policy.allow().iter().chain(policy.deny()).filter(|rule| rule.mode == Mode::Observe);
    policy.allow().iter().flat_map(found).chain(on_trial.map(tried))
}

fn observed(policy: &Policy, name: &AgentName, place: &Source) -> Option<Finding> {
    let text = format!("agent `{name}` is in observe mode: it reaches whatever its policy denies");
    let help = "leave `mode: observe` out once `egressctl suggest` has written what it needs";
    (policy.mode() == Mode::Observe).then(|| Finding::new(Lint::ObserveMode, place, text, help))
}

fn tried(rule: &Rule) -> Finding {
    let text = format!("the rule for `{}` is in observe mode: it denies nothing, and records", rule.subject);
    Finding::of(Lint::ObserveMode, rule, text, "leave `mode: observe` out once you know what it would deny")
}

fn expired(rule: &Rule, now: Timestamp) -> Option<Finding> {
    let until = rule.term.until.filter(|until| *until <= now)?;
    let text = format!("nothing of `{}` is allowed since {until}", rule.subject);
    Some(Finding::of(Lint::ExpiredRule, rule, text, "leave the rule out, or say until when it is needed"))
}

/// Something that whoever wrote a policy would want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    pub lint: Lint,
    /// `file:line`.
    #[serde(serialize_with = "as_text")]
    pub place: Source,
    /// One sentence, without a full stop.
    pub text: String,
    /// What to do about it.
    pub help: String,
}

impl Finding {
    fn new(lint: Lint, place: &Source, text: String, help: impl Into<String>) -> Self {
        Self { severity: lint.severity(), lint, place: place.clone(), text, help: help.into() }
    }

    fn of(lint: Lint, rule: &Rule, text: String, help: impl Into<String>) -> Self {
        Self::new(lint, &rule.source, text, help)
    }
}

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Hardly meant.
    Warning,
}

impl Severity {
    pub const ALL: [Self; 2] = [Self::Note, Self::Warning];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! lints {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal $severity:ident,)+) => {
        /// What can be found. A closed set: the words are looked up, and allowed in CI.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Lint {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Lint {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// How bad it is, unless a finding says otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }
    };
}

lints! {
    /// A rule of which `deny` leaves nothing.
    DeniedRule = "denied-rule" Warning,
    /// A wildcard of which every name is a resolver's, which only a rule with the very name opens.
    ResolverWildcard = "resolver-wildcard" Warning,
    /// A rule of which other rules allow everything first, and ask the same.
    ShadowedRule = "shadowed-rule" Warning,
    /// A rule whose flows all go by other rules, which ask something else of them.
    ShadowedTerms = "shadowed-terms" Warning,
    /// A rule of `deny` without which nothing more would be allowed.
    IdleDeny = "idle-deny" Note,
    /// A rule whose day is over.
    ExpiredRule = "expired-rule" Warning,
    /// An included allowlist that adds nothing.
    DeadInclude = "dead-include" Warning,
    /// A wildcard above names that strangers can register.
    PublicSuffix = "public-suffix" Warning,
    /// A wildcard for everything below a registered domain.
    WholeDomain = "whole-domain" Note,
    /// Any bytes to the addresses of any name of a wildcard.
    UncheckedWildcard = "unchecked-wildcard" Warning,
    /// A network of more addresses than one operator has.
    WideNetwork = "wide-network" Warning,
    /// A name that only closed networks know, whose private addresses the rule does not let in.
    PrivateName = "private-name" Warning,
    /// A name that no resolver answers with an address that may be reached.
    NameNeverAnswered = "name-never-answered" Warning,
    /// A name behind which an agent can write to an account of its own choice, or read from a stranger's.
    RiskyName = "risky-name" Warning,
    /// An agent or a rule that only observes.
    ObserveMode = "observe-mode" Warning,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Lint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn as_text<S: Serializer>(place: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

fn place(finding: &Finding) -> (&str, u32, Lint) {
    (&finding.place.file, finding.place.line, finding.lint)
}
