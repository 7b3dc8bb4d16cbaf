//! Requests that wait for people, and the denials that are remembered. Reads no clock but for what it shows.

use crate::policy::{AgentId, Destination, Process, Question, Reason, Source};
use jiff::Timestamp;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Requests of one agent that are listed at a time: more than people decide about.
pub const MAX_REQUESTS: usize = 64;
/// Destinations of one request that are told apart.
pub const MAX_DESTINATIONS: usize = 16;
/// Lookups and tunnels of one agent that wait at a time; those on top are denied at once, and listed.
pub const MAX_WAITING: usize = 64;
/// Denials of one agent that are remembered: the oldest gives way.
pub const MAX_DENIED: usize = 256;
/// How long a request is listed that nobody asks for any more.
pub const KEEP: Duration = Duration::from_secs(15 * 60);

/// What makes requests one: who asks, by which program, below which registered domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub agent: AgentId,
    /// The registered domain, the whole name where there is none, or an address.
    pub group: String,
    /// The file name of the program; `-` where it is not known.
    pub process: String,
}

impl Key {
    pub fn of(agent: AgentId, destination: &Destination, process: &str) -> Self {
        let group = match destination {
            Destination::Name(name) => psl::domain_str(name.as_str()).unwrap_or(name.as_str()).to_owned(),
            Destination::Address(address) => address.to_string(),
        };
        Self { agent, group, process: process.to_owned() }
    }
}

/// The file name of a program, as records have it; `-` where it is not known.
pub fn called(process: Option<&Process>) -> String {
    let path = process
        .and_then(|process| process.executable.as_deref().or_else(|| process.command.split(' ').next()));
    let name = path.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    name.unwrap_or("-").chars().take(MAX_NAME).collect()
}

/// Letters of a program's name.
const MAX_NAME: usize = 64;

/// What people decided: no reason stands for a yes.
pub type Outcome = Option<Result<(), Reason>>;

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: u32,
    pub key: Key,
    /// What was asked for, each once.
    pub questions: Vec<Question>,
    /// The rule that wants an approval; None where no rule knows the destination.
    pub source: Option<Source>,
    /// How often it was asked for.
    pub asked: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    touched: Instant,
    outcome: watch::Sender<Outcome>,
}

impl Entry {
    /// Lookups and tunnels that wait for it.
    pub fn waiting(&self) -> usize {
        self.outcome.receiver_count()
    }

    fn add(&mut self, question: &Question, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        (self.touched, self.last) = (now, Timestamp::now());
        let is_same =
            |held: &Question| (&held.destination, held.port) == (&question.destination, question.port);
        if self.questions.len() < MAX_DESTINATIONS && !self.questions.iter().any(is_same) {
            self.questions.push(Question { process: None, ..question.clone() });
        }
    }
}

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

/// Every request, and every denial that is remembered.
#[derive(Debug, Default)]
pub struct Book {
    /// Oldest first.
    entries: Vec<Entry>,
    denied: Vec<Denied>,
    places: HashMap<AgentId, Arc<Semaphore>>,
    last_id: u32,
}

impl Book {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Lists `question`, or joins it to the request that is there, and returns its number.
    ///
    /// # Errors
    /// It was denied not long ago, or [`MAX_REQUESTS`] are listed.
    pub fn join(
        &mut self,
        key: Key,
        question: &Question,
        source: Option<Source>,
        now: Instant,
    ) -> Result<u32, Reason> {
        self.tidy(now);
        if self.denied.iter().any(|denied| denied.key == key) {
            return Err(Reason::ApprovalDenied);
        }
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.key == key) {
            entry.add(question, now);
            return Ok(entry.id);
        }
        if self.entries.iter().filter(|entry| entry.key.agent == key.agent).count() >= MAX_REQUESTS {
            return Err(Reason::ApprovalRequired);
        }
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let time = Timestamp::now();
        let mut entry = Entry {
            id: self.last_id,
            key,
            questions: Vec::new(),
            source,
            asked: 0,
            first: time,
            last: time,
            touched: now,
            outcome: watch::Sender::new(None),
        };
        entry.add(question, now);
        self.entries.push(entry);
        Ok(self.last_id)
    }

    /// The same, and waits there.
    ///
    /// # Errors
    /// Also where [`MAX_WAITING`] wait: it is listed then, and denied.
    pub fn wait(
        &mut self,
        key: Key,
        question: &Question,
        source: Option<Source>,
        now: Instant,
    ) -> Result<Waiting, Reason> {
        let places = self.places.entry(key.agent).or_insert_with(|| Arc::new(Semaphore::new(MAX_WAITING)));
        let place = Arc::clone(places).try_acquire_owned();
        let id = self.join(key, question, source, now)?;
        let entry = self.entries.iter().find(|entry| entry.id == id);
        match (entry, place) {
            (Some(entry), Ok(place)) => Ok(Waiting { outcome: entry.outcome.subscribe(), _place: place }),
            (Some(_) | None, _) => Err(Reason::ApprovalRequired),
        }
    }

    /// Lets go whatever waits for what `decided` asks for, by whichever program.
    pub fn approve(&mut self, decided: &Entry) {
        let is_approved = |asked: &Question| {
            decided.questions.iter().any(|approved| approved.destination == asked.destination)
        };
        let is_meant = |entry: &mut Entry| {
            let is_same = entry.id == decided.id;
            is_same || entry.key.agent == decided.key.agent && entry.questions.iter().all(is_approved)
        };
        for entry in self.entries.extract_if(.., is_meant) {
            entry.outcome.send_replace(Some(Ok(())));
        }
    }

    /// Denies what waits for `decided`, and whatever joins it before `until`.
    pub fn deny(&mut self, decided: &Entry, until: Instant) {
        for entry in self.entries.extract_if(.., |entry| entry.key == decided.key) {
            entry.outcome.send_replace(Some(Err(Reason::ApprovalDenied)));
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

    /// Forgets what nobody asks for any more, and denials whose time is over.
    pub fn tidy(&mut self, now: Instant) {
        self.entries.retain(|entry| entry.waiting() > 0 || now.duration_since(entry.touched) < KEEP);
        self.denied.retain(|denied| now < denied.until);
        self.places.retain(|_, places| places.available_permits() < MAX_WAITING);
    }

    /// Forgets an agent that ended.
    pub fn forget(&mut self, agent: AgentId) {
        self.entries.retain(|entry| entry.key.agent != agent);
        self.denied.retain(|denied| denied.key.agent != agent);
        self.places.remove(&agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::HostName;

    #[test]
    fn what_one_program_asks_for_below_one_registered_domain_is_one_request() {
        let (mut book, now) = (Book::default(), Instant::now());
        let ids: Vec<u32> = [
            (1, "api.a.example.co.uk", "curl"),
            (1, "cdn.example.co.uk", "curl"),
            (1, "api.a.example.co.uk", "curl"),
            (1, "api.a.example.co.uk", "git"),
            (1, "other.co.uk", "curl"),
            (2, "cdn.example.co.uk", "curl"),
        ]
        .map(|(agent, name, process)| ask(&mut book, agent, name, process, now).unwrap())
        .to_vec();
        assert_eq!(ids, [1, 1, 1, 2, 3, 4]);
        let first = &book.entries()[0];
        assert_eq!((first.key.group.as_str(), first.asked, first.questions.len()), ("example.co.uk", 3, 2));
    }

    #[test]
    fn an_approval_lets_go_whatever_asks_for_no_more_than_was_approved() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut waiting = [
            wait(&mut book, 1, "a.example.com", "curl", now).unwrap(),
            wait(&mut book, 1, "a.example.com", "git", now).unwrap(),
            wait(&mut book, 1, "b.example.com", "npm", now).unwrap(),
            wait(&mut book, 2, "a.example.com", "curl", now).unwrap(),
        ];
        let decided = book.entries()[0].clone();
        book.approve(&decided);
        let outcomes = waiting.each_mut().map(|waiting| *waiting.outcome.borrow_and_update());
        assert_eq!(outcomes, [Some(Ok(())), Some(Ok(())), None, None]);
        assert_eq!(book.entries().len(), 2);
    }

    #[test]
    fn a_denial_is_remembered_for_the_same_program_and_domain_until_its_end() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut waiting = wait(&mut book, 1, "a.example.com", "curl", now).unwrap();
        let decided = book.entries()[0].clone();
        let end = now + Duration::from_secs(60);
        book.deny(&decided, end);
        assert_eq!(*waiting.outcome.borrow_and_update(), Some(Err(Reason::ApprovalDenied)));
        assert_eq!(ask(&mut book, 1, "b.example.com", "curl", now), Err(Reason::ApprovalDenied));
        assert!(ask(&mut book, 1, "b.example.com", "git", now).is_ok());
        assert!(ask(&mut book, 2, "b.example.com", "curl", now).is_ok());
        assert!(ask(&mut book, 1, "b.example.com", "curl", end).is_ok(), "it is asked again");
    }

    #[test]
    fn an_agent_lists_and_waits_within_its_bounds_and_another_has_its_own() {
        let (mut book, now) = (Book::default(), Instant::now());
        for number in 0..MAX_REQUESTS {
            ask(&mut book, 1, &format!("n{number}.com"), "curl", now).unwrap();
        }
        assert_eq!(ask(&mut book, 1, "more.com", "curl", now), Err(Reason::ApprovalRequired));
        assert!(ask(&mut book, 2, "more.com", "curl", now).is_ok());
        for number in 0..2 * MAX_DESTINATIONS {
            ask(&mut book, 1, &format!("x{number}.n0.com"), "curl", now).unwrap();
        }
        assert_eq!(book.entries()[0].questions.len(), MAX_DESTINATIONS);
        let waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| wait(&mut book, 1, "n0.com", "curl", now).unwrap()).collect();
        assert!(matches!(wait(&mut book, 1, "n0.com", "curl", now), Err(Reason::ApprovalRequired)));
        assert!(wait(&mut book, 2, "more.com", "curl", now).is_ok());
        assert_eq!(book.entries()[0].waiting(), MAX_WAITING);
        drop(waiting);
        assert!(wait(&mut book, 1, "n0.com", "curl", now).is_ok());
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten_and_so_is_an_agent_that_ended() {
        let (mut book, now) = (Book::default(), Instant::now());
        ask(&mut book, 1, "a.example.com", "curl", now).unwrap();
        let waiting = wait(&mut book, 2, "a.example.com", "curl", now).unwrap();
        book.tidy(now + KEEP);
        assert_eq!(book.entries().len(), 1, "one is waited for");
        book.forget(AgentId(2));
        assert!(book.entries().is_empty() && waiting.outcome.has_changed().is_err(), "who waits is let go");
    }

    fn ask(book: &mut Book, agent: u32, name: &str, process: &str, now: Instant) -> Result<u32, Reason> {
        let question = question(name);
        book.join(Key::of(AgentId(agent), &question.destination, process), &question, None, now)
    }

    fn wait(book: &mut Book, agent: u32, name: &str, process: &str, now: Instant) -> Result<Waiting, Reason> {
        let question = question(name);
        book.wait(Key::of(AgentId(agent), &question.destination, process), &question, None, now)
    }

    fn question(name: &str) -> Question {
        let destination = Destination::Name(HostName::parse(name).expect("a name"));
        Question { destination, port: None, protocol: None, process: None }
    }
}
