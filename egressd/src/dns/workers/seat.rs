//! One UDP socket of one agent, as its thread and the tasks behind it see it.

use crate::{dns::hot::Hot, policy::Agent};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The most queries that wait behind one socket for what threads do not do; at the worst 256 KiB. Beyond,
/// the kernel keeps what comes, as much as a socket's buffer holds.
pub const MAX_WAITING: usize = 64;

/// A query that needs more than a look into what is kept.
#[derive(Debug)]
pub struct Query {
    pub message: Box<[u8]>,
    pub peer: SocketAddr,
}

/// A socket, and who asks through it.
pub struct Seat {
    pub agent: Arc<Agent>,
    pub hot: Arc<Hot>,
    pub token: u64,
    /// None after the agent's end. Held for as long as something is sent by it, so that nothing is sent
    /// after that.
    socket: RwLock<Option<UdpSocket>>,
    waiting: Sender<Query>,
    is_paused: AtomicBool,
}

impl Seat {
    pub fn new(
        agent: Arc<Agent>,
        hot: Arc<Hot>,
        token: u64,
        socket: UdpSocket,
    ) -> (Arc<Self>, Receiver<Query>) {
        let (waiting, queries) = channel(MAX_WAITING);
        let socket = RwLock::new(Some(socket));
        (Arc::new(Self { agent, hot, token, socket, waiting, is_paused: AtomicBool::new(false) }), queries)
    }

    /// What `act` does with the socket; None if it is closed.
    pub fn with<T>(&self, act: impl FnOnce(&UdpSocket) -> T) -> Option<T> {
        self.socket.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }

    /// Closes the socket. Nothing is sent through it from here on.
    pub fn close(&self, epoll: &Epoll) {
        let socket = self.socket.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // It leaves with its last descriptor anyway.
            let _ = epoll.delete(&socket);
        }
    }

    /// A reply that cannot be sent is lost, as datagrams may be: the agent asks again.
    pub fn send(&self, reply: &[u8], peer: SocketAddr) {
        if let Some(Err(error)) = self.with(|socket| socket.send_to(reply, peer)) {
            tracing::debug!(%error, %peer, "failed to send a dns answer");
        }
    }

    /// How many queries may be handed over.
    pub fn room(&self) -> usize {
        self.waiting.capacity()
    }

    /// Hands a query over. Only the socket's thread does, so that there is the [`Self::room`] that it saw.
    pub fn hand_over(&self, query: Query) {
        if let Err(error) = self.waiting.try_send(query) {
            tracing::debug!(%error, "failed to hand a dns query over");
        }
    }

    /// Reads no more from the socket until [`Self::resume`].
    pub fn pause(&self, epoll: &Epoll) {
        self.listen(epoll, EpollFlags::empty());
        // Errors are told all the same, until somebody takes them.
        let _ = self.with(UdpSocket::take_error);
        self.is_paused.store(true, Ordering::SeqCst);
        // Whoever took the last query may have looked before this was paused.
        if self.room() > 0 {
            self.resume(epoll);
        }
    }

    /// Reads on, if reading was paused.
    pub fn resume(&self, epoll: &Epoll) {
        if self.is_paused.load(Ordering::SeqCst) && self.is_paused.swap(false, Ordering::SeqCst) {
            self.listen(epoll, EpollFlags::EPOLLIN);
        }
    }

    fn listen(&self, epoll: &Epoll, events: EpollFlags) {
        let changed = self.with(|socket| epoll.modify(socket, &mut EpollEvent::new(events, self.token)));
        if let Some(Err(error)) = changed {
            tracing::warn!(%error, "failed to change what a dns socket waits for");
        }
    }
}
