//! What is judged, and what the edges can say of where it came from.

use super::{
    agent::{Agent, AgentId},
    decision::Denial,
    host::HostName,
    rule::Protocol,
};
use std::{
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

/// One agent's conversation with one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub destination: Destination,
    pub port: u16,
    pub protocol: Protocol,
    /// The address on the wire, where it is known. With a name as the destination it must hold
    /// a grant that this very name earned.
    pub address: Option<IpAddr>,
}

/// Host name or address, as the agent named it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    Name(HostName),
    Address(IpAddr),
}

impl Destination {
    /// None of an address.
    #[must_use]
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// The address that the agent's socket asked for before the kernel redirected it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub SocketAddr);

/// The process that opened a socket, as far as it could still be seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: u32,
    /// Path of the executable, where the process still ran when it was looked at.
    pub executable: Option<String>,
    /// The command line, arguments joined by spaces; else the kernel's 15 octets of `comm`.
    pub command: String,
}

/// What the kernel knows of a socket that it redirected to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub process: Option<Process>,
    pub original: Option<OriginalDestination>,
}

/// Transport protocol of a redirected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Tells where a redirected socket came from. Implemented over the kernel's maps.
pub trait OriginLookup: Send + Sync {
    /// The origin of the socket of `agent` that is bound to `peer`. None: it was never redirected.
    fn origin(&self, agent: AgentId, transport: Transport, peer: SocketAddr) -> Option<Origin>;
}

/// Resolves names on behalf of an agent, with its policy, and installs the grants that the
/// answer earns before it returns. Implemented by the resolver; used by the proxy.
pub trait Resolve: Send + Sync {
    /// The addresses of `name`, IPv4 and IPv6, as they were granted to `agent`.
    fn resolve<'a>(
        &'a self,
        agent: &'a Agent,
        name: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Denial>> + Send + 'a>>;

    /// Hears that a flow of `agent` that named `name` was permitted, and its upstream dialled, whether
    /// or not that answered. Whoever only resolves has no use for it.
    fn connected(&self, _agent: &Agent, _name: &HostName) {}
}
