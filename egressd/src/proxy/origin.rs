//! Who is on the other side of an accepted socket, and what is reported of its flows.

use super::gate::Gate;
use crate::{
    audit::{Event, Gate as Judged, Path, Spoken},
    policy::{Agent, Denial, Destination, Moment, OriginalDestination, Permit, Process, Protocol, Transport},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// One accepted socket of an agent.
pub struct Caller {
    pub agent: Arc<Agent>,
    pub gate: Arc<Gate>,
    pub process: Option<Process>,
    /// None: the kernel did not redirect this socket to us.
    pub original: Option<OriginalDestination>,
}

/// What is known of a flow when it is denied.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    pub destination: Option<Destination>,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
}

impl Sought {
    /// A flow of which only the address is known.
    #[must_use]
    pub fn address(original: SocketAddr) -> Self {
        let (ip, port) = (original.ip(), original.port());
        Self { destination: Some(Destination::Address(ip)), address: Some(ip), port: Some(port) }
    }
}

impl Caller {
    /// Looks up where the socket that is bound to `peer` came from.
    #[must_use]
    pub fn identify(agent: Arc<Agent>, gate: Arc<Gate>, transport: Transport, peer: SocketAddr) -> Self {
        let origin = gate.origins.origin(agent.id(), transport, canonical(peer));
        let original = origin.as_ref().and_then(|origin| origin.original);
        let original = original.map(|OriginalDestination(to)| OriginalDestination(canonical(to)));
        Self { agent, gate, process: origin.and_then(|origin| origin.process), original }
    }

    #[must_use]
    pub fn now(&self) -> Moment {
        (self.gate.clock)()
    }

    pub fn record_denial(
        &self,
        sought: &Sought,
        protocol: Protocol,
        denial: &Denial,
        detail: Option<String>,
    ) {
        let event = Event::denied(self.agent.name(), Judged::ServerName, Spoken::Of(protocol), denial);
        self.gate.recorder.record(Event {
            path: Some(Path::Proxy),
            process: self.process.clone(),
            destination: sought.destination.clone(),
            address: sought.address,
            port: sought.port,
            detail,
            ..event
        });
    }

    /// Records a flow that is allowed and was dialled, and tells the resolver of its name; `detail` where
    /// it failed all the same.
    pub fn record_permit(&self, sought: &Sought, permit: &Permit, detail: Option<String>) {
        match permit.destination() {
            Destination::Name(name) => self.gate.resolve.connected(&self.agent, name),
            Destination::Address(_) => {}
        }
        let protocol = Spoken::Of(permit.protocol());
        let event = Event::allowed(self.agent.name(), Judged::ServerName, protocol, permit);
        self.gate.recorder.record(Event {
            path: Some(Path::Proxy),
            process: self.process.clone(),
            destination: sought.destination.clone().or(event.destination.clone()),
            detail,
            ..event
        });
    }
}

/// An IPv4-mapped address as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
