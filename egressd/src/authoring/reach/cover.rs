//! From classes of names back to patterns that people can read.

use super::{Depth, NameCells};
use crate::policy::{HostName, Pattern};
use std::collections::BTreeSet;

/// Patterns, each with its exceptions, that are about the names of `cells` and no others. `all` are the
/// classes that were looked at.
pub(in crate::authoring) fn cover(
    all: &NameCells,
    cells: &BTreeSet<(HostName, Depth)>,
) -> Vec<(Pattern, Vec<Pattern>)> {
    let mut cover = Cover { all, cells, done: BTreeSet::new() };
    all.zones().iter().flat_map(|zone| cover.at(zone)).collect()
}

struct Cover<'a> {
    all: &'a NameCells,
    cells: &'a BTreeSet<(HostName, Depth)>,
    done: BTreeSet<(HostName, Depth)>,
}

impl Cover<'_> {
    fn at(&mut self, zone: &HostName) -> Vec<(Pattern, Vec<Pattern>)> {
        let mut found = Vec::new();
        if self.take(zone, Depth::Itself) {
            found.push((Pattern::Exact(zone.clone()), Vec::new()));
        }
        match (self.is_open(zone, Depth::OneBelow), self.is_open(zone, Depth::Deeper)) {
            (true, true) => found.push(self.any_labels(zone)),
            (true, false) => found.push(self.one_label(zone)),
            (false, true) => found.push(self.deeper(zone)),
            (false, false) => {}
        }
        found
    }

    fn any_labels(&mut self, zone: &HostName) -> (Pattern, Vec<Pattern>) {
        let mut except = Vec::new();
        self.take_below(zone, &mut except);
        (Pattern::AnyLabels(zone.clone()), except)
    }

    fn one_label(&mut self, zone: &HostName) -> (Pattern, Vec<Pattern>) {
        self.take(zone, Depth::OneBelow);
        let mut except = Vec::new();
        for child in self.all.children(zone) {
            if !self.take(child, Depth::Itself) {
                except.push(Pattern::Exact(child.clone()));
            }
        }
        (Pattern::OneLabel(zone.clone()), except)
    }

    fn deeper(&mut self, zone: &HostName) -> (Pattern, Vec<Pattern>) {
        self.take(zone, Depth::Deeper);
        let mut except = vec![Pattern::OneLabel(zone.clone())];
        for child in self.all.children(zone) {
            self.take_child(child, &mut except);
        }
        (Pattern::AnyLabels(zone.clone()), except)
    }

    /// Takes all there is below `zone`, and notes what is not among the cells.
    fn take_below(&mut self, zone: &HostName, except: &mut Vec<Pattern>) {
        self.take(zone, Depth::OneBelow);
        self.take(zone, Depth::Deeper);
        for child in self.all.children(zone) {
            if !self.take(child, Depth::Itself) {
                except.push(Pattern::Exact(child.clone()));
            }
            self.take_child(child, except);
        }
    }

    /// The same, of what stands below `child`: whole, or it is an exception and left to its own patterns.
    fn take_child(&mut self, child: &HostName, except: &mut Vec<Pattern>) {
        match self.is_open(child, Depth::OneBelow) && self.is_open(child, Depth::Deeper) {
            true => self.take_below(child, except),
            false => except.push(Pattern::AnyLabels(child.clone())),
        }
    }

    fn is_open(&self, zone: &HostName, depth: Depth) -> bool {
        let cell = (zone.clone(), depth);
        self.cells.contains(&cell) && !self.done.contains(&cell)
    }

    /// Whether it is one of the cells that no pattern is about so far; then this one is.
    fn take(&mut self, zone: &HostName, depth: Depth) -> bool {
        self.is_open(zone, depth) && self.done.insert((zone.clone(), depth))
    }
}
