//! Which lines decide, put into our order, where denials win.

use super::{
    draft::{Allow, Deny, Line, MAX_PORTS, Written},
    overlap::overlap,
};
use crate::authoring::fate::Fate;

/// Where any line that denies decides.
pub(super) fn deny_wins(lines: &mut [Line]) {
    let cut = lines.iter().find(|line| line.cuts).map(place);
    cut_off(lines.iter_mut(), cut);
}

/// Where the first line decides: a denial counts only against what comes behind it.
pub(super) fn first_wins(lines: &mut [Line]) {
    if let Some(first) = lines.iter().position(|line| line.cuts) {
        let cut = lines.get(first).map(place);
        cut_off(lines.iter_mut().skip(first), cut);
    }
    for at in 0..lines.len() {
        let denies: Vec<Deny> = lines.get(at).map(denies).unwrap_or_default();
        for deny in denies {
            resolve(lines, at, &deny);
        }
    }
}

/// Keeps the denial at `at` if it takes only from what comes behind it. Else it goes, and with it what it
/// would have to take from.
fn resolve(lines: &mut [Line], at: usize, deny: &Deny) {
    let takes = |line: &Line| allows(line).any(|allow| overlap(allow, deny));
    let (before, behind) = lines.split_at_mut(at);
    let Some((own, behind)) = behind.split_first_mut() else { return };
    let is_needed = behind.iter().any(takes);
    if is_needed && !before.iter().any(takes) {
        return;
    }
    let closer = closer(deny, behind.iter().flat_map(allows));
    if is_needed && !before.iter().flat_map(allows).any(|allow| overlap(allow, &closer)) {
        for written in own.written.iter_mut().filter(|written| **written == Written::Deny(deny.clone())) {
            *written = Written::Deny(closer.clone());
        }
        return;
    }
    own.written.retain(|written| *written != Written::Deny(deny.clone()));
    let why = format!("an earlier line allows a part of what {} denies of it", own.translated.place);
    if own.written.is_empty() && own.translated.fate != Fate::Widened {
        own.translated.fate = Fate::Exact;
        own.translated.why = Some("nothing else allows it".to_owned());
    }
    for line in behind.iter_mut().filter(|line| takes(line)) {
        lose(line, why.clone());
    }
}

/// The same denial, at no other ports than those that `allows` opens.
fn closer<'a>(deny: &Deny, allows: impl Iterator<Item = &'a Allow>) -> Deny {
    let taken = allows.filter(|allow| overlap(allow, deny)).flat_map(|allow| &allow.ports);
    let mut ports: Vec<u16> =
        taken.copied().filter(|port| deny.ports.is_empty() || deny.ports.contains(port)).collect();
    ports.sort_unstable();
    ports.dedup();
    match ports.is_empty() || ports.len() > MAX_PORTS {
        true => deny.clone(),
        false => Deny { ports, ..deny.clone() },
    }
}

/// Takes back what lines allow, since the denial at `cut` could not be written.
fn cut_off<'a>(lines: impl Iterator<Item = &'a mut Line>, cut: Option<String>) {
    let Some(cut) = cut else { return };
    for line in lines.filter(|line| line.written.iter().any(|written| !matches!(written, Written::Deny(_)))) {
        lose(line, format!("the denial at {cut} comes first, and no rule says it"));
    }
}

pub(super) fn allows(line: &Line) -> impl Iterator<Item = &Allow> {
    line.written.iter().filter_map(|written| match written {
        Written::Allow(allow) => Some(allow),
        Written::Include(_) | Written::Packages(_) | Written::Deny(_) => None,
    })
}

pub(super) fn denies(line: &Line) -> Vec<Deny> {
    let deny = |written: &Written| match written {
        Written::Deny(deny) => Some(deny.clone()),
        Written::Include(_) | Written::Packages(_) | Written::Allow(_) => None,
    };
    line.written.iter().filter_map(deny).collect()
}

fn lose(line: &mut Line, why: String) {
    line.written.clear();
    line.translated.fate = Fate::Lost;
    line.translated.why = Some(why);
}

fn place(line: &Line) -> String {
    line.translated.place.clone()
}
