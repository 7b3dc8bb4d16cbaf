//! Rules that open a part of a host: the requests that they name.
//!
//! Of rules that open the same, the first is obeyed. So what opens all of a host stands before what opens a part of it,
//! and parts of one host stand in one rule.

use super::{
    draft::{Allow, Line, Written, worse},
    overlap::subjects_overlap,
};
use crate::authoring::fate::Fate;
use std::collections::HashMap;

/// Whether a line opens no more than a part of something.
pub(super) fn is_part(line: &Line) -> bool {
    line.written.iter().any(|written| part(written).is_some())
}

/// Joins the parts of one host in the first of their lines; what came of a line stands in the other, then. Pairs of
/// these are returned, the first line of a host behind the one that was joined to it.
pub(super) fn join(lines: &mut [Line]) -> Vec<(usize, usize)> {
    let mut firsts: HashMap<String, (usize, usize)> = HashMap::new();
    let mut joined = Vec::new();
    for at in 0..lines.len() {
        let (before, rest) = lines.split_at_mut(at);
        let Some((own, _)) = rest.split_first_mut() else { continue };
        let mut kept = Vec::new();
        for written in own.written.drain(..) {
            let Some(part) = part(&written) else {
                kept.push(written);
                continue;
            };
            let key = format!("{} {:?}", part.subject, part.ports);
            let first = firsts.get(&key).copied();
            let is_taken = match first.and_then(|(line, item)| before.get_mut(line)?.written.get_mut(item)) {
                Some(Written::Allow(first)) => take(first, part),
                Some(Written::Include(_) | Written::Packages(_) | Written::Deny(_)) | None => false,
            };
            match first {
                Some((line, _)) if is_taken => joined.push((at, line)),
                Some(_) | None => {
                    firsts.entry(key).or_insert((at, kept.len()));
                    kept.push(written);
                }
            }
        }
        own.written = kept;
    }
    narrow(lines);
    joined
}

/// Adds the requests of `part` to those of `first`, as far as a rule names so many.
fn take(first: &mut Allow, part: &Allow) -> bool {
    let more: Vec<&String> =
        part.requests.iter().filter(|request| !first.requests.contains(request)).collect();
    let fits = first.requests.len() + more.len() <= MAX_REQUESTS;
    if fits {
        first.requests.extend(more.into_iter().cloned());
    }
    fits
}

/// As many as a rule of ours may name.
const MAX_REQUESTS: usize = 256;

/// Tells what an earlier part keeps from a later one.
fn narrow(lines: &mut [Line]) {
    for at in 0..lines.len() {
        let (before, rest) = lines.split_at_mut(at);
        let Some((own, _)) = rest.split_first_mut() else { continue };
        let is_bounded = |part: &Allow| {
            before.iter().flat_map(parts).any(|first| {
                first.requests != part.requests && subjects_overlap(&first.subject, &part.subject)
            })
        };
        if parts(own).any(is_bounded) {
            let why = (
                Fate::Narrowed,
                "of names that a rule before it is about, only its requests pass".to_owned(),
            );
            let said = own.translated.why.take().map(|why| (own.translated.fate, why));
            if let Some((fate, why)) = worse(said, Some(why)) {
                own.translated.fate = fate;
                own.translated.why = Some(why);
            }
        }
    }
}

fn parts(line: &Line) -> impl Iterator<Item = &Allow> {
    line.written.iter().filter_map(part)
}

fn part(written: &Written) -> Option<&Allow> {
    match written {
        Written::Allow(allow) if !allow.requests.is_empty() => Some(allow),
        Written::Allow(_) | Written::Include(_) | Written::Packages(_) | Written::Deny(_) => None,
    }
}
