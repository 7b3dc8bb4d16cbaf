//! One request that waits for people: what it asks for, and as what it was listed.

use super::book::Outcome;
use crate::policy::{AgentId, Destination, Process, Question, Source};
use jiff::Timestamp;
use std::{
    hash::{BuildHasher, RandomState},
    time::Instant,
};
use tokio::sync::watch;

/// Destinations of one request: what comes on top is denied at once.
pub const MAX_DESTINATIONS: usize = 16;

/// Programs of one request that are listed: the first that asked.
pub const MAX_PROGRAMS: usize = 8;

/// Letters of a program's name.
const MAX_NAME: usize = 64;

/// What makes requests one: who asks, below which registered domain. Not by which program: an agent calls its
/// programs as it likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub agent: AgentId,
    /// The registered domain, the whole name where there is none, or an address.
    pub group: String,
}

impl Key {
    pub fn of(agent: AgentId, destination: &Destination) -> Self {
        let group = match destination {
            Destination::Name(name) => psl::domain_str(name.as_str()).unwrap_or(name.as_str()).to_owned(),
            Destination::Address(address) => address.to_string(),
        };
        Self { agent, group }
    }
}

/// The file name of a program, as records have it; `-` where it is not known.
pub fn called(process: Option<&Process>) -> String {
    let path = process
        .and_then(|process| process.executable.as_deref().or_else(|| process.command.split(' ').next()));
    let name = path.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    name.unwrap_or("-").chars().take(MAX_NAME).collect()
}

/// One request.
#[derive(Debug, Clone)]
pub struct Entry {
    pub number: u32,
    pub key: Key,
    /// What is asked for, each once, in the order in which it was.
    pub wishes: Vec<Wish>,
    /// The file names of programs that ask.
    pub programs: Vec<String>,
    /// How often it was asked for.
    pub asked: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    touched: Instant,
}

/// One destination of a request.
#[derive(Debug, Clone)]
pub struct Wish {
    pub question: Question,
    /// The rule that wants an approval; None where no rule knows the destination.
    pub source: Option<Source>,
    /// As what the request is listed while this is the last of its wishes.
    mark: String,
    pub outcome: watch::Sender<Outcome>,
}

impl Entry {
    pub fn new(number: u32, key: Key, now: Instant) -> Self {
        let (programs, wishes, time) = (Vec::new(), Vec::new(), Timestamp::now());
        Self { number, key, wishes, programs, asked: 0, first: time, last: time, touched: now }
    }

    /// The wish that `question` is, whether it is there already or joins; None where there are
    /// [`MAX_DESTINATIONS`].
    pub fn add(
        &mut self,
        question: &Question,
        source: Option<Source>,
        program: &str,
        now: Instant,
    ) -> Option<&Wish> {
        self.asked = self.asked.saturating_add(1);
        (self.touched, self.last) = (now, Timestamp::now());
        if self.programs.len() < MAX_PROGRAMS && !self.programs.iter().any(|known| known == program) {
            self.programs.push(program.to_owned());
        }
        let known = self.wishes.iter().position(|wish| is_same(&wish.question, question));
        if known.is_none() && self.wishes.len() < MAX_DESTINATIONS {
            let question = Question { process: None, ..question.clone() };
            self.wishes.push(Wish { question, source, mark: mark(), outcome: watch::Sender::new(None) });
            return self.wishes.last();
        }
        self.wishes.get(known?)
    }

    /// Four letters that are others as soon as a wish joins, so that nobody approves what was not listed.
    pub fn mark(&self) -> &str {
        self.wishes.last().map_or("", |wish| &wish.mark)
    }

    /// The request as it was listed with this mark; None where it never was.
    pub fn as_listed(&self, mark: &str) -> Option<Self> {
        let last = self.wishes.iter().position(|wish| wish.mark == mark)?;
        let wishes = self.wishes.iter().take(last + 1).cloned().collect();
        Some(Self { wishes, ..self.clone() })
    }

    /// Whether a yes to this request is one to `wish`. A lookup is for any port.
    pub fn covers(&self, wish: &Wish) -> bool {
        self.wishes.iter().map(|own| &own.question).any(|own| {
            let asked = &wish.question;
            let is_port = own.port.is_none() || asked.port.is_none() || own.port == asked.port;
            own.destination == asked.destination && is_port
        })
    }

    /// Lookups and tunnels that wait for it.
    pub fn waiting(&self) -> usize {
        self.wishes.iter().map(|wish| wish.outcome.receiver_count()).sum()
    }

    /// Since when nobody has asked for it.
    pub fn touched(&self) -> Instant {
        self.touched
    }
}

/// Whether both ask for the same. Of a name the rule behind it says the protocol.
fn is_same(one: &Question, other: &Question) -> bool {
    let is_protocol = match one.destination {
        Destination::Name(_) => true,
        Destination::Address(_) => one.protocol == other.protocol,
    };
    (&one.destination, one.port) == (&other.destination, other.port) && is_protocol
}

/// Letters that no agent can choose or foretell, without vowels, so that they are no word.
fn mark() -> String {
    const LETTERS: &[u8; 16] = b"bcdfghjkmnpqrtvx";
    let drawn = RandomState::new().hash_one(0).to_le_bytes();
    let letter = |octet: &u8| LETTERS.get(usize::from(octet % 16)).copied().map(char::from);
    drawn.iter().take(4).filter_map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{HostName, Protocol};

    #[test]
    fn a_request_is_listed_as_another_once_something_joins_it() {
        let now = Instant::now();
        let mut entry = Entry::new(1, key(), now);
        let first = ask(&mut entry, "a.example.com", now);
        assert_eq!(ask(&mut entry, "a.example.com", now), first, "what is there already joins nothing");
        let second = ask(&mut entry, "b.example.com", now);
        assert_ne!(first, second);
        let listed = |mark: &str| entry.as_listed(mark).map(|entry| entry.wishes.len());
        assert_eq!([listed(&first), listed(&second), listed("")], [Some(1), Some(2), None]);
    }

    #[test]
    fn an_address_is_asked_for_by_each_protocol_on_its_own() {
        let now = Instant::now();
        let mut entry = Entry::new(1, key(), now);
        let destination = Destination::Address(std::net::IpAddr::from([192, 0, 2, 7]));
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Tcp] {
            let (destination, protocol) = (destination.clone(), Some(protocol));
            let question = Question { destination, port: Some(53), protocol, process: None };
            assert!(entry.add(&question, None, "dig", now).is_some());
        }
        assert_eq!(entry.wishes.len(), 2);
    }

    #[test]
    fn wishes_and_programs_of_a_request_are_bounded() {
        let now = Instant::now();
        let mut entry = Entry::new(1, key(), now);
        for number in 0..MAX_DESTINATIONS {
            assert!(entry.add(&question(&format!("x{number}.example.com")), None, "curl", now).is_some());
        }
        assert!(entry.add(&question("more.example.com"), None, "curl", now).is_none());
        for number in 0..2 * MAX_PROGRAMS {
            entry.add(&question("x1.example.com"), None, &format!("program{number}"), now);
        }
        assert_eq!((entry.wishes.len(), entry.programs.len()), (MAX_DESTINATIONS, MAX_PROGRAMS));
    }

    fn ask(entry: &mut Entry, name: &str, now: Instant) -> String {
        entry.add(&question(name), None, "curl", now);
        entry.mark().to_owned()
    }

    fn question(name: &str) -> Question {
        let destination = Destination::Name(HostName::parse(name).expect("a name"));
        Question { destination, port: None, protocol: None, process: None }
    }

    fn key() -> Key {
        Key { agent: AgentId(1), group: "example.com".to_owned() }
    }
}
