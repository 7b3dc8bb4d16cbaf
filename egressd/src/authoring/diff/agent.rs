//! What is said of an agent as a whole.

use super::{Change, Difference, Place};
use crate::{
    config::Policies,
    policy::{AgentName, LeakFlag, Mode, Policy, Selector},
};

/// Which workloads are meant by the section `name`, where that is different.
pub(super) fn selected(old: &Policies, new: &Policies, name: &AgentName) -> Option<Difference> {
    let (before, after) = (old.selectors(), new.selectors());
    let of = |selectors: &[(Selector, AgentName)]| -> Vec<Selector> {
        selectors.iter().filter(|(_, held)| held == name).map(|(selector, _)| selector.clone()).collect()
    };
    let at = |selectors: &[(Selector, AgentName)]| selectors.iter().position(|(_, held)| held == name);
    let is_moved = before.len() == after.len() && at(before) != at(after);
    let (one, other) = (of(before), of(after));
    let term = match (one == other, is_moved) {
        (false, _) => format!("select: {} -> {}", show(&one), show(&other)),
        (true, true) => "select: asked at another place in the order".to_owned(),
        (true, false) => return None,
    };
    Some(of_agent(name.to_string(), vec![term]))
}

fn show(selectors: &[Selector]) -> String {
    let one = |Selector { name, cgroup, uid, labels }: &Selector| {
        let uid = uid.map(|uid| uid.to_string());
        let keys = [("name", name), ("cgroup", cgroup), ("uid", &uid)];
        let keys = keys.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value.as_ref()?)));
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
        keys.chain(labels).collect::<Vec<_>>().join(" ")
    };
    let selectors: Vec<String> = selectors.iter().map(one).collect();
    if selectors.is_empty() { "none".to_owned() } else { selectors.join(", ") }
}

fn of_agent(agent: String, terms: Vec<String>) -> Difference {
    let (change, place) = (Change::Changed, Place::Agent);
    Difference { agent, change, place, openings: Vec::new(), terms, rule: None }
}

pub(super) fn diff(old: &Policy, new: &Policy) -> Vec<Difference> {
    let terms = changes(old, new);
    let changed = (!terms.is_empty()).then(|| of_agent(String::new(), terms));
    mode(old, new).into_iter().chain(changed).collect()
}

/// An agent in observe mode reaches whatever its policy denies.
fn mode(old: &Policy, new: &Policy) -> Option<Difference> {
    let change = match (old.mode(), new.mode()) {
        (Mode::Enforce, Mode::Observe) => Change::Allowed,
        (Mode::Observe, Mode::Enforce) => Change::Denied,
        (Mode::Enforce, Mode::Enforce) | (Mode::Observe, Mode::Observe) => return None,
    };
    let what = "whatever else the policy denies, and records";
    let term = format!("mode: {} -> {}: {what}", old.mode().as_str(), new.mode().as_str());
    Some(Difference { change, ..of_agent(String::new(), vec![term]) })
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
    push("approve_unknown", old.asks_about_unknown().to_string(), new.asks_about_unknown().to_string());
    let (one, other) = (old.budget(), new.budget());
    push("max_bytes", bound(one.max_bytes), bound(other.max_bytes));
    push("max_connections", bound(one.max_connections), bound(other.max_connections));
    push("rate", bound(one.rate), bound(other.rate));
    let (one, other) = (old.leaks(), new.leaks());
    push("leak_budget", one.budget.bytes().to_string(), other.budget.bytes().to_string());
    for flag in LeakFlag::ALL {
        let (old, new) = (one.actions.at(*flag), other.actions.at(*flag));
        push(&format!("leak_actions.{flag}"), old.to_string(), new.to_string());
    }
    if one.secrets != other.secrets {
        changes.push("other secrets or honeytokens".to_owned());
    }
    let bare = |policy: &Policy| policy.with_rules(Vec::new(), Vec::new()).in_mode(Mode::Enforce);
    if changes.is_empty() && bare(old) != bare(new) {
        changes.push("other terms of the agent".to_owned());
    }
    changes
}

fn bound(most: Option<impl ToString>) -> String {
    most.map_or_else(|| "no bound".to_owned(), |most| most.to_string())
}

fn capabilities(policy: &Policy) -> String {
    let mut words: Vec<&str> = policy.capabilities().iter().map(|kept| kept.as_str()).collect();
    words.sort_unstable();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}
