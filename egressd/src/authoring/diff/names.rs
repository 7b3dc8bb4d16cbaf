//! Names that are opened or closed, or opened on other terms.

use super::{Change, Difference, Place, joined};
use crate::{
    authoring::reach::{Depth, NameCells, Open, Opening, Openings, changes, cover, open_to_name},
    policy::{Destination, Flow, Grants, HostName, Moment, Pattern, Policy, Rule, Subject},
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn diff(old: &Policy, new: &Policy) -> Vec<Difference> {
    let cells = NameCells::of(&[old, new]);
    let touched = Touched::between(old, new);
    let mut found: BTreeMap<What, Found> = BTreeMap::new();
    for cell in cells.cells(None).filter(|cell| touched.may_differ(&cell.sample)) {
        let (before, after) = (open_to_name(old, &cell.sample), open_to_name(new, &cell.sample));
        for (opening, what) in differences(&before, &after) {
            let found = found.entry(What { opening, ..what }).or_default();
            found.cells.insert((cell.zone.clone(), cell.depth));
            found.rules.insert(cell.sample.clone(), rule(new, &cell.sample, opening, &before, &after));
        }
    }
    let lines = found.into_iter().flat_map(|(what, found)| {
        cover(&cells, &found.cells).into_iter().map(move |cover| line(&what, &found, cover))
    });
    joined(lines)
}

/// One way in which cells differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    change: Change,
    terms: Vec<String>,
    opening: Opening,
}

#[derive(Debug, Default)]
struct Found {
    cells: BTreeSet<(HostName, Depth)>,
    /// By the sample of the cell.
    rules: BTreeMap<HostName, Option<String>>,
}

fn differences(before: &Openings, after: &Openings) -> Vec<(Opening, What)> {
    let openings: BTreeSet<Opening> = before.keys().chain(after.keys()).copied().collect();
    let what = |opening: Opening| {
        let (change, terms) = match (before.get(&opening), after.get(&opening)) {
            (None, Some(open)) => (Change::Allowed, open.terms.ending()),
            (Some(_), None) => (Change::Denied, Vec::new()),
            (Some(Open { terms: one, .. }), Some(Open { terms: other, .. })) => {
                (Change::Changed, changes(one, other))
            }
            (None, None) => return None,
        };
        let is_same = change == Change::Changed && terms.is_empty();
        (!is_same).then_some((opening, What { change, terms, opening }))
    };
    openings.into_iter().filter_map(what).collect()
}

/// The rule that decides in `new`; where none does, the one that did before.
fn rule(
    new: &Policy,
    name: &HostName,
    (port, protocol): Opening,
    before: &Openings,
    after: &Openings,
) -> Option<String> {
    if let Some(open) = after.get(&(port, protocol)) {
        return Some(open.source.to_string());
    }
    let flow = Flow { destination: Destination::Name(name.clone()), port, protocol, address: None };
    let denial = new.decide(&flow, &Grants::default(), Moment::default()).err()?;
    let was = || before.get(&(port, protocol)).map(|open| open.source.clone());
    let denying = denial.rule.filter(|_| denial.reason == crate::policy::Reason::DeniedByRule);
    denying.or_else(was).map(|source| source.to_string())
}

fn line(what: &What, found: &Found, (pattern, except): (Pattern, Vec<Pattern>)) -> Difference {
    let is_about = |name: &&HostName| pattern.matches(name) && !except.iter().any(|held| held.matches(name));
    let named = found.rules.keys().find(is_about).and_then(|name| found.rules.get(name));
    Difference {
        agent: String::new(),
        change: what.change,
        place: Place::names((pattern, except)),
        openings: vec![what.opening],
        terms: what.terms.clone(),
        rule: named.cloned().flatten(),
    }
}

/// The rules that only one of two policies has. A name that none of them is about is judged alike, if the
/// others stand in the same order.
struct Touched<'a> {
    rules: Vec<&'a Rule>,
    in_order: bool,
}

impl<'a> Touched<'a> {
    fn between(old: &'a Policy, new: &'a Policy) -> Self {
        let (allow, in_order) = only_one(old.allow(), new.allow());
        let (deny, denies_in_order) = only_one(old.deny(), new.deny());
        Self { rules: allow.into_iter().chain(deny).collect(), in_order: in_order && denies_in_order }
    }

    fn may_differ(&self, name: &HostName) -> bool {
        !self.in_order
            || self.rules.iter().any(|rule| match &rule.subject {
                Subject::Host(pattern) => pattern.matches(name),
                Subject::Network(_) => false,
            })
    }
}

/// The rules that stand in one of two lists, and whether those in both stand in the same order.
fn only_one<'a>(old: &'a [Rule], new: &'a [Rule]) -> (Vec<&'a Rule>, bool) {
    let nowhere = |rule: &Rule| {
        let source = crate::policy::Source { file: "".into(), line: 0 };
        Rule { source, reason: None, ..rule.clone() }
    };
    let plain = |rules: &[Rule]| rules.iter().map(nowhere).collect::<Vec<_>>();
    let (one, other) = (plain(old), plain(new));
    let index = |rules: &[Rule]| {
        let mut by_id: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        rules.iter().enumerate().for_each(|(at, rule)| by_id.entry(rule.id).or_default().push(at));
        by_id
    };
    let (in_one, in_other) = (index(&one), index(&other));
    let finds = |rule: &Rule, rules: &[Rule], by_id: &BTreeMap<_, Vec<usize>>| {
        by_id.get(&rule.id).into_iter().flatten().find(|at| rules.get(**at) == Some(rule)).copied()
    };
    let places: Vec<Option<usize>> = one.iter().map(|rule| finds(rule, &other, &in_other)).collect();
    let gone = old.iter().zip(&places).filter(|(_, place)| place.is_none()).map(|(rule, _)| rule);
    let come = new.iter().zip(&other).filter(|(_, plain)| finds(plain, &one, &in_one).is_none());
    let rules = gone.chain(come.map(|(rule, _)| rule)).collect();
    (rules, places.iter().flatten().is_sorted())
}
