//! A flow that is open: its socket towards the server, and what comes back through it.

use crate::{
    policy::{Destination, Permit},
    proxy::{
        dial::{DialError, UpstreamDatagrams, dial_datagrams},
        flows::LiveFlow,
    },
};
use socket2::SockRef;
use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{io::Interest, net::UdpSocket, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// Where one socket of the agent is answered.
#[derive(Debug, Clone)]
pub struct Door {
    pub socket: Arc<UdpSocket>,
    pub peer: SocketAddr,
}

impl Door {
    /// Sends a datagram to the agent. What its socket has no room for is lost, as on any network.
    pub fn answer(&self, datagram: &[u8]) {
        let _ = SockRef::from(&*self.socket).send_to(datagram, &self.peer.into());
    }
}

/// The way to the one address of a permit, and back. Closed when it is dropped.
pub struct Open {
    upstream: Arc<UpstreamDatagrams>,
    shared: Arc<Shared>,
    _replies: AbortOnDropHandle<()>,
}

struct Shared {
    leaves: Mutex<Vec<Leave>>,
    start: Instant,
    /// Milliseconds behind `start` at which the server sent last.
    heard: AtomicU64,
    has_answered: AtomicBool,
}

/// By one of the names that the flow has named.
struct Leave {
    name: Destination,
    /// Keeps the flow in the list of live flows.
    live: LiveFlow,
    /// Whether its rule is another than those of all before it.
    pays: bool,
}

impl Open {
    /// Opens the way; `refused` is what the agent is told if nobody listens at its end.
    ///
    /// # Errors
    /// There is no route to the address.
    pub fn dial(permit: &Permit, door: Door, refused: Option<Vec<u8>>) -> Result<Self, DialError> {
        let upstream = Arc::new(dial_datagrams(permit)?);
        let shared = Arc::new(Shared {
            leaves: Mutex::default(),
            start: Instant::now(),
            heard: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
        });
        let replies = replies(Arc::clone(&upstream), Arc::clone(&shared), door, refused);
        let replies = AbortOnDropHandle::new(tokio::spawn(replies));
        Ok(Self { upstream, shared, _replies: replies })
    }

    /// Keeps the flow in the list of live flows by another name, or the same.
    pub fn keep(&self, live: LiveFlow, name: &Destination) {
        let mut leaves = self.shared.leaves();
        if leaves.iter().any(|held| held.name == *name) {
            return;
        }
        let pays = leaves.iter().all(|held| held.live.purse().rule() != live.purse().rule());
        leaves.push(Leave { name: name.clone(), live, pays });
    }

    /// Whether the policy no longer allows one of the names: which datagrams are whose cannot be told.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shared.is_cut()
    }

    /// Sends a datagram to the server. What cannot be sent is lost, as on any network: too large a one, too, and
    /// one that cannot be paid for. An empty one is no QUIC.
    pub fn send(&self, datagram: &[u8]) {
        if !datagram.is_empty() && self.shared.pays(datagram.len()) {
            let _ = SockRef::from(&self.upstream.0).send(datagram);
        }
    }

    /// When the server sent last.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.shared.start + Duration::from_millis(self.shared.heard.load(Ordering::Relaxed))
    }
}

impl Shared {
    fn is_cut(&self) -> bool {
        self.leaves().iter().any(|leave| leave.live.is_cut())
    }

    /// Has every rule pay by which something was named, or none: which datagrams are whose cannot be told. The
    /// agent's own budget pays as often, which costs it more, and never less.
    fn pays(&self, octets: usize) -> bool {
        let leaves = self.leaves();
        let payers = || leaves.iter().filter(|leave| leave.pays).map(|leave| leave.live.purse());
        for (count, purse) in payers().enumerate() {
            if purse.pay(octets).is_err() {
                payers().take(count).for_each(|paid| paid.give_back(octets));
                return false;
            }
        }
        !leaves.is_empty()
    }

    fn note(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(elapsed, Ordering::Relaxed);
        self.has_answered.store(true, Ordering::Relaxed);
    }

    // Entries are pushed whole.
    fn leaves(&self) -> MutexGuard<'_, Vec<Leave>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends to the agent what the server answers, until the flow is cut.
async fn replies(
    upstream: Arc<UpstreamDatagrams>,
    shared: Arc<Shared>,
    door: Door,
    mut refused: Option<Vec<u8>>,
) {
    let mut learn = |error: &io::Error| {
        let is_refused = error.kind() == ErrorKind::ConnectionRefused;
        if is_refused && !shared.has_answered.load(Ordering::Relaxed) {
            refused.take().inspect(|refused| door.answer(refused));
        }
    };
    while let Ok(ready) = upstream.0.ready(ARRIVALS).await
        && !shared.is_cut()
    {
        if ready.is_error() {
            let _ = upstream.0.try_io(Interest::ERROR, || pending_error(&upstream.0)).inspect_err(&mut learn);
        }
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..BATCH {
                match upstream.0.try_recv(buffer) {
                    Ok(length) => {
                        shared.note();
                        door.answer(&buffer[..length]);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    Err(error) => learn(&error),
                }
            }
        });
    }
}

/// What became of a datagram that was sent: an error of the network's, else one that says that there is none.
fn pending_error(upstream: &UdpSocket) -> io::Result<()> {
    Err(upstream.take_error()?.unwrap_or(ErrorKind::WouldBlock.into()))
}

/// Datagrams, and what became of those that were sent.
const ARRIVALS: Interest = Interest::READABLE.add(Interest::ERROR);

/// Datagrams that a flow sends back before others have their turn.
const BATCH: usize = 32;

thread_local! {
    /// The largest datagram. A thread fills and empties it without a pause.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 0xffff].into());
}
