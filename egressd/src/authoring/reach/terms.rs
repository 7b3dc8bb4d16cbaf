//! On which terms a rule lets flows pass, and how two such differ.

use crate::policy::{
    Approval, Budget, Inspection, LeakBudget, Leave, Mode, NameTerms, RecordType, Rule, RuleId, Source,
    Subject, Term,
};
use std::{fmt::Display, sync::Arc};

/// What a rule asks of the flows that it allows, and of looking up their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authoring) struct Terms {
    /// The rule without what names its flows, its place and its reason.
    rule: Rule,
    /// What all rules of the name say of looking it up.
    private: bool,
    types: Vec<u16>,
    budget: Option<LeakBudget>,
    /// Whether somebody has to say yes first, by whichever rule.
    is_asked: bool,
    /// When it is closed, by each of the rules that open it; empty where one of them never ends.
    ends: Vec<Term>,
}

impl Terms {
    /// Of flows that go by `rule`, in the mode in which they do.
    pub(super) fn of_name(rule: &Rule, mode: Mode, leave: &Leave) -> Self {
        let types = RecordType::ALL.iter().map(|kind| kind.number()).filter(|kind| leave.has_type(*kind));
        Self {
            rule: Rule { mode, ..bare(rule) },
            private: leave.private(),
            types: types.collect(),
            budget: leave.wildcard().map(|wildcard| wildcard.budget),
            is_asked: false,
            ends: Vec::new(),
        }
    }

    pub(super) fn of_network(rule: &Rule) -> Self {
        Self {
            rule: bare(rule),
            private: false,
            types: Vec::new(),
            budget: None,
            is_asked: false,
            ends: Vec::new(),
        }
    }

    /// `ends: MOMENT`, if it does, and `approval: required`, if it is.
    pub(in crate::authoring) fn ending(&self) -> Vec<String> {
        let ends = (!self.ends.is_empty()).then(|| format!("ends: {}", ends(self)));
        let asked = self.is_asked.then(|| format!("approval: {}", approval(self)));
        ends.into_iter().chain(asked).collect()
    }

    /// The same, where `rules` open it together.
    pub(super) fn until<'a>(self, rules: impl Iterator<Item = &'a Rule>) -> Self {
        let rules: Vec<&Rule> = rules.collect();
        let is_asked =
            !rules.is_empty() && rules.iter().all(|rule| rule.names.approval == Approval::Required);
        let mut ends: Vec<Term> = rules.iter().map(|rule| rule.term).collect();
        if ends.iter().any(|term| !term.is_bounded()) {
            ends.clear();
        }
        ends.sort_by_key(|term| (term.until, term.within));
        ends.dedup();
        Self { is_asked, ends, ..self }
    }
}

/// What `new` asks that `old` did not, one `key: old -> new` for each. Empty where they are equal.
pub(in crate::authoring) fn changes(old: &Terms, new: &Terms) -> Vec<String> {
    let mut changes = Vec::new();
    push(&mut changes, "private", old.private, new.private);
    push(&mut changes, "types", types(old), types(new));
    push(&mut changes, "leak_budget", budget(old), budget(new));
    push(&mut changes, "approval", approval(old), approval(new));
    push(&mut changes, "ends", ends(old), ends(new));
    push(&mut changes, "mode", old.rule.mode.as_str(), new.rule.mode.as_str());
    spending(&mut changes, old.rule.budget, new.rule.budget);
    let (one, other) = (&old.rule.tls, &new.rule.tls);
    push(&mut changes, "gate", one.gate.as_str(), other.gate.as_str());
    push(&mut changes, "ech", one.ech.as_str(), other.ech.as_str());
    inspection(&mut changes, one.inspection.as_ref(), other.inspection.as_ref());
    if changes.is_empty() && old != new {
        changes.push("other terms of the rule".to_owned());
    }
    changes
}

fn spending(changes: &mut Vec<String>, old: Budget, new: Budget) {
    push(changes, "max_bytes", bound(old.max_bytes), bound(new.max_bytes));
    push(changes, "max_connections", bound(old.max_connections), bound(new.max_connections));
    let rate = |budget: Budget| budget.rate.map_or_else(|| "no bound".to_owned(), |rate| rate.to_string());
    push(changes, "rate", rate(old), rate(new));
}

fn inspection(changes: &mut Vec<String>, old: Option<&Arc<Inspection>>, new: Option<&Arc<Inspection>>) {
    push(changes, "inspect", old.is_some(), new.is_some());
    let none = Inspection::default();
    let (old, new) = (old.map_or(&none, Arc::as_ref), new.map_or(&none, Arc::as_ref));
    push(changes, "allow", requests(old), requests(new));
    push(changes, "max_body", bound(old.max_body), bound(new.max_body));
    push(changes, "max_bodies", bound(old.max_bodies), bound(new.max_bodies));
    push(changes, "inject", injected(old), injected(new));
}

fn push<T: PartialEq + Display>(changes: &mut Vec<String>, key: &str, old: T, new: T) {
    if old != new {
        changes.push(format!("{key}: {old} -> {new}"));
    }
}

fn types(terms: &Terms) -> String {
    let known = terms.types.iter().filter_map(|number| RecordType::of(*number));
    let words: Vec<&str> = known.map(RecordType::as_str).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// A name that is spelt out leaks nothing, and so has no budget.
fn budget(terms: &Terms) -> String {
    terms.budget.map_or_else(|| "not needed".to_owned(), |budget| budget.bytes().to_string())
}

fn approval(terms: &Terms) -> &'static str {
    if terms.is_asked { "required" } else { "not needed" }
}

fn ends(terms: &Terms) -> String {
    let one = |term: &Term| {
        let until = term.until.map(|until| until.to_string());
        let within = term.within.map(|within| format!("{}s after the start", within.as_secs()));
        [until, within].into_iter().flatten().collect::<Vec<_>>().join(" or ")
    };
    let ends: Vec<String> = terms.ends.iter().map(one).collect();
    if ends.is_empty() { "never".to_owned() } else { ends.join(", ") }
}

fn requests(inspection: &Inspection) -> String {
    let Some(allow) = &inspection.allow else { return "every request".to_owned() };
    let patterns: Vec<String> = allow.iter().map(ToString::to_string).collect();
    format!("[{}]", patterns.join(", "))
}

fn bound(octets: Option<u64>) -> String {
    octets.map_or_else(|| "no bound".to_owned(), |octets| octets.to_string())
}

fn injected(inspection: &Inspection) -> String {
    let fields = inspection.inject.iter().map(|set| format!("{} from {}", set.header, set.credential));
    let fields: Vec<String> = fields.collect();
    if fields.is_empty() { "nothing".to_owned() } else { fields.join(", ") }
}

/// `rule` without what names its flows, so that two are equal where they ask the same.
fn bare(rule: &Rule) -> Rule {
    Rule {
        id: RuleId(0),
        source: Source { file: "".into(), line: 0 },
        subject: Subject::Network(ipnet::IpNet::default()),
        ports: Vec::new(),
        protocol: None,
        private: false,
        reason: None,
        names: NameTerms::default(),
        term: Term::default(),
        ..rule.clone()
    }
}
