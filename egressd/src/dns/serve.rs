//! The listeners of one agent. Whoever can write to them is the agent: the kernel programs redirect
//! its port 53 here, and nobody else's.

use super::{
    gate::{Gate, Judgement},
    report::Asker,
    tcp,
};
use crate::policy::{Agent, OriginLookup, Transport};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use tracing::warn;

/// The sockets that one agent's port 53 is redirected to.
pub struct Sockets {
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

/// Answers `agent` on `sockets`, until it is dropped; everything that it started ends with it.
pub async fn serve(agent: Arc<Agent>, sockets: Sockets, gate: Arc<Gate>, origins: Arc<dyn OriginLookup>) {
    let _kept = Kept { agent: Arc::clone(&agent), gate: Arc::clone(&gate) };
    let desk = Desk { agent, gate, origins };
    let mut tasks = JoinSet::new();
    for socket in sockets.udp {
        tasks.spawn(serve_udp(desk.clone(), Arc::new(socket)));
    }
    let connections = tcp::connections();
    for listener in sockets.tcp {
        tasks.spawn(tcp::serve(desk.clone(), listener, Arc::clone(&connections)));
    }
    while tasks.join_next().await.is_some() {}
}

/// What the tasks of one agent's listeners share.
#[derive(Clone)]
pub struct Desk {
    agent: Arc<Agent>,
    pub gate: Arc<Gate>,
    origins: Arc<dyn OriginLookup>,
}

impl Desk {
    #[must_use]
    pub fn asker(&self, transport: Transport, peer: SocketAddr) -> Asker {
        Asker { agent: Arc::clone(&self.agent), transport, peer, origins: Arc::clone(&self.origins) }
    }
}

/// How long a listener rests after the kernel refused it something, as when descriptors run out.
pub const REST: Duration = Duration::from_millis(100);

/// The longest message that UDP carries.
const MAX_DATAGRAM: usize = 65_535;

/// Lookups of different questions overtake each other. How many there are is bounded by their
/// tickets, see [`super::lookups::MAX_IN_FLIGHT`].
async fn serve_udp(desk: Desk, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    let mut lookups = JoinSet::new();
    loop {
        while lookups.try_join_next().is_some() {}
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "failed to receive a dns query");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let asker = desk.asker(Transport::Udp, peer);
        match desk.gate.judge(&asker, &buffer[..length]) {
            Judgement::Silence => {}
            Judgement::Reply(reply) => send(&socket, &reply, peer).await,
            Judgement::LookUp(lookup) => {
                let (gate, socket) = (Arc::clone(&desk.gate), Arc::clone(&socket));
                lookups.spawn(async move {
                    let reply = gate.answer(&asker, lookup).await.reply;
                    send(&socket, &reply, peer).await;
                });
            }
        }
    }
}

/// A reply that cannot be sent is lost, as datagrams may be: the agent asks again.
async fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        tracing::debug!(%error, %peer, "failed to send a dns answer");
    }
}

/// What the gate keeps for an agent while it is served.
struct Kept {
    agent: Arc<Agent>,
    gate: Arc<Gate>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.gate.forget(self.agent.id());
    }
}
