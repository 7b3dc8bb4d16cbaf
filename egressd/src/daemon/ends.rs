//! The ends of flows that named their server to the kernel programs, and may not go on.

use super::{Daemon, agents::Running};
use crate::{
    audit::{Event, Gate, Path, Spoken},
    datapath::{self, CutFlow, FlowSocket, Namespaces, Reporter, adopt},
    policy::{AgentId, Denial, Destination, Protocol, Reason},
};
use std::{io, sync::Arc, time::Duration};
use tokio::task::spawn_blocking;

/// Between two rounds: so that an agent that is denied and denied keeps no thread from others.
const PAUSE: Duration = Duration::from_millis(2);

impl Daemon {
    /// Whoever hears of what the programs judge.
    pub(super) fn reporter(self: &Arc<Self>) -> Reporter {
        Reporter {
            agents: Arc::clone(&self.agents) as _,
            recorder: self.recorder.clone(),
            resolve: Arc::clone(&self.names) as _,
            doomed: Arc::clone(&self.doomed),
            fence: Arc::clone(&self.fence),
        }
    }

    /// Records flows that were cut because their policy denies them, and ends their sockets.
    pub(super) fn tell_cut(&self, running: &Running, cut: Vec<CutFlow>) {
        for CutFlow { name, socket, denial } in cut {
            self.doomed.add(running.agent.id(), socket);
            let is_denied_by_rule = denial.reason == Reason::DeniedByRule;
            let denial = if is_denied_by_rule { denial } else { Denial::because(Reason::RuleRemoved) };
            let protocol = Spoken::Of(Protocol::Tls);
            self.recorder.record(Event {
                path: Some(Path::Kernel),
                destination: Some(Destination::Name(name)),
                address: Some(socket.destination.ip()),
                port: Some(socket.destination.port()),
                detail: Some("live flow cut: its policy was replaced".to_owned()),
                ..Event::denied(running.agent.name(), Gate::ServerName, protocol, &denial)
            });
        }
    }

    /// Ends sockets that would hang, for as long as the daemon lives.
    pub(super) async fn keep_ending(self: Arc<Self>) {
        let mut told = false;
        loop {
            for (agent, sockets) in self.doomed.next().await {
                let network = self.network_namespace_of(agent);
                let ended = spawn_blocking(move || end(network.as_ref(), &sockets)).await;
                if let Ok(Err(error)) = ended
                    && !std::mem::replace(&mut told, true)
                {
                    tracing::warn!(%error, "sockets of flows that are denied hang until they give up");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// None where it is the daemon's own.
    fn network_namespace_of(&self, agent: AgentId) -> Option<Namespaces> {
        let running = self.agents.get(agent)?;
        match &running.home.cell {
            Some(cell) => Some(cell.namespaces()),
            None => adopt::held_in(&self.network_of(agent)),
        }
    }
}

fn end(network: Option<&Namespaces>, sockets: &[FlowSocket]) -> io::Result<()> {
    match network {
        Some(network) => network.within(|| datapath::destroy(sockets))?,
        None => datapath::destroy(sockets),
    }
}
