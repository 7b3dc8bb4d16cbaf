//! For whom lines of `squid.conf` allow something.
//!
//! A policy of ours is for one agent. Where lines allow one client other destinations than another, together they would
//! allow an agent more than any of them may, so that one has to be chosen.

use super::acl::Lists;
use crate::authoring::import::{ImportError, draft::Draft};
use std::collections::{BTreeMap, BTreeSet};

/// The lists of clients that the agent is in.
pub(super) struct Clients {
    /// None: those of all lines.
    chosen: Option<BTreeSet<String>>,
    /// Those without which it would reach nothing.
    certain: BTreeSet<String>,
}

impl Clients {
    /// Those that were chosen, by their names with `+` between them.
    ///
    /// # Errors
    /// Some clients may reach other destinations than others, and none were chosen; or there are none of this name.
    pub(super) fn choose(
        lines: &[(usize, Vec<&str>)],
        lists: &Lists,
        draft: &Draft<'_>,
    ) -> Result<Self, ImportError> {
        let groups = groups(lines, lists);
        let certain: BTreeSet<String> = certain(lines, lists).into_iter().map(str::to_owned).collect();
        let mut reach = groups.values();
        let first = reach.next();
        if draft.options.only.is_none() && reach.all(|other| Some(other) == first) {
            return Ok(Self { chosen: None, certain });
        }
        let names: Vec<String> = groups.keys().map(|lists| joined(lists)).collect();
        let own = draft.choose(&names)?.map(|name| name.split('+').map(str::to_owned).collect());
        Ok(Self { certain: own.clone().unwrap_or(certain), chosen: own })
    }

    /// Whether the agent is surely in one of the lists.
    pub(super) fn hold(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.certain.contains(name))
    }

    /// Whether a line with these `names` is about the agent.
    pub(super) fn are_meant(&self, names: &[&str], lists: &Lists) -> bool {
        let Some(own) = &self.chosen else { return true };
        names.iter().filter(|name| lists.is_of_clients(name)).all(|name| own.contains(*name))
    }
}

/// What lines that allow say besides their clients, by these.
type Groups<'l> = BTreeMap<BTreeSet<&'l str>, BTreeSet<BTreeSet<&'l str>>>;

fn groups<'l>(lines: &[(usize, Vec<&'l str>)], lists: &Lists) -> Groups<'l> {
    let mut groups = Groups::new();
    for (clients, rest) in opening(lines, lists) {
        if !clients.is_empty() {
            groups.entry(clients).or_default().insert(rest);
        }
    }
    groups
}

/// The lists that all lines name which open something, and those outside of which everything is denied.
fn certain<'l>(lines: &[(usize, Vec<&'l str>)], lists: &Lists) -> BTreeSet<&'l str> {
    let named = opening(lines, lists).into_iter().map(|(clients, _)| clients);
    let named = named.reduce(|one, other| one.intersection(&other).copied().collect()).unwrap_or_default();
    let outside = lines.iter().filter_map(|(_, words)| match words.as_slice() {
        ["http_access", "deny", only] => only.strip_prefix('!').filter(|name| lists.is_of_clients(name)),
        [..] => None,
    });
    outside.chain(named).collect()
}

/// Of the lines that allow some destinations, the lists of clients and the others.
fn opening<'l>(
    lines: &[(usize, Vec<&'l str>)],
    lists: &Lists,
) -> Vec<(BTreeSet<&'l str>, BTreeSet<&'l str>)> {
    let mut opening = Vec::new();
    // Behind a line that denies all but some names, one without names allows these.
    let mut is_about_names = false;
    for (_, words) in lines {
        match words.as_slice() {
            ["http_access", "deny", names @ ..] => {
                let mut others = names.iter().filter_map(|name| name.strip_prefix('!'));
                is_about_names |= others.any(|name| lists.is_of_destinations(name));
            }
            ["http_access", "allow", names @ ..] => {
                let (clients, rest): (BTreeSet<&str>, BTreeSet<&str>) =
                    names.iter().copied().partition(|name| lists.is_of_clients(name));
                if is_about_names || rest.iter().any(|name| lists.is_of_destinations(name)) {
                    opening.push((clients, rest));
                }
            }
            [..] => {}
        }
    }
    opening
}

fn joined(lists: &BTreeSet<&str>) -> String {
    lists.iter().copied().collect::<Vec<_>>().join("+")
}
