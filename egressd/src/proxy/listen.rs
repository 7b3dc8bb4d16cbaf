//! The listeners of one agent.

use super::{
    gate::Gate,
    http::Session,
    origin::{Caller, Sought},
    peek::{self, PATIENCE},
    quic::{self, MAX_QUIC_FLOWS},
    share::Share,
    socks, transparent,
    wire::{AgentStream, Wire},
};
use crate::policy::{Agent, Denial, Protocol, Reason, Transport};
use socket2::SockRef;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::OwnedSemaphorePermit,
    task::JoinSet,
    time::{Instant, sleep},
};

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
    let mut doors = JoinSet::new();
    let flows = connections.min(MAX_QUIC_FLOWS);
    doors.spawn(quic::serve(flows, Arc::clone(&agent), listeners.quic, Arc::clone(&gate)));
    let transparent = listeners.transparent.into_iter().map(|listener| (listener, Kind::Transparent));
    let explicit = listeners.explicit.into_iter().map(|listener| (listener, Kind::Explicit));
    for (listener, kind) in transparent.chain(explicit) {
        let door =
            Door { agent: Arc::clone(&agent), gate: Arc::clone(&gate), kind, share: Arc::clone(&share) };
        doors.spawn(door.accept(listener));
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
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        // On Linux, what is accepted inherits it.
        if let Err(error) = SockRef::from(&listener).set_tcp_nodelay(true) {
            tracing::warn!(agent = %self.agent.name(), %error, "failed to set a listener up");
        }
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, peer)) => self.admit(&mut connections, tcp, peer),
                    Err(error) => {
                        tracing::warn!(agent = %self.agent.name(), %error, "failed to accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn admit(&self, connections: &mut JoinSet<()>, tcp: TcpStream, peer: SocketAddr) {
        let wire = Wire::of_agent(tcp, Arc::clone(&self.share));
        match self.share.connection() {
            Some(slot) => {
                let (agent, gate) = (Arc::clone(&self.agent), Arc::clone(&self.gate));
                connections.spawn(converse(agent, gate, self.kind, AgentStream(wire), peer, slot));
            }
            None => self.shed(wire),
        }
    }

    /// One agent's flood ends at its own bound, cheaply: nothing is looked up for it.
    fn shed(&self, wire: Wire) {
        let (agent, gate) = (Arc::clone(&self.agent), Arc::clone(&self.gate));
        let caller = Caller { agent, gate, process: None, original: None };
        let denial = Denial::because(Reason::QuotaExceeded);
        let detail = "connections at the proxy".to_owned();
        caller.record_denial(&Sought::default(), Protocol::Tcp, &denial, Some(detail));
        wire.reset();
    }
}

async fn converse(
    agent: Arc<Agent>,
    gate: Arc<Gate>,
    kind: Kind,
    stream: AgentStream,
    peer: SocketAddr,
    _slot: OwnedSemaphorePermit,
) {
    let caller = Caller::identify(agent, gate, Transport::Tcp, peer);
    match kind {
        Kind::Transparent => transparent::serve(caller, stream).await,
        Kind::Explicit => explicit(caller, stream).await,
    }
}

/// The first octet tells SOCKS from HTTP, whose methods are letters.
async fn explicit(caller: Caller, mut stream: AgentStream) {
    let end = Instant::now() + PATIENCE;
    match peek::first_octet(&mut stream, end).await {
        Ok(socks::VERSION | socks::OLD_VERSION) => socks::serve(caller, stream, end).await,
        // Without a first octet, too, the answer is in HTTP.
        Ok(_) | Err(_) => Session::proxied(caller, stream).serve(end).await,
    }
}
