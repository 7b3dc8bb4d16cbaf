//! The sockets that serve one agent: its redirected flows arrive there and nowhere else.

use crate::{
    datapath::{Cell, Listeners, Namespaces},
    dns, proxy,
};
use anyhow::{Context, Result};
use nix::{
    sys::stat::fstat,
    unistd::{Uid, setfsuid},
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::{net::TcpListener, runtime::Handle};

/// Sockets and their ports.
pub struct Bound {
    pub ports: Listeners,
    pub dns: dns::Sockets,
    pub proxy: proxy::Listeners,
}

/// [`Listeners`] in the daemon's memory.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct RememberedPorts {
    dns: [u16; 2],
    proxy: [u16; 2],
    explicit: [u16; 2],
}

impl Bound {
    /// Binds inside a cell, names at the usual port: there it is nobody else's.
    pub fn inside(cell: &Cell, explicit: bool) -> Result<Self> {
        let usual = Listeners { dns_v4: DNS_PORT, dns_v6: DNS_PORT, ..Listeners::default() };
        within(&cell.namespaces(), || Self::bind(usual, explicit))
    }

    /// Binds the ports of an earlier life inside a cell.
    pub fn inside_again(cell: &Cell, ports: Listeners) -> Result<Self> {
        within(&cell.namespaces(), || Self::again(ports))
    }

    /// Binds whatever ports are free in the network of an adopted agent.
    pub fn fresh_in(network: &Namespaces) -> Result<Self> {
        within(network, || Self::fresh(false)).map(Self::elsewhere)
    }

    /// Binds the ports of an earlier life there.
    pub fn again_in(network: &Namespaces, ports: Listeners) -> Result<Self> {
        within(network, || Self::again(ports)).map(Self::elsewhere)
    }

    fn elsewhere(self) -> Self {
        Self { ports: Listeners { flags: Listeners::ELSEWHERE, ..self.ports }, ..self }
    }

    /// Binds whatever ports are free. IPv6 is left out where the host has none.
    pub fn fresh(explicit: bool) -> Result<Self> {
        Self::bind(Listeners::default(), explicit)
    }

    /// Binds the ports of an earlier life, or others where somebody took them meanwhile.
    pub fn again(ports: Listeners) -> Result<Self> {
        Self::bind(ports, ports.explicit_v4 != 0 || ports.explicit_v6 != 0)
    }

    fn bind(wanted: Listeners, explicit: bool) -> Result<Self> {
        let mut bound = Self {
            ports: Listeners::default(),
            dns: dns::Sockets { udp: Vec::new(), tcp: Vec::new() },
            proxy: proxy::Listeners::default(),
        };
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let mut explicit_ports = (0, 0);
        if explicit {
            explicit_ports.0 = listen(v4, wanted.explicit_v4, &mut bound.proxy.explicit)?;
            explicit_ports.1 = listen(v6, wanted.explicit_v6, &mut bound.proxy.explicit).unwrap_or(0);
        }
        bound.ports = Listeners {
            dns_v4: listen_for_names(v4, wanted.dns_v4, &mut bound.dns)?,
            // A host without IPv6 has no `::1`, and its agents have no IPv6 to leave by.
            dns_v6: listen_for_names(v6, wanted.dns_v6, &mut bound.dns).unwrap_or(0),
            proxy_v4: listen_for_flows(v4, wanted.proxy_v4, &mut bound.proxy)?,
            proxy_v6: listen_for_flows(v6, wanted.proxy_v6, &mut bound.proxy).unwrap_or(0),
            explicit_v4: explicit_ports.0,
            explicit_v6: explicit_ports.1,
            ..Listeners::default()
        };
        Ok(bound)
    }
}

/// Runs `act` in the network namespace of an agent. Sockets stay where they are made, whichever thread
/// waits for them.
fn within<T: Send>(network: &Namespaces, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let runtime = Handle::current();
    let inside = || {
        let _runtime = runtime.enter();
        act()
    };
    network.within(inside).context("failed to enter the network namespace of an agent")?
}

const DNS_PORT: u16 = 53;

/// What to write down of `ports`.
pub fn remember(ports: Listeners) -> RememberedPorts {
    RememberedPorts {
        dns: [ports.dns_v4, ports.dns_v6],
        proxy: [ports.proxy_v4, ports.proxy_v6],
        explicit: [ports.explicit_v4, ports.explicit_v6],
    }
}

/// The ports that were written down.
pub fn recall(RememberedPorts { dns, proxy, explicit }: RememberedPorts) -> Listeners {
    Listeners {
        dns_v4: dns[0],
        dns_v6: dns[1],
        proxy_v4: proxy[0],
        proxy_v6: proxy[1],
        explicit_v4: explicit[0],
        explicit_v6: explicit[1],
        ..Listeners::default()
    }
}

/// How often a port that is free for TCP turns out to be taken for UDP before we give up.
const ATTEMPTS: u32 = 16;

fn listen(ip: IpAddr, port: u16, into: &mut Vec<TcpListener>) -> Result<u16> {
    let listener =
        tcp(ip, port).or_else(|_| tcp(ip, 0)).with_context(|| format!("failed to listen at `{ip}`"))?;
    let port = listener.local_addr()?.port();
    into.push(listener);
    Ok(port)
}

/// One port for UDP and TCP, as a resolver has it.
fn listen_for_names(ip: IpAddr, wanted: u16, into: &mut dns::Sockets) -> Result<u16> {
    let (port, tcp, sockets) =
        both(ip, wanted, udp).with_context(|| format!("failed to bind the dns listener on `{ip}`"))?;
    into.udp.extend(sockets);
    into.tcp.push(tcp);
    Ok(port)
}

/// One port for TCP and for QUIC.
fn listen_for_flows(ip: IpAddr, wanted: u16, into: &mut proxy::Listeners) -> Result<u16> {
    let (port, tcp, quic) = both(ip, wanted, datagrams)
        .with_context(|| format!("failed to bind the proxy listener on `{ip}`"))?;
    into.transparent.push(tcp);
    into.quic.push(quic);
    Ok(port)
}

/// Listens at one port of both transports: `wanted`, or another one.
fn both<T>(
    ip: IpAddr,
    wanted: u16,
    udp: impl Fn(SocketAddr) -> std::io::Result<T>,
) -> std::io::Result<(u16, TcpListener, T)> {
    let at = |port: u16| -> std::io::Result<(u16, TcpListener, T)> {
        let tcp = tcp(ip, port)?;
        let address = tcp.local_addr()?;
        Ok((address.port(), tcp, udp(address)?))
    };
    let mut bound = at(wanted);
    for _ in 0..ATTEMPTS {
        if bound.is_ok() {
            break;
        }
        bound = at(0);
    }
    bound
}

fn datagrams(address: SocketAddr) -> std::io::Result<tokio::net::UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

/// A socket for each thread that answers names, all at `address`, between which the kernel spreads what
/// comes by where it comes from.
///
/// Whoever has the user of such sockets could join them, and get a share of the queries. So theirs is a user
/// that nobody is; and the first takes the address alone, so that they join nobody. Where sockets cannot be
/// given to that user, there is only that one.
fn udp(address: SocketAddr) -> std::io::Result<Vec<UdpSocket>> {
    let first = nobodys_socket(address)?;
    first.bind(&address.into())?;
    let is_nobodys = fstat(&first)?.st_uid == NOBODY;
    first.set_reuse_port(is_nobodys)?;
    let mut sockets = vec![first];
    for _ in 1..if is_nobodys { dns::workers::count() } else { 1 } {
        let next = nobodys_socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        sockets.push(next);
    }
    Ok(sockets.into_iter().map(UdpSocket::from).collect())
}

/// A UDP socket of [`NOBODY`].
fn nobodys_socket(address: SocketAddr) -> std::io::Result<Socket> {
    // For this thread alone; the kernel gives a new socket to the user that its maker's files belong to.
    let before = setfsuid(Uid::from_raw(NOBODY));
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), None);
    setfsuid(before);
    socket
}

/// No user of this host: of the half that systemd gives to nobody, because some programs take it for
/// negative.
const NOBODY: u32 = 0xffff_ff35;

fn tcp(ip: IpAddr, port: u16) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(SocketAddr::new(ip, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
