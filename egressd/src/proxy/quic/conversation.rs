//! What a client says in the datagrams of one flow. Pure.
//!
//! Most of a connection cannot be read, and need not be: nobody at its address serves a client whose Initial
//! it has not read. So every Initial is read, of every connection that a flow carries, whatever else was said
//! before; and one that cannot be read, of a connection that we have not met, is no server's to answer.

use super::{
    connection::{Connection, Number, Standing, malformed},
    packet::{self, Hail, Initial},
};
use crate::{
    policy::Reason,
    proxy::{
        hello::{Hello, Misread},
        peek::PATIENCE,
    },
};
use std::time::Duration;
use tokio::time::Instant;

/// The connections of one flow whose handshakes are not long over.
#[derive(Default)]
pub struct Conversation {
    known: Vec<Connection>,
    next: u64,
}

/// What a datagram was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// No Initial is in it: it begins nothing.
    Other,
    /// A hello is not whole yet.
    Part(Number),
    /// All that this connection has said is whole hellos, which agree.
    Whole(Number, Hello),
    /// Of a connection that was denied.
    Denied(Number, Reason),
}

/// What no client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misheard {
    /// None: of no connection.
    pub number: Option<Number>,
    pub misread: Misread,
}

/// The most connections of one flow whose hellos are remembered. A socket that speaks to one server needs
/// one; those that share a socket, one for each name.
pub const MAX_CONNECTIONS: usize = 16;

/// How long a connection is remembered behind its last Initial. Handshakes are over, or given up, sooner.
pub const MEMORY: Duration = Duration::from_secs(60);

impl Conversation {
    /// Reads a datagram.
    ///
    /// # Errors
    /// It is one that no client sends, or opens more than [`MAX_CONNECTIONS`]. The connection that it is of,
    /// if any, should be denied.
    pub fn hear(&mut self, datagram: &[u8], now: Instant) -> Result<Heard, Misheard> {
        let of_none = |misread| Misheard { number: None, misread };
        let initials = packet::initials(datagram).map_err(|error| of_none(malformed(error)))?;
        if initials.is_empty() {
            return Ok(Heard::Other);
        }
        let (connection, opened) = self.open(&initials, now).map_err(of_none)?;
        connection.heard = now;
        let number = connection.number;
        if let Standing::Denied(reason) = connection.standing {
            return Ok(Heard::Denied(number, reason));
        }
        match connection.take(&opened).map(Option::<&Hello>::cloned) {
            Ok(Some(hello)) => {
                connection.reading = None;
                Ok(Heard::Whole(number, hello))
            }
            Ok(None) => {
                connection.reading.get_or_insert(now);
                Ok(Heard::Part(number))
            }
            Err(misread) => Err(Misheard { number: Some(number), misread }),
        }
    }

    /// What was judged of a connection.
    #[must_use]
    pub fn standing(&self, number: Number) -> Standing {
        let known = self.known.iter().find(|known| known.number == number);
        known.map_or(Standing::Unjudged, |known| known.standing)
    }

    /// Writes down what was judged of a connection.
    pub fn settle(&mut self, number: Number, standing: Standing) {
        if let Some(known) = self.known.iter_mut().find(|known| known.number == number) {
            known.standing = standing;
            if matches!(standing, Standing::Denied(_)) {
                known.reading = None;
            }
        }
    }

    /// Whether any connection has not named its server yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.known.iter().any(|known| known.standing == Standing::Unjudged)
    }

    /// Whether nothing was heard, or it is long ago.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A connection whose hello has not become whole in time, and who it is between.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Option<(Number, Hail<'_>)> {
        let is_overdue = |known: &&Connection| known.reading.is_some_and(|since| since + PATIENCE <= now);
        self.known.iter().find(is_overdue).map(|known| (known.number, known.hail()))
    }

    /// The connection that the Initials are of, and what they hold.
    fn open(
        &mut self,
        initials: &[Initial<'_>],
        now: Instant,
    ) -> Result<(&mut Connection, Vec<super::keys::Opened>), Misread> {
        self.known.retain(|known| known.heard + MEMORY > now);
        let found =
            self.known.iter_mut().enumerate().find_map(|(at, known)| Some((at, known.open(initials)?)));
        let (at, opened) = match found {
            Some(found) => found,
            None => {
                let number = Number(self.next);
                let (connection, opened) =
                    Connection::begin(number, initials, now).ok_or_else(|| malformed(SEALED))?;
                if self.known.len() >= MAX_CONNECTIONS {
                    return Err(Misread::explained(Reason::QuotaExceeded, "connections of one QUIC flow"));
                }
                self.next += 1;
                self.known.push(connection);
                (self.known.len() - 1, opened)
            }
        };
        match self.known.get_mut(at) {
            Some(connection) => Ok((connection, opened)),
            None => Err(malformed(SEALED)),
        }
    }
}

const SEALED: &str = "an Initial cannot be opened";
