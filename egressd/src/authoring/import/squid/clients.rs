//! For whom lines of `squid.conf` allow something.
//!
//! A policy of ours is for one agent. Where lines allow one client other destinations than another, together they would
//! allow an agent more than any of them may, so that one has to be chosen.

use super::acl::Lists;
use crate::authoring::import::{ImportError, draft::Draft};
use std::collections::{BTreeMap, BTreeSet};

/// The lists of clients that the agent is in.
pub(super) struct Clients(Option<BTreeSet<String>>);

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
        let mut reach = groups.values();
        let first = reach.next();
        if draft.options.only.is_none() && reach.all(|other| Some(other) == first) {
            return Ok(Self(None));
        }
        let names: Vec<String> = groups.keys().map(|lists| joined(lists)).collect();
        let chosen = draft.choose(&names)?;
        Ok(Self(chosen.map(|name| name.split('+').map(str::to_owned).collect())))
    }

    /// Whether a line with these `names` is about the agent.
    pub(super) fn are_meant(&self, names: &[&str], lists: &Lists) -> bool {
        let Some(own) = &self.0 else { return true };
        names.iter().filter(|name| lists.is_of_clients(name)).all(|name| own.contains(*name))
    }
}

/// What lines that allow say besides their clients, by these.
type Groups<'l> = BTreeMap<BTreeSet<&'l str>, BTreeSet<BTreeSet<&'l str>>>;

fn groups<'l>(lines: &[(usize, Vec<&'l str>)], lists: &Lists) -> Groups<'l> {
    let mut groups = Groups::new();
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
                let opens = is_about_names || rest.iter().any(|name| lists.is_of_destinations(name));
                if opens && !clients.is_empty() {
                    groups.entry(clients).or_default().insert(rest);
                }
            }
            _ => {}
        }
    }
    groups
}

fn joined(lists: &BTreeSet<&str>) -> String {
    lists.iter().copied().collect::<Vec<_>>().join("+")
}
