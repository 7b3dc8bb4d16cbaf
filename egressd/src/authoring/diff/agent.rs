//! What is said of an agent as a whole.

use super::{Change, Difference, Place};
use crate::policy::{LeakFlag, Policy};

pub(super) fn diff(old: &Policy, new: &Policy) -> Vec<Difference> {
    let terms = changes(old, new);
    if terms.is_empty() {
        return Vec::new();
    }
    let (change, place) = (Change::Changed, Place::Agent);
    vec![Difference { agent: String::new(), change, place, openings: Vec::new(), terms, rule: None }]
}

fn changes(old: &Policy, new: &Policy) -> Vec<String> {
    let mut changes = Vec::new();
    let mut push = |key: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{key}: {old} -> {new}"));
        }
    };
    push("capabilities", capabilities(old), capabilities(new));
    push("host_sockets", old.host_sockets().to_string(), new.host_sockets().to_string());
    let (one, other) = (old.leaks(), new.leaks());
    push("leak_budget", one.budget.bytes().to_string(), other.budget.bytes().to_string());
    for flag in LeakFlag::ALL {
        let (old, new) = (one.actions.at(*flag), other.actions.at(*flag));
        push(&format!("leak_actions.{flag}"), old.to_string(), new.to_string());
    }
    if one.secrets != other.secrets {
        changes.push("other secrets or honeytokens".to_owned());
    }
    let bare = |policy: &Policy| policy.with_rules(Vec::new(), Vec::new());
    if changes.is_empty() && bare(old) != bare(new) {
        changes.push("other terms of the agent".to_owned());
    }
    changes
}

fn capabilities(policy: &Policy) -> String {
    let mut words: Vec<&str> = policy.capabilities().iter().map(|kept| kept.as_str()).collect();
    words.sort_unstable();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
