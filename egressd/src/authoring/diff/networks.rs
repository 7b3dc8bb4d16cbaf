//! Addresses that are opened or closed, to flows of their own and to those of names.

use super::{Change, Difference, Place, joined};
use crate::{
    authoring::reach::{
        NetworkCell, NetworkCells, Open, Opening, changes, denied_at_address, open_to_address, open_to_names,
    },
    policy::Policy,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn diff(old: &Policy, new: &Policy) -> Vec<Difference> {
    let cells = NetworkCells::of(&[old, new]);
    let names: BTreeSet<Opening> = open_to_names(old).into_iter().chain(open_to_names(new)).collect();
    let mut found: BTreeMap<What, Found> = BTreeMap::new();
    for cell in cells.cells() {
        for (what, opening, rule) in
            direct(old, new, &cell).into_iter().chain(of_names(old, new, &cell, &names))
        {
            let held = found.entry(What { opening, ..what }).or_default();
            held.networks.insert(cell.network);
            held.rule = held.rule.take().or(rule);
        }
    }
    joined(found.into_iter().flat_map(|(what, found)| lines(&cells, &what, &found)))
}

/// One way in which cells differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct What {
    of_names: bool,
    change: Change,
    terms: Vec<String>,
    opening: Opening,
}

#[derive(Debug, Default)]
struct Found {
    networks: BTreeSet<IpNet>,
    rule: Option<String>,
}

type Differs = (What, Opening, Option<String>);

fn direct(old: &Policy, new: &Policy, cell: &NetworkCell) -> Vec<Differs> {
    let (before, after) = (open_to_address(old, cell.sample), open_to_address(new, cell.sample));
    let openings: BTreeSet<Opening> = before.keys().chain(after.keys()).copied().collect();
    let differs = |opening: Opening| {
        let (change, terms, open) = match (before.get(&opening), after.get(&opening)) {
            (None, Some(open)) => (Change::Allowed, open.terms.ending(), open),
            (Some(open), None) => (Change::Denied, Vec::new(), open),
            (Some(Open { terms: one, .. }), Some(open)) => (Change::Changed, changes(one, &open.terms), open),
            (None, None) => return None,
        };
        let is_same = change == Change::Changed && terms.is_empty();
        let what = What { of_names: false, change, terms, opening };
        (!is_same).then(|| (what, opening, Some(open.source.to_string())))
    };
    openings.into_iter().filter_map(differs).collect()
}

/// What deny rules for networks take from names, or give back.
fn of_names(old: &Policy, new: &Policy, cell: &NetworkCell, names: &BTreeSet<Opening>) -> Vec<Differs> {
    let before = denied_at_address(old, cell.sample, names);
    let after = denied_at_address(new, cell.sample, names);
    let differs = |opening: &Opening| {
        let (change, source) = match (before.get(opening), after.get(opening)) {
            (None, Some(source)) => (Change::Denied, source),
            (Some(source), None) => (Change::Allowed, source),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        let what = What { of_names: true, change, terms: Vec::new(), opening: *opening };
        Some((what, *opening, Some(source.to_string())))
    };
    names.iter().filter_map(differs).collect()
}

/// Each network with those within it that differ in the same way, and the others as exceptions.
fn lines(cells: &NetworkCells, what: &What, found: &Found) -> Vec<Difference> {
    let mut widest: Vec<IpNet> = found.networks.iter().copied().collect();
    widest.sort_by_key(|network| (network.prefix_len(), *network));
    let mut done: BTreeSet<IpNet> = BTreeSet::new();
    let mut lines = Vec::new();
    for network in widest {
        if !done.insert(network) {
            continue;
        }
        let mut except: Vec<IpNet> = Vec::new();
        for inner in cells.inside(&network) {
            if except.iter().any(|held| held.contains(&inner)) {
                continue;
            }
            match found.networks.contains(&inner) {
                true => drop(done.insert(inner)),
                false => except.push(inner),
            }
        }
        // That a network is about no special one within it goes without saying.
        except.retain(|inner| cells.is_named(inner));
        let place = match what.of_names {
            true => Place::NamesAt { network, except },
            false => Place::Network { network, except },
        };
        let (change, openings, terms) = (what.change, vec![what.opening], what.terms.clone());
        lines.push(Difference {
            agent: String::new(),
            change,
            place,
            openings,
            terms,
            rule: found.rule.clone(),
        });
    }
    lines
}
