//! The listeners of one agent. Whoever can write to them is the agent: the kernel programs redirect
//! its port 53 here, and nobody else's.

use super::{
    gate::{Gate, Judgement},
    hot::Hot,
    report::Asker,
    tcp,
    workers::{Seated, Workers},
};
use crate::policy::{Agent, OriginLookup, Transport};
use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet};

/// The sockets that one agent's port 53 is redirected to.
pub struct Sockets {
    /// Threads take turns, see [`super::workers::count`].
    pub udp: Vec<UdpSocket>,
    pub tcp: Vec<TcpListener>,
}

/// Answers `agent` on `sockets`, until it is dropped; everything that it started ends with it.
pub async fn serve(
    agent: Arc<Agent>,
    sockets: Sockets,
    gate: Arc<Gate>,
    workers: Arc<Workers>,
    origins: Arc<dyn OriginLookup>,
) {
    gate.keep_warm(&agent);
    let _kept = Kept { agent: Arc::clone(&agent), gate: Arc::clone(&gate) };
    let hot = Arc::new(Hot::new(workers.count(), gate.recorder(), gate.clock()));
    let desk = Desk { agent, gate, origins };
    let mut tasks = JoinSet::new();
    // An agent with one socket is no reason to leave it to the first thread.
    let first = usize::try_from(desk.agent.id().0).unwrap_or(0);
    for (number, socket) in (first..).zip(sockets.udp) {
        match workers.seat(number, Arc::clone(&desk.agent), Arc::clone(&hot), socket) {
            Ok(seated) => drop(tasks.spawn(serve_udp(desk.clone(), seated, Arc::clone(&hot)))),
            Err(error) => tracing::error!(%error, agent = %desk.agent.name(), "failed to serve a dns socket"),
        }
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

/// Answers what was not answered before. Lookups of different questions overtake each other. How many
/// there are is bounded by their tickets, see [`super::lookups::MAX_IN_FLIGHT`].
async fn serve_udp(desk: Desk, mut seated: Seated, hot: Arc<Hot>) {
    let replies = seated.replies();
    let mut lookups = JoinSet::new();
    while let Some(query) = seated.next().await {
        while lookups.try_join_next().is_some() {}
        let asker = desk.asker(Transport::Udp, query.peer);
        match desk.gate.judge(&asker, &query.message) {
            Judgement::Silence => {}
            Judgement::Reply(reply) => replies.send(&reply, query.peer),
            Judgement::LookUp(lookup) => {
                let (gate, hot, replies) = (Arc::clone(&desk.gate), Arc::clone(&hot), replies.clone());
                lookups.spawn(async move {
                    let answered = gate.answer(&asker, lookup).await;
                    if let Some(kept) = answered.kept {
                        hot.keep(kept);
                    }
                    replies.send(&answered.reply, query.peer);
                });
            }
        }
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
