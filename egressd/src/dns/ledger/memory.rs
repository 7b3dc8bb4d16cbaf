//! What an account remembers of names. It may be forgotten: then names cost what new ones do.

use super::{evidence::Kept, seen::Seen};
use crate::policy::{LeakFlag, Secrets};

#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub seen: Seen,
    /// The last of each flag.
    kept: Vec<Kept>,
    /// The last names that were refused because of a flag, and those of them that somebody approved: these
    /// pay what new names do, and raise no flag.
    refused: [u64; MAX_REFUSED],
    approved: [u64; MAX_REFUSED],
    next: u8,
    tail: Tail,
}

impl Memory {
    pub fn keep(&mut self, kept: Kept) {
        let flag = kept.evidence.sign.flag();
        if self.kept.capacity() == 0 {
            self.kept.reserve_exact(LeakFlag::ALL.len());
        }
        self.kept.retain(|held| held.evidence.sign.flag() != flag);
        self.kept.push(kept);
    }

    /// In the order in which they were raised.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter()
    }

    pub fn note_refused(&mut self, name: u64) {
        if !self.refused.contains(&name) {
            let at = usize::from(self.next);
            self.refused[at] = name;
            self.next = u8::try_from((at + 1) % MAX_REFUSED).unwrap_or_default();
        }
    }

    pub fn approve(&mut self) {
        self.approved = std::mem::take(&mut self.refused);
        self.kept.clear();
    }

    #[must_use]
    pub fn is_approved(&self, name: u64) -> bool {
        self.approved.contains(&name)
    }

    /// The name of a secret that `prefix` holds a part of, its labels in either order or behind the labels
    /// that left before it.
    pub fn secret_in<'a>(&self, secrets: &'a Secrets, prefix: &str) -> Option<&'a str> {
        if secrets.is_empty() {
            return None;
        }
        let last_first = || prefix.rsplit('.').collect::<Vec<_>>().join(".");
        secrets
            .found_in(prefix)
            .or_else(|| secrets.found_in(&last_first()))
            .or_else(|| secrets.found_in(&self.tail.and(first_label(prefix))))
    }

    pub fn left(&mut self, prefix: &str) {
        self.tail.push(first_label(prefix));
    }

    #[cfg(test)]
    pub fn octets(&self) -> usize {
        size_of::<Self>()
            + self.seen.octets()
            + self.kept.capacity() * size_of::<Kept>()
            + self.tail.0.capacity()
    }
}

/// The last first labels that left, for a secret that goes out in pieces.
#[derive(Debug, Clone, Default)]
struct Tail(String);

impl Tail {
    fn push(&mut self, label: &str) {
        self.0.reserve_exact((MAX_TAIL + 64).saturating_sub(self.0.len()));
        self.0.push_str(label);
        self.0.push('.');
        while self.0.len() > MAX_TAIL || self.0.matches('.').count() > MAX_LABELS {
            let first = self.0.find('.').map_or(self.0.len(), |dot| dot + 1);
            self.0.drain(..first);
        }
    }

    fn and(&self, label: &str) -> String {
        format!("{}{label}", self.0)
    }
}

fn first_label(prefix: &str) -> &str {
    prefix.split('.').next().unwrap_or(prefix)
}

/// Names that were refused and can be approved: what a person looks at in one go.
const MAX_REFUSED: usize = 8;
/// Labels that are looked at together, and their octets: pieces that are longer are found alone.
const MAX_LABELS: usize = 7;
const MAX_TAIL: usize = 128;
