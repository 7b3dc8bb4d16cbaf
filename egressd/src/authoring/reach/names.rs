//! All names there are, in as many classes as patterns tell apart.

use crate::policy::{HostName, Pattern, Policy, Subject};
use std::collections::BTreeMap;

/// The names that patterns speak of, with those above them, and which stand right below which.
#[derive(Debug, Default)]
pub(in crate::authoring) struct NameCells {
    children: BTreeMap<HostName, Vec<HostName>>,
    /// Those nearest to the root first.
    zones: Vec<HostName>,
}

/// Names that are all matched by the same patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::authoring) struct NameCell {
    pub(in crate::authoring) zone: HostName,
    pub(in crate::authoring) depth: Depth,
    /// One of them.
    pub(in crate::authoring) sample: HostName,
}

/// How far below its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::authoring) enum Depth {
    Itself,
    /// One label, by which no pattern goes.
    OneBelow,
    /// More, the lowest of which no pattern goes by.
    Deeper,
}

impl NameCells {
    /// The classes that the patterns of `policies` make.
    pub(in crate::authoring) fn of(policies: &[&Policy]) -> Self {
        let mut cells = Self::default();
        for rule in policies.iter().flat_map(|policy| policy.allow().iter().chain(policy.deny())) {
            if let Subject::Host(pattern) = &rule.subject {
                cells.add(pattern.name());
            }
        }
        cells.zones = cells.children.keys().cloned().collect();
        cells.zones.sort_by_cached_key(|zone| (zone.labels().count(), zone.clone()));
        cells
    }

    pub(in crate::authoring) fn zones(&self) -> &[HostName] {
        &self.zones
    }

    /// The names of patterns that stand one label below `zone`.
    pub(in crate::authoring) fn children(&self, zone: &HostName) -> &[HostName] {
        self.children.get(zone).map_or(&[], Vec::as_slice)
    }

    /// Every class that `pattern` is about, or every one there is. A class without a name is left out: names
    /// have at most 253 octets.
    pub(in crate::authoring) fn cells<'a>(
        &'a self,
        pattern: Option<&'a Pattern>,
    ) -> impl Iterator<Item = NameCell> + 'a {
        let all = self
            .zones
            .iter()
            .flat_map(|zone| [Depth::Itself, Depth::OneBelow, Depth::Deeper].map(|depth| (zone, depth)));
        let cells = all.filter_map(|(zone, depth)| self.cell(zone, depth));
        cells.filter(move |cell| pattern.is_none_or(|pattern| pattern.matches(&cell.sample)))
    }

    fn add(&mut self, name: &HostName) {
        if self.children.contains_key(name) {
            return;
        }
        self.children.insert(name.clone(), Vec::new());
        if let Some(parent) = parent(name) {
            self.add(&parent);
            self.children.entry(parent).or_default().push(name.clone());
        }
    }

    fn cell(&self, zone: &HostName, depth: Depth) -> Option<NameCell> {
        let sample = match depth {
            Depth::Itself => zone.clone(),
            Depth::OneBelow => self.unnamed_below(zone, "")?,
            Depth::Deeper => self.unnamed_below(zone, "x.")?,
        };
        Some(NameCell { zone: zone.clone(), depth, sample })
    }

    /// A name below `zone`, with `prefix`, through a label that no pattern names.
    fn unnamed_below(&self, zone: &HostName, prefix: &str) -> Option<HostName> {
        let letters = ('a'..='z').rev().map(String::from);
        let numbered = (0..=self.children(zone).len()).map(|nth| format!("x{nth}"));
        let free = letters.chain(numbered).find_map(|label| {
            let child = HostName::parse(&format!("{label}.{zone}")).ok()?;
            (!self.children.contains_key(&child)).then_some(child)
        })?;
        HostName::parse(&format!("{prefix}{free}")).ok()
    }
}

/// The name without its first label.
fn parent(name: &HostName) -> Option<HostName> {
    let (_, parent) = name.as_str().split_once('.')?;
    HostName::parse(parent).ok()
}
