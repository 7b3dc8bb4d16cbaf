//! One flow: the datagrams between a socket of the agent and the address that it asked for.

use super::{
    connection::{Number, Standing, malformed},
    conversation::{Conversation, Heard, Misheard},
    held::Held,
    open::{Door, Open},
    packet::{self, Unreadable},
    parting,
};
use crate::{
    policy::{Denial, Destination, HostName, Permit, Protocol, Reason},
    proxy::{
        hello::{Hello, Misread},
        judge::{judge_ech, judge_redirected},
        origin::{Caller, Sought},
        peek::PATIENCE,
    },
};
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// A flow, from its first datagram until it has been silent for [`IDLE`].
pub struct Flow {
    caller: Caller,
    original: SocketAddr,
    door: Door,
    conversation: Conversation,
    held: Held,
    open: Option<Open>,
    /// When the agent sent last.
    heard: Instant,
    /// When something came that waits for the first Initial.
    early: Option<Instant>,
    /// Whether a datagram of no connection was denied: one record of that is enough.
    has_complained: bool,
    _slot: OwnedSemaphorePermit,
}

/// How long a flow may be silent. QUIC's own connections end so, unless their ends keep them alive, after 30
/// seconds in most programs (RFC 9000, section 10.1).
pub const IDLE: Duration = Duration::from_secs(60);

/// What the agent is told.
pub type Answer = Option<Vec<u8>>;

impl Flow {
    #[must_use]
    pub fn new(caller: Caller, original: SocketAddr, door: Door, slot: OwnedSemaphorePermit) -> Self {
        Self {
            caller,
            original,
            door,
            conversation: Conversation::default(),
            held: Held::default(),
            open: None,
            heard: Instant::now(),
            early: None,
            has_complained: false,
            _slot: slot,
        }
    }

    /// Takes a datagram of the agent: passes it on, holds it, or denies it.
    pub fn take(&mut self, datagram: &[u8], now: Instant) -> Answer {
        self.heard = now;
        self.forget_what_was_cut();
        match self.conversation.hear(datagram, now) {
            Ok(Heard::Other) => self.other(datagram),
            Ok(Heard::Part(number)) => {
                self.held.keep(Some(number), datagram);
                None
            }
            Ok(Heard::Whole(number, hello)) => self.judge(number, &hello, datagram),
            Ok(Heard::Denied(_, reason)) => parting_words(datagram, reason),
            Err(misheard) => self.deny_misheard(misheard, datagram),
        }
    }

    /// Denies what has not named its server in time. Returns what the agent is told of each.
    pub fn deny_overdue(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        while let Some((number, hail)) = self.conversation.overdue(now) {
            answers.extend(parting::denied(hail, Reason::HelloTimeout));
            self.record(&self.sought(None), &Denial::because(Reason::HelloTimeout), None);
            self.settle_denied(number, Reason::HelloTimeout);
        }
        let is_late = self.early.is_some_and(|since| since + PATIENCE <= now);
        if is_late && self.conversation.is_empty() {
            self.early = None;
            self.held = Held::default();
            self.record(&self.sought(None), &Denial::because(Reason::HelloTimeout), None);
        }
        answers
    }

    /// Whether nothing has moved for [`IDLE`].
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        let last = self.open.as_ref().map_or(self.heard, |open| open.heard().max(self.heard));
        last + IDLE <= now
    }

    /// Whether this flow goes to `original`.
    #[must_use]
    pub fn is_to(&self, original: SocketAddr) -> bool {
        original == self.original
    }

    /// What begins nothing: more of connections whose names are known, or 0-RTT data that overtook its hello.
    fn other(&mut self, datagram: &[u8]) -> Answer {
        match &self.open {
            Some(open) => {
                open.send(datagram);
                None
            }
            None if self.conversation.is_waiting() => {
                self.held.keep(None, datagram);
                None
            }
            None if self.conversation.is_empty() && packet::is_long(datagram) => {
                self.early.get_or_insert(self.heard);
                self.held.keep(None, datagram);
                None
            }
            // Of what was denied.
            None if !self.conversation.is_empty() => None,
            None => self.complain(malformed("the flow does not begin with an Initial"), datagram),
        }
    }

    fn judge(&mut self, number: Number, hello: &Hello, datagram: &[u8]) -> Answer {
        let sought = self.sought(Some(&hello.name));
        match self.conversation.standing(number) {
            Standing::Permitted => {
                self.pass(number, datagram);
                None
            }
            Standing::Unjudged | Standing::Denied(_) => match self.permit(hello) {
                Ok(permit) => self.admit(number, &sought, &permit, datagram),
                Err(denial) => self.deny(number, &sought, &denial, None, datagram),
            },
        }
    }

    /// The permit by name for this very address.
    fn permit(&self, hello: &Hello) -> Result<Permit, Denial> {
        let agent = &self.caller.agent;
        let name = Destination::Name(hello.name.clone());
        let permit = judge_redirected(agent, &name, self.original, Protocol::Quic, self.caller.now())?;
        judge_ech(agent, &permit, hello)?;
        Ok(permit)
    }

    /// The first datagram goes upstream here, and only behind a permit.
    fn admit(&mut self, number: Number, sought: &Sought, permit: &Permit, datagram: &[u8]) -> Answer {
        let purse = match self.caller.gate.begin(&self.caller.agent, permit, datagram.len()) {
            Ok(purse) => purse,
            Err(denial) => return self.deny(number, sought, &denial, None, datagram),
        };
        // It is paid for as it goes.
        purse.give_back(datagram.len());
        if self.open.is_none() {
            match Open::dial(permit, self.door.clone(), unreachable_words(datagram)) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    self.caller.record_permit(sought, permit, Some(error.to_string()));
                    self.settle_denied(number, Reason::UpstreamFailed);
                    return unreachable_words(datagram);
                }
            }
        }
        let entered = self.caller.gate.admit(&self.caller.agent, permit, purse);
        match (entered, &self.open) {
            (Ok(live), Some(open)) => open.keep(live, permit.destination()),
            (Err(denial), _) => return self.deny(number, sought, &denial, None, datagram),
            (Ok(_), None) => return None,
        }
        self.caller.record_permit(sought, permit, None);
        self.conversation.settle(number, Standing::Permitted);
        self.pass(number, datagram);
        None
    }

    /// What came before it goes first.
    fn pass(&mut self, number: Number, datagram: &[u8]) {
        let Some(open) = &self.open else { return };
        for earlier in self.held.take(number) {
            open.send(&earlier);
        }
        open.send(datagram);
    }

    fn deny_misheard(&mut self, misheard: Misheard, datagram: &[u8]) -> Answer {
        let Misheard { number, misread } = misheard;
        let Some(number) = number else { return self.complain(misread, datagram) };
        let denial = Denial::because(misread.reason);
        self.deny(number, &self.sought(None), &denial, misread.detail, datagram)
    }

    /// Denies a connection. Others of the flow live on: they were judged by their own names.
    fn deny(
        &mut self,
        number: Number,
        sought: &Sought,
        denial: &Denial,
        detail: Option<String>,
        datagram: &[u8],
    ) -> Answer {
        self.record(sought, denial, detail);
        self.settle_denied(number, denial.reason);
        parting_words(datagram, denial.reason)
    }

    /// Denies a datagram of no connection.
    fn complain(&mut self, misread: Misread, datagram: &[u8]) -> Answer {
        if !std::mem::replace(&mut self.has_complained, true) {
            self.record(&self.sought(None), &Denial::because(misread.reason), misread.detail);
        }
        match packet::initials(datagram) {
            Err(Unreadable::Version { to, from, .. }) => parting::other_versions(&to, &from),
            Ok(_) | Err(_) => parting_words(datagram, misread.reason),
        }
    }

    fn settle_denied(&mut self, number: Number, reason: Reason) {
        self.conversation.settle(number, Standing::Denied(reason));
        self.held.forget(number);
    }

    /// A flow whose leave has ended begins anew, if at all: with an Initial.
    fn forget_what_was_cut(&mut self) {
        if self.open.as_ref().is_some_and(Open::is_cut) {
            self.open = None;
            self.conversation = Conversation::default();
            self.held = Held::default();
            self.early = None;
            // The cut is on record.
            self.has_complained = true;
        }
    }

    fn record(&self, sought: &Sought, denial: &Denial, detail: Option<String>) {
        self.caller.record_denial(sought, Protocol::Quic, denial, detail);
    }

    fn sought(&self, name: Option<&HostName>) -> Sought {
        let mut sought = Sought::address(self.original);
        if let Some(name) = name {
            sought.destination = Some(Destination::Name(name.clone()));
        }
        sought
    }
}

/// What ends the attempt that a datagram is part of.
#[must_use]
pub fn parting_words(datagram: &[u8], reason: Reason) -> Answer {
    parting::denied(packet::initials(datagram).ok()?.first()?.hail, reason)
}

fn unreachable_words(datagram: &[u8]) -> Answer {
    parting::refused(packet::initials(datagram).ok()?.first()?.hail)
}
