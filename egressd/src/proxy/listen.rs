//! The listeners of one agent.

use super::{
    explicit::{Manner, tunnel},
    gate::Gate,
    http::{Asked, Session},
    origin::{Caller, Sought},
    peek::{self, PATIENCE},
    quic::{self, MAX_QUIC_FLOWS},
    share::Share,
    socks, transparent,
    wire::{AgentStream, Wire},
    workers::{Seat, Workers},
};
use crate::policy::{Agent, Denial, Protocol, Reason, Transport};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, SockRef};
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    os::fd::{AsFd, AsRawFd, FromRawFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Where one agent reaches the gate.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The kernel redirects flows here.
    pub transparent: Vec<TcpListener>,
    /// And QUIC here, at the same ports.
    pub quic: Vec<UdpSocket>,
    /// The agent may use these as its HTTP proxy.
    pub explicit: Vec<TcpListener>,
}

/// Serves `agent` on its listeners. Dropping the future closes every connection of the agent.
pub async fn serve(agent: Arc<Agent>, listeners: Listeners, gate: Arc<Gate>) {
    serve_at_most(MAX_CONNECTIONS, agent, listeners, gate).await;
}

pub(super) async fn serve_at_most(
    connections: usize,
    agent: Arc<Agent>,
    listeners: Listeners,
    gate: Arc<Gate>,
) {
    let share = Share::new(connections, Arc::clone(&gate.pipes));
    let workers = gate.workers.clone().unwrap_or_else(Workers::none);
    let home = Arc::new(workers.home());
    let open = CancellationToken::new();
    let _closing = open.clone().drop_guard();
    let mut doors = JoinSet::new();
    let flows = connections.min(MAX_QUIC_FLOWS);
    doors.spawn(quic::serve(flows, Arc::clone(&agent), listeners.quic, Arc::clone(&gate)));
    let transparent = listeners.transparent.into_iter().map(|listener| (listener, Kind::Transparent));
    let explicit = listeners.explicit.into_iter().map(|listener| (listener, Kind::Explicit));
    for (listener, kind) in transparent.chain(explicit) {
        let door = Door {
            agent: Arc::clone(&agent),
            gate: Arc::clone(&gate),
            kind,
            share: Arc::clone(&share),
            workers: Arc::clone(&workers),
            home: Arc::clone(&home),
            open: open.clone(),
        };
        let name = agent.name().clone();
        let serve = async move {
            if let Err(error) = door.serve(listener).await {
                tracing::error!(agent = %name, %error, "failed to serve a listener");
            }
        };
        doors.spawn_on(serve, &home.runtime());
    }
    while doors.join_next().await.is_some() {}
}

/// The most connections that one agent has at the gate. Each takes two descriptors; for memory, see
/// [`super::share`]. Browsers and package managers stay below 300.
pub const MAX_CONNECTIONS: usize = 1024;

/// How long to wait after a failed accept: descriptors have run out, and come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Transparent,
    Explicit,
}

struct Door {
    agent: Arc<Agent>,
    gate: Arc<Gate>,
    kind: Kind,
    share: Arc<Share>,
    workers: Arc<Workers>,
    /// Where connections are taken in.
    home: Arc<Seat>,
    /// Cancelled when the agent is served no more.
    open: CancellationToken,
}

impl Door {
    /// Takes in connections, for as long as it is not cancelled.
    ///
    /// # Errors
    /// The listener does not work with the runtime of this thread.
    async fn serve(self, listener: TcpListener) -> io::Result<()> {
        // On Linux, what is accepted inherits it.
        SockRef::from(&listener).set_tcp_nodelay(true)?;
        let listener = listener.into_std()?;
        // SAFETY: the listener owns its descriptor, and nothing takes it out before this value ends.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE)? };
        loop {
            match accept(&listener).await {
                Ok((tcp, peer)) => self.admit(tcp, peer),
                Err(error) => {
                    tracing::warn!(agent = %self.agent.name(), %error, "failed to accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, tcp: StdStream, peer: SocketAddr) {
        let Some(slot) = self.share.connection() else { return self.shed(&tcp) };
        let (agent, gate, kind) = (Arc::clone(&self.agent), Arc::clone(&self.gate), self.kind);
        let (share, seat) = (Arc::clone(&self.share), self.workers.seat(&self.home));
        let (open, runtime) = (self.open.clone(), seat.runtime());
        // Not joined: its end wakes nobody, and leaves nothing behind.
        runtime.spawn(async move {
            let _held = (slot, seat);
            // A socket on which this fails is dead already.
            let Ok(wire) = Wire::of_agent(tcp, share) else { return };
            let stream = AgentStream(wire);
            // In a box, for whoever takes a future as an argument holds it twice.
            open.run_until_cancelled(Box::pin(converse(agent, gate, kind, stream, peer))).await;
        });
    }

    /// One agent's flood ends at its own bound, cheaply: nothing is looked up for it.
    fn shed(&self, tcp: &StdStream) {
        let (agent, gate) = (Arc::clone(&self.agent), Arc::clone(&self.gate));
        let caller = Caller { agent, gate, process: None, original: None };
        let denial = Denial::because(Reason::QuotaExceeded);
        let detail = "connections at the proxy".to_owned();
        caller.record_denial(&Sought::default(), Protocol::Tcp, &denial, Some(detail));
        // A socket on which this fails has no connection left to reset.
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

/// A connection that no runtime knows yet: it may be another thread that carries it.
async fn accept(listener: &AsyncFd<StdListener>) -> io::Result<(StdStream, SocketAddr)> {
    loop {
        let mut ready = listener.readable().await?;
        if let Ok(accepted) = ready.try_io(|listener| accept_at_once(listener.get_ref())) {
            if !has_more(listener.get_ref()) {
                ready.clear_ready();
            }
            return accepted;
        }
    }
}

/// Whether another connection is there to be accepted: to ask takes a quarter of the time in which the kernel
/// makes a socket, and throws it away because there is none.
fn has_more(listener: &StdListener) -> bool {
    let mut waited = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // Where nobody can say, accept(2) will.
    poll(&mut waited, PollTimeout::ZERO) != Ok(0)
}

/// Neither this waits, nor whoever reads from what is accepted; the standard library takes two calls for that.
fn accept_at_once(listener: &StdListener) -> io::Result<(StdStream, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel is told how much room there is for the address, and says how much of it it wrote; the
    // descriptor that it makes is ours alone.
    let (accepted, peer) = unsafe {
        SockAddr::try_init(|peer, length| {
            match libc::accept4(listener.as_raw_fd(), peer.cast(), length, flags) {
                -1 => Err(io::Error::last_os_error()),
                accepted => Ok(StdStream::from_raw_fd(accepted)),
            }
        })
    }?;
    Ok((accepted, peer.as_socket().ok_or(io::ErrorKind::Unsupported)?))
}

async fn converse(agent: Arc<Agent>, gate: Arc<Gate>, kind: Kind, stream: AgentStream, peer: SocketAddr) {
    let caller = Caller::identify(agent, gate, Transport::Tcp, peer);
    match kind {
        Kind::Transparent => transparent::serve(caller, stream).await,
        // In a box, so that no redirected flow takes the room that these need.
        Kind::Explicit => Box::pin(explicit(caller, stream)).await,
    }
}

/// The first octet tells SOCKS from HTTP, whose methods are letters.
async fn explicit(caller: Caller, mut stream: AgentStream) {
    let end = Instant::now() + PATIENCE;
    match peek::first_octet(&mut stream, end).await {
        Ok(socks::VERSION | socks::OLD_VERSION) => socks::serve(caller, stream, end).await,
        // Without a first octet, too, the answer is in HTTP.
        Ok(_) | Err(_) => {
            // In a box, so that no tunnel takes the room that requests need.
            let asked = Box::pin(Session::proxied(caller, stream).serve(end)).await;
            if let Some(Asked { caller, agent, authority }) = asked {
                tunnel(caller, agent, authority, Manner::Connect).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_little_room_while_it_waits() {
        let room =
            room_of(|(agent, gate, stream, peer)| converse(agent, gate, Kind::Transparent, stream, peer));
        // Of 10,000 connections that is 50 MB.
        assert!(room <= 5 * 1024, "{room}");
    }

    fn room_of<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }
}
