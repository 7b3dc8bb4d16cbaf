//! What one agent may hold at the gate: connections, buffers and pipes.

use super::pipes::{Pipe, Pipes};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds of one agent, and what is left below them.
#[derive(Debug)]
pub struct Share {
    slots: Arc<Semaphore>,
    buffered: Counter,
    lent: Counter,
    inspected: Arc<Semaphore>,
    pipes: Arc<Pipes>,
}

impl Share {
    /// The share of an agent that may have so many connections. The pipes are those of all agents.
    #[must_use]
    pub fn new(connections: usize, pipes: Arc<Pipes>) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(connections)),
            buffered: Counter::new(MAX_BUFFERED),
            lent: Counter::new(MAX_PIPES_OF_AGENT),
            inspected: Arc::new(Semaphore::new(MAX_INSPECTED)),
            pipes,
        })
    }

    /// Room for one more connection.
    #[must_use]
    pub fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Room for one more connection whose TLS is ended.
    #[must_use]
    pub fn inspection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inspected).try_acquire_owned().ok()
    }

    /// Room for so many octets of buffer.
    #[must_use]
    pub fn buffer(self: &Arc<Self>, octets: usize) -> Option<Lease> {
        self.buffered.take(octets).then(|| Lease { share: Arc::clone(self), octets })
    }

    /// An empty pipe, for as long as bytes move; None if this agent, or all of them, have enough.
    #[must_use]
    pub fn pipe(self: &Arc<Self>) -> Option<Loan> {
        let lent = self.lent.take(1).then(|| Lent(Arc::clone(self)))?;
        Some(Loan { pipe: self.pipes.take()?, lent })
    }
}

/// The most octets that the buffers of one agent take, beyond the first [`super::wire::FIRST_READ`]
/// of each: 256 of its flows at full speed through buffers, or as many of the largest hellos.
pub const MAX_BUFFERED: usize = 16 * 1024 * 1024;

/// The most connections of one agent whose TLS is ended. Each holds up to some 2 MiB where its sides do not
/// read: windows of HTTP/2, and what was answered to each of its requests.
pub const MAX_INSPECTED: usize = 256;

/// The most pipes that one agent's flows have at once. A reader that stands still keeps up to
/// [`super::pipes::CAPACITY`] octets in each; flows beyond it are copied.
pub const MAX_PIPES_OF_AGENT: usize = 32;

/// Room that was taken for a buffer; it is given back with this value.
#[derive(Debug)]
pub struct Lease {
    share: Arc<Share>,
    octets: usize,
}

impl Lease {
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.share.buffered.give_back(self.octets);
    }
}

/// A pipe on loan. It is closed, with what is in it, if it is not given back.
#[derive(Debug)]
pub struct Loan {
    pub pipe: Pipe,
    lent: Lent,
}

impl Loan {
    /// Ends the loan of an empty pipe.
    pub fn give_back(self) {
        self.lent.0.pipes.put_back(self.pipe);
    }
}

#[derive(Debug)]
struct Lent(Arc<Share>);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.lent.give_back(1);
    }
}

/// How much is left of something that is counted.
#[derive(Debug)]
pub struct Counter(AtomicUsize);

impl Counter {
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(AtomicUsize::new(most))
    }

    /// Takes `count`, if so much is left.
    #[must_use]
    pub fn take(&self, count: usize) -> bool {
        let less = |left: usize| left.checked_sub(count);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    pub fn give_back(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_no_more_pipes_and_buffers_than_its_share_and_leaves_others_theirs() {
        let pipes = Pipes::new();
        let (greedy, modest) = (Share::new(1, Arc::clone(&pipes)), Share::new(1, pipes));
        let mut loans: Vec<Loan> = std::iter::from_fn(|| greedy.pipe()).collect();
        assert_eq!(loans.len(), MAX_PIPES_OF_AGENT);
        assert!(modest.pipe().is_some());
        let leases: Vec<Lease> = std::iter::from_fn(|| greedy.buffer(64 * 1024)).collect();
        assert_eq!(leases.iter().map(Lease::octets).sum::<usize>(), MAX_BUFFERED);
        assert!(modest.buffer(64 * 1024).is_some());

        loans.pop().unwrap().give_back();
        drop(leases);
        assert!(greedy.pipe().is_some() && greedy.buffer(MAX_BUFFERED).is_some());
    }
}
