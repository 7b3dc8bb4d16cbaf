//! Requests that wait for people, and the denials that are remembered. Reads no clock but for what it shows.

use super::entry::{Entry, Key};
use crate::policy::{AgentId, Question, Reason, Source};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Requests of one agent that are listed at a time: more than people decide about.
pub const MAX_REQUESTS: usize = 64;
/// Requests of one agent that begin within [`MINUTE`]: as many as somebody can look at meanwhile.
pub const MAX_BEGUN: usize = 8;
pub const MINUTE: Duration = Duration::from_secs(60);
/// Lookups and tunnels of one agent that wait at a time; those on top are denied at once, and listed.
pub const MAX_WAITING: usize = 64;
/// Denials of one agent that are remembered: the oldest gives way.
pub const MAX_DENIED: usize = 256;
/// How long a request is listed that nobody asks for any more.
pub const KEEP: Duration = Duration::from_secs(15 * 60);

/// What people decided: no reason stands for a yes.
pub type Outcome = Option<Result<(), Reason>>;

/// A place in a request, until it is dropped.
#[derive(Debug)]
pub struct Waiting {
    pub outcome: watch::Receiver<Outcome>,
    _place: OwnedSemaphorePermit,
}

/// A no that is remembered.
#[derive(Debug)]
struct Denied {
    key: Key,
    until: Instant,
}

/// What one agent may have people look at.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    /// When requests began, for a minute. At most [`MAX_BEGUN`].
    begun: Vec<Instant>,
}

/// Every request, and every denial that is remembered.
#[derive(Debug, Default)]
pub struct Book {
    /// Oldest first.
    entries: Vec<Entry>,
    denied: Vec<Denied>,
    rooms: HashMap<AgentId, Room>,
    last_number: u32,
}

impl Book {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Lists `question`, or joins it to the request that is there. Returns what people will say.
    ///
    /// # Errors
    /// It was denied not long ago, or is more than one agent may ask for: see [`MAX_REQUESTS`], [`MAX_BEGUN`] and
    /// [`super::entry::MAX_DESTINATIONS`].
    pub fn join(
        &mut self,
        key: Key,
        program: &str,
        question: &Question,
        source: Option<Source>,
        now: Instant,
    ) -> Result<watch::Sender<Outcome>, Reason> {
        self.tidy(now);
        if self.has_denied(&key, now) {
            return Err(Reason::ApprovalDenied);
        }
        let known = self.entries.iter().position(|entry| entry.key == key);
        let index = match known {
            Some(index) => index,
            None => self.begin(key, now)?,
        };
        let wish = self.entries.get_mut(index).and_then(|entry| entry.add(question, source, program, now));
        wish.map(|wish| wish.outcome.clone()).ok_or(Reason::ApprovalsExceeded)
    }

    /// The same, and waits there.
    ///
    /// # Errors
    /// Also where [`MAX_WAITING`] wait: it is listed then, and denied.
    pub fn wait(
        &mut self,
        key: Key,
        program: &str,
        question: &Question,
        source: Option<Source>,
        now: Instant,
    ) -> Result<Waiting, Reason> {
        let place = Arc::clone(&self.room(key.agent).places).try_acquire_owned();
        let outcome = self.join(key, program, question, source, now)?;
        match place {
            Ok(place) => Ok(Waiting { outcome: outcome.subscribe(), _place: place }),
            Err(_) => Err(Reason::ApprovalRequired),
        }
    }

    /// Lets go whatever waits for what `decided` asks for; what joined it since then still waits.
    pub fn approve(&mut self, decided: &Entry) {
        for entry in self.entries.iter_mut().filter(|entry| entry.key == decided.key) {
            for wish in entry.wishes.extract_if(.., |wish| decided.covers(wish)) {
                wish.outcome.send_replace(Some(Ok(())));
            }
        }
        self.entries.retain(|entry| !entry.wishes.is_empty());
    }

    /// Denies what waits for `decided`, and whatever joins it before `until`, by whichever program.
    pub fn deny(&mut self, decided: &Entry, until: Instant) {
        for entry in self.entries.extract_if(.., |entry| entry.key == decided.key) {
            for wish in entry.wishes {
                wish.outcome.send_replace(Some(Err(Reason::ApprovalDenied)));
            }
        }
        let key = decided.key.clone();
        self.denied.retain(|denied| denied.key != key);
        if self.denied.iter().filter(|denied| denied.key.agent == key.agent).count() >= MAX_DENIED
            && let Some(oldest) = self.denied.iter().position(|denied| denied.key.agent == key.agent)
        {
            self.denied.remove(oldest);
        }
        self.denied.push(Denied { key, until });
    }

    /// Whether a no about `key` is remembered.
    pub fn has_denied(&self, key: &Key, now: Instant) -> bool {
        self.denied.iter().any(|denied| denied.key == *key && now < denied.until)
    }

    /// Forgets what nobody asks for any more, and denials whose time is over.
    pub fn tidy(&mut self, now: Instant) {
        self.entries.retain(|entry| entry.waiting() > 0 || now.duration_since(entry.touched()) < KEEP);
        self.denied.retain(|denied| now < denied.until);
        self.rooms.values_mut().for_each(|room| room.tidy(now));
        self.rooms.retain(|_, room| room.places.available_permits() < MAX_WAITING || !room.begun.is_empty());
    }

    /// Forgets an agent that ended.
    pub fn forget(&mut self, agent: AgentId) {
        self.entries.retain(|entry| entry.key.agent != agent);
        self.denied.retain(|denied| denied.key.agent != agent);
        self.rooms.remove(&agent);
    }

    /// Begins a request without wishes, and returns where it is.
    fn begin(&mut self, key: Key, now: Instant) -> Result<usize, Reason> {
        let listed = self.entries.iter().filter(|entry| entry.key.agent == key.agent).count();
        let room = self.room(key.agent);
        room.tidy(now);
        if listed >= MAX_REQUESTS || room.begun.len() >= MAX_BEGUN {
            return Err(Reason::ApprovalsExceeded);
        }
        room.begun.push(now);
        self.last_number = self.last_number.wrapping_add(1).max(1);
        self.entries.push(Entry::new(self.last_number, key, now));
        Ok(self.entries.len() - 1)
    }

    fn room(&mut self, agent: AgentId) -> &mut Room {
        self.rooms
            .entry(agent)
            .or_insert_with(|| Room { places: Arc::new(Semaphore::new(MAX_WAITING)), begun: Vec::new() })
    }
}

impl Room {
    fn tidy(&mut self, now: Instant) {
        self.begun.retain(|begun| now.duration_since(*begun) < MINUTE);
    }
}

#[cfg(test)]
mod tests;
