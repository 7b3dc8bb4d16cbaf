//! What two policies decide differently, by meaning and not by line.

mod agent;
mod names;
mod networks;

use super::reach::Opening;
use crate::{
    config::Policies,
    policy::{AgentName, Mode, Occasion, Pattern, Policy, Rule},
};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// What is different at `now` between two compiled sets of policies, agent by agent; empty where they mean the same.
/// An agent that only one of them names is compared with what the other would give it.
#[must_use]
pub fn diff(old: &Policies, new: &Policies, now: Timestamp) -> Vec<Difference> {
    let names: BTreeSet<&AgentName> = old.names().chain(new.names()).collect();
    let of_agent = |name: &AgentName| {
        let changes = diff_policies(&old.for_agent(name), &new.for_agent(name), now);
        let agent = name.to_string();
        let named = changes.into_iter().map(move |line| Difference { agent: agent.clone(), ..line });
        agent::selected(old, new, name).into_iter().chain(named)
    };
    names.into_iter().flat_map(of_agent).collect()
}

/// The same of one agent, whose name is left empty: first what is said of it as a whole, then what it may reach and may
/// not any more, then what changed.
#[must_use]
pub fn diff_policies(old: &Policy, new: &Policy, now: Timestamp) -> Vec<Difference> {
    let [old, new] = [old, new].map(|policy| unended(policy, now));
    if old.without_places() == new.without_places() {
        return Vec::new();
    }
    let mut found = agent::diff(&old, &new);
    let mut of_rules = rules(&old, &new);
    if old.has_terms() || new.has_terms() {
        // What is left when all terms are over, for a rule that ends can hide another. That anything ends
        // is told already.
        let left = rules(&old.at(None), &new.at(None));
        let is_new = |line: &Difference| line.change == Change::Changed && !of_rules.contains(line);
        let hidden: Vec<Difference> = left.into_iter().filter(is_new).collect();
        of_rules.extend(hidden);
    }
    of_rules.sort_by_cached_key(|line| (line.change, line.place.in_order(), line.openings.clone()));
    found.extend(of_rules);
    found
}

/// `policy` without the rules that are over at `now`, whoever starts.
fn unended(policy: &Policy, now: Timestamp) -> Policy {
    let start = Some(Occasion { time: now, age: Duration::ZERO });
    let holds = |rule: &&Rule| rule.term.holds(start);
    let allow = policy.allow().iter().filter(holds).cloned().collect();
    policy.with_rules(allow, policy.deny().to_vec())
}

/// By their rules alone: an agent in observe mode, which reaches everything, is told of by itself.
fn rules(old: &Policy, new: &Policy) -> Vec<Difference> {
    let [old, new] = [old, new].map(|policy| policy.clone().in_mode(Mode::Enforce));
    let mut found = names::diff(&old, &new);
    found.extend(networks::diff(&old, &new));
    found
}

/// Lines that differ in nothing but the opening are one.
fn joined(lines: impl Iterator<Item = Difference>) -> Vec<Difference> {
    let mut joined: Vec<Difference> = Vec::new();
    let mut at: BTreeMap<(Change, Place, Vec<String>), usize> = BTreeMap::new();
    for line in lines {
        let key = (line.change, line.place.clone(), line.terms.clone());
        let place = *at.entry(key).or_insert(joined.len());
        match joined.get_mut(place) {
            Some(first) => first.openings.extend(line.openings),
            None => joined.push(line),
        }
    }
    joined
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub agent: String,
    pub change: Change,
    pub place: Place,
    /// `443/tls`; empty where it is about the agent as a whole.
    #[serde(serialize_with = "openings_as_text")]
    pub openings: Vec<Opening>,
    /// Of what changed, `key: old -> new`.
    pub terms: Vec<String>,
    /// The rule that decides it in the new policies, else the one that did in the old ones.
    pub rule: Option<String>,
}

/// How it is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Denied before, allowed after.
    Allowed,
    /// Allowed before, denied after.
    Denied,
    /// Allowed both times, on other terms.
    Changed,
}

impl Change {
    /// The sign in front of its line.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Allowed => '+',
            Self::Denied => '-',
            Self::Changed => '~',
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Changed => "changed",
        })
    }
}

/// What is different: destinations, or the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Flows to names.
    Names { pattern: String, except: Vec<String> },
    /// Flows to addresses that no name stands for.
    Network { network: IpNet, except: Vec<IpNet> },
    /// Flows to names, where they resolve to these addresses.
    NamesAt { network: IpNet, except: Vec<IpNet> },
    /// What is said of the agent, not of destinations.
    Agent,
}

impl Place {
    fn names((pattern, except): (Pattern, Vec<Pattern>)) -> Self {
        Self::Names { pattern: pattern.to_string(), except: except.iter().map(ToString::to_string).collect() }
    }

    /// By which places are sorted: names first, by their last labels, so that those of one domain stand together.
    fn in_order(&self) -> (bool, Vec<String>, Self) {
        let labels: Vec<String> = match self {
            Self::Names { pattern, .. } => pattern.rsplit('.').map(str::to_owned).collect(),
            Self::Network { .. } | Self::NamesAt { .. } | Self::Agent => Vec::new(),
        };
        (labels.is_empty(), labels, self.clone())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names { pattern, except } => {
                f.write_str(pattern)?;
                but_for(f, except)
            }
            Self::Network { network, except } => {
                write!(f, "{network}")?;
                but_for(f, except)
            }
            Self::NamesAt { network, except } => {
                write!(f, "names at addresses of {network}")?;
                but_for(f, except)
            }
            Self::Agent => f.write_str("the agent"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        struct Wire {
            kind: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            subject: Option<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            except: Vec<String>,
        }
        let networks = |except: &[IpNet]| except.iter().map(ToString::to_string).collect();
        let (kind, subject, except) = match self {
            Self::Names { pattern, except } => ("names", Some(pattern.clone()), except.clone()),
            Self::Network { network, except } => ("network", Some(network.to_string()), networks(except)),
            Self::NamesAt { network, except } => {
                ("names-at-network", Some(network.to_string()), networks(except))
            }
            Self::Agent => ("agent", None, Vec::new()),
        };
        Wire { kind, subject, except }.serialize(serializer)
    }
}

/// The most exceptions that a line names.
const MAX_SHOWN: usize = 8;

fn but_for<T: fmt::Display>(f: &mut fmt::Formatter<'_>, except: &[T]) -> fmt::Result {
    for (nth, item) in except.iter().take(MAX_SHOWN).enumerate() {
        write!(f, "{}{item}", if nth == 0 { ", but for " } else { ", " })?;
    }
    match except.len().saturating_sub(MAX_SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

fn openings_as_text<S: Serializer>(openings: &[Opening], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(openings.iter().map(|(port, protocol)| format!("{port}/{protocol}")))
}
