//! The answers of one agent that may be told again as they are.
//!
//! An answer gets here after policy and grants let it out, and stays until its TTL ends, or until the
//! agent's policy is replaced or its grants are taken back ([`crate::policy::Agent::generation`]).
//! Nothing here is shared between agents.

mod answer;
mod plain;

pub use answer::{Basis, Kept};

use crate::{
    audit::{Event, Recorder},
    policy::Moment,
};
use answer::Encoded;
use plain::{Key, Plain};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The most answers that are kept for one agent.
pub const MAX_ANSWERS: usize = 2048;

/// The most octets that they take: 2,048 answers of 12 addresses each, or 500 as large as they get.
pub const MAX_OCTETS: usize = 1 << 20;

/// The answers of one agent, a copy for each thread that tells them, so that threads do not wait for each
/// other.
#[derive(Debug)]
pub struct Hot {
    clock: fn() -> Moment,
    shards: Vec<Mutex<Shard>>,
}

impl Hot {
    /// Answers that `threads` tell. How often is recorded by `recorder`.
    #[must_use]
    pub fn new(threads: usize, recorder: &Recorder, clock: fn() -> Moment) -> Self {
        let shards = (0..threads).map(|_| Mutex::new(Shard::new(recorder.clone())));
        Self { clock, shards: shards.collect() }
    }

    /// This moment, by which answers are judged.
    #[must_use]
    pub fn now(&self) -> Moment {
        (self.clock)()
    }

    /// Tells `kept` again to whoever asks the same.
    pub fn keep(&self, kept: Kept) {
        let (generation, now) = (kept.basis.generation, self.now());
        let Some(encoded) = Encoded::new(kept).map(Arc::new) else { return };
        for shard in &self.shards {
            lock(shard).keep(Arc::clone(&encoded), generation, now);
        }
    }

    /// What thread `number` tells.
    pub fn shard(&self, number: usize) -> Option<MutexGuard<'_, Shard>> {
        self.shards.get(number).map(lock)
    }

    /// Records what was told and is not recorded yet.
    pub fn record(&self) {
        self.shards.iter().for_each(|shard| lock(shard).record());
    }
}

// A panic while the lock was held cannot leave half an answer behind: they are inserted whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answers that one thread tells.
#[derive(Debug)]
pub struct Shard {
    recorder: Recorder,
    answers: HashMap<Arc<[u8]>, Held>,
    octets: usize,
    /// Those that were told since the last [`Self::record`].
    told: Vec<Arc<[u8]>>,
}

#[derive(Debug)]
struct Held {
    encoded: Arc<Encoded>,
    told: u64,
}

impl Shard {
    fn new(recorder: Recorder) -> Self {
        Self { recorder, answers: HashMap::new(), octets: 0, told: Vec::new() }
    }

    /// Writes the answer to `message` into `out`, and returns how long it is. None where somebody else has
    /// to judge it.
    pub fn answer(&mut self, message: &[u8], generation: u64, now: Moment, out: &mut [u8]) -> Option<usize> {
        let plain = Plain::read(message)?;
        let held = self.answers.get_mut(Key::of(plain.question).as_octets())?;
        if !held.encoded.is_good(generation, now) {
            return None;
        }
        let length = held.encoded.write(&plain, now, out)?;
        held.told += 1;
        if held.told == 1 {
            self.told.push(Arc::clone(&held.encoded.key));
        }
        // Answers that came, went and came again stand there more than once.
        if self.told.len() > MAX_ANSWERS {
            self.record();
        }
        Some(length)
    }

    /// Whether something was told that is not recorded.
    #[must_use]
    pub fn owes_records(&self) -> bool {
        !self.told.is_empty()
    }

    /// Records what was told since the last call: an event for each answer, with how often.
    pub fn record(&mut self) {
        for key in std::mem::take(&mut self.told) {
            if let Some(held) = self.answers.get_mut(&key) {
                held.record(&self.recorder);
            }
        }
    }

    fn keep(&mut self, encoded: Arc<Encoded>, generation: u64, now: Moment) {
        self.remove(&encoded.key);
        if !self.has_room(encoded.size()) {
            self.make_room(encoded.size(), generation, now);
        }
        self.octets += encoded.size();
        self.answers.insert(Arc::clone(&encoded.key), Held { encoded, told: 0 });
    }

    fn has_room(&self, octets: usize) -> bool {
        self.answers.len() < MAX_ANSWERS && self.octets + octets <= MAX_OCTETS
    }

    /// Drops what can no longer be told, then what would be the first to go.
    fn make_room(&mut self, octets: usize, generation: u64, now: Moment) {
        let ended = self.answers.values().filter(|held| !held.encoded.is_good(generation, now));
        let ended: Vec<_> = ended.map(|held| Arc::clone(&held.encoded.key)).collect();
        ended.iter().for_each(|key| self.remove(key));
        while !self.has_room(octets) {
            let first = self.answers.values().min_by_key(|held| held.encoded.lasts_until());
            let Some(key) = first.map(|held| Arc::clone(&held.encoded.key)) else { return };
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Arc<[u8]>) {
        if let Some(mut held) = self.answers.remove(key) {
            held.record(&self.recorder);
            self.octets -= held.encoded.size();
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.record();
    }
}

impl Held {
    fn record(&mut self, recorder: &Recorder) {
        let count = std::mem::take(&mut self.told);
        if count > 0 {
            recorder.record(Event { count, ..self.encoded.event.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
