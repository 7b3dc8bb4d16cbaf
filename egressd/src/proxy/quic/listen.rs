//! The sockets at which an agent's QUIC arrives, and the flows in it.

use super::{
    flow::{Flow, parting_words},
    open::Door,
    packet,
};
use crate::{
    policy::{Agent, Denial, OriginalDestination, Protocol, Reason, Transport},
    proxy::{
        gate::Gate,
        origin::{Caller, Sought},
    },
};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

/// Serves `agent` on `sockets`, at most so many `flows`. Dropping the future closes every flow.
pub async fn serve(flows: usize, agent: Arc<Agent>, sockets: Vec<UdpSocket>, gate: Arc<Gate>) {
    let slots = Arc::new(Semaphore::new(flows));
    let mut listeners = JoinSet::new();
    for socket in sockets {
        let listener = Listener {
            agent: Arc::clone(&agent),
            gate: Arc::clone(&gate),
            socket: Arc::new(socket),
            slots: Arc::clone(&slots),
            flows: HashMap::new(),
        };
        listeners.spawn(listener.run());
    }
    while listeners.join_next().await.is_some() {}
}

/// The most QUIC flows that one agent has: sockets of its own from which datagrams come. Each takes one
/// descriptor and, until it has named its server, up to 48 KiB; browsers have one for each origin.
pub const MAX_QUIC_FLOWS: usize = 256;

/// How often flows are looked at that say nothing.
const SWEEP: Duration = Duration::from_secs(1);

struct Listener {
    agent: Arc<Agent>,
    gate: Arc<Gate>,
    socket: Arc<UdpSocket>,
    slots: Arc<Semaphore>,
    flows: HashMap<SocketAddr, Flow>,
}

impl Listener {
    async fn run(mut self) {
        let mut buffer = vec![0; 0xffff].into_boxed_slice();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, peer)) => self.take(peer, &buffer[..length]),
                    // Of an answer that nobody waited for.
                    Err(error) => tracing::trace!(agent = %self.agent.name(), %error, "failed to receive"),
                },
                _ = sweep.tick(), if !self.flows.is_empty() => self.sweep(),
            }
        }
    }

    fn take(&mut self, peer: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        if packet::is_long(datagram) {
            self.forget_reused(peer);
        }
        let door = Door { socket: Arc::clone(&self.socket), peer };
        let answer = match self.flows.entry(peer) {
            Entry::Occupied(mut flow) => flow.get_mut().take(datagram, now),
            Entry::Vacant(place) => {
                let caller =
                    Caller::identify(Arc::clone(&self.agent), Arc::clone(&self.gate), Transport::Udp, peer);
                let Some(OriginalDestination(original)) = caller.original else {
                    return deny(&caller, &Sought::default(), Reason::OriginalDestinationUnknown, None);
                };
                match Arc::clone(&self.slots).try_acquire_owned() {
                    Ok(slot) => {
                        let flow = Flow::new(caller, original, door.clone(), slot);
                        place.insert(flow).take(datagram, now)
                    }
                    Err(_full) => {
                        let detail = Some("QUIC flows at the proxy");
                        deny(&caller, &Sought::address(original), Reason::QuotaExceeded, detail);
                        parting_words(datagram, Reason::QuotaExceeded)
                    }
                }
            }
        };
        if let Some(answer) = answer {
            door.answer(&answer);
        }
    }

    /// Forgets a flow whose port belongs to another socket since, which goes elsewhere.
    fn forget_reused(&mut self, peer: SocketAddr) {
        if let Entry::Occupied(flow) = self.flows.entry(peer) {
            // Nothing is known of a socket that is closed: its last words are still of its flow.
            let original = self.gate.original(self.agent.id(), Transport::Udp, peer);
            if original.is_some_and(|original| !flow.get().is_to(original)) {
                flow.remove();
            }
        }
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        for (peer, flow) in &mut self.flows {
            let door = Door { socket: Arc::clone(&self.socket), peer: *peer };
            flow.deny_overdue(now).iter().for_each(|answer| door.answer(answer));
        }
        self.flows.retain(|_, flow| !flow.is_over(now));
    }
}

fn deny(caller: &Caller, sought: &Sought, reason: Reason, detail: Option<&str>) {
    let detail = detail.map(str::to_owned);
    caller.record_denial(sought, Protocol::Quic, &Denial::because(reason), detail);
}
