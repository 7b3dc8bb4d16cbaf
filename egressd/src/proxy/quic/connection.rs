//! One connection, as far as its client's Initials tell. Pure.

use super::{
    frames,
    keys::{InitialKeys, Opened},
    packet::{Hail, Initial, VERSIONS, Version},
    stream::{CryptoStream, MAX_HELLO, Unfit},
};
use crate::{
    policy::Reason,
    proxy::hello::{self, Hello, Misread},
};
use tokio::time::Instant;

/// What is known of a connection.
pub struct Connection {
    pub number: Number,
    pub standing: Standing,
    /// When an Initial came last.
    pub heard: Instant,
    /// Since when a hello has not been whole.
    pub reading: Option<Instant>,
    first: OwnedHail,
    keys: [Option<InitialKeys>; VERSIONS.len()],
    /// The packet number that the client gives next.
    next: u64,
    stream: CryptoStream,
    /// Octets of the stream that were whole hellos.
    read: usize,
    hellos: usize,
    /// The last of them.
    hello: Option<Hello>,
}

/// Tells the connections of one flow apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub u64);

/// What was judged of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Unjudged,
    Permitted,
    Denied(Reason),
}

impl Connection {
    /// A connection whose first Initial this is; None where it cannot be opened.
    #[must_use]
    pub fn begin(number: Number, initials: &[Initial<'_>], now: Instant) -> Option<(Self, Vec<Opened>)> {
        let mut connection = Self {
            number,
            standing: Standing::Unjudged,
            heard: now,
            reading: None,
            first: OwnedHail::of(initials.first()?.hail),
            keys: [None, None],
            next: 0,
            stream: CryptoStream::default(),
            read: 0,
            hellos: 0,
            hello: None,
        };
        let opened = connection.open(initials)?;
        Some((connection, opened))
    }

    /// Takes the protection off all of `initials`; None where any of them is not of this connection.
    ///
    /// The client chooses the connection id of its first Initial, and what a server would choose for it has
    /// no influence on the keys (RFC 9001, section 5.2). A server may answer in another version: then the
    /// client goes on in that one, with the same handshake (RFC 9368, section 2.3).
    #[must_use]
    pub fn open(&mut self, initials: &[Initial<'_>]) -> Option<Vec<Opened>> {
        let mut all = Vec::with_capacity(initials.len());
        let mut next = self.next;
        for initial in initials {
            let opened = self.keys(initial.hail.version)?.open(initial, next)?;
            next = next.max(opened.number.saturating_add(1));
            all.push(opened);
        }
        self.next = next;
        Some(all)
    }

    /// Takes what the Initials of one datagram say. Returns the hello once all that was said is whole.
    ///
    /// # Errors
    /// No client says that, or it names another server than before.
    pub fn take(&mut self, opened: &[Opened]) -> Result<Option<&Hello>, Misread> {
        for Opened { payload, is_plain, .. } in opened {
            let pieces = frames::crypto(payload).filter(|_| *is_plain).ok_or_else(|| malformed(FRAMES))?;
            for (offset, piece) in pieces {
                self.stream.take(offset, piece).map_err(unfit)?;
            }
        }
        while let Some(hello) = self.next_hello()? {
            self.read += hello.length;
            self.hellos += 1;
            self.hello = Some(self.agreed(hello)?);
        }
        Ok(self.hello.as_ref().filter(|_| self.read == self.stream.end()))
    }

    /// As the first Initial said it.
    #[must_use]
    pub fn hail(&self) -> Hail<'_> {
        let OwnedHail { version, to, from } = &self.first;
        Hail { version: *version, to, from }
    }

    fn next_hello(&self) -> Result<Option<Hello>, Misread> {
        let rest = &self.stream.start()[self.read..];
        if rest.is_empty() {
            return Ok(None);
        }
        let hello = hello::message(rest)?;
        let length = hello.as_ref().map_or(rest.len(), |hello| hello.length);
        match length <= MAX_HELLO {
            true => Ok(hello),
            false => Err(Misread::explained(Reason::HelloTooLarge, Unfit::Long)),
        }
    }

    /// Only a server that asks for it gets a second hello, which differs in little and never in its server
    /// name (RFC 8446, sections 4.1.2 and 4.1.4); and never a third.
    fn agreed(&self, hello: Hello) -> Result<Hello, Misread> {
        let Some(first) = &self.hello else { return Ok(hello) };
        if self.hellos > MAX_HELLOS {
            return Err(malformed("a handshake has more than two hellos"));
        }
        if first.name != hello.name {
            let why = format!("the first ClientHello named {}, the second {}", first.name, hello.name);
            return Err(Misread::explained(Reason::ServerNameChanged, why));
        }
        match hello.has_ech && !first.has_ech {
            true => Err(Misread::explained(Reason::EchNotAllowed, "only in the second ClientHello")),
            false => Ok(hello),
        }
    }

    fn keys(&mut self, version: Version) -> Option<&InitialKeys> {
        let slot = VERSIONS.iter().position(|known| *known == version)?;
        let slot = self.keys.get_mut(slot)?;
        if slot.is_none() {
            *slot = Some(InitialKeys::of_client(version, &self.first.to)?);
        }
        slot.as_ref()
    }
}

const MAX_HELLOS: usize = 2;

/// [`Hail`], kept.
struct OwnedHail {
    version: Version,
    to: Vec<u8>,
    from: Vec<u8>,
}

impl OwnedHail {
    fn of(hail: Hail<'_>) -> Self {
        Self { version: hail.version, to: hail.to.to_vec(), from: hail.from.to_vec() }
    }
}

const FRAMES: &str = "an Initial holds what no Initial may hold";

pub fn malformed(why: impl std::fmt::Display) -> Misread {
    Misread::explained(Reason::InitialMalformed, why)
}

fn unfit(unfit: Unfit) -> Misread {
    match unfit {
        Unfit::Long => Misread::explained(Reason::HelloTooLarge, unfit),
        Unfit::Scattered | Unfit::Contradicted => malformed(unfit),
    }
}
