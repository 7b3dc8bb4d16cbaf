//! Connects to upstreams: only where a permit says, and nowhere else.

use super::wire::{AgentStream, UpstreamStream, Wire};
use crate::policy::Permit;
use socket2::{Domain, Socket, Type};
use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream},
    os::fd::AsRawFd,
    time::Duration,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout_at},
};

/// Connects to the address of `permit`.
///
/// # Errors
/// The permit names no address, or the connection fails or takes longer than [`TIMEOUT`].
pub async fn dial(permit: &Permit) -> Result<UpstreamStream, DialError> {
    dial_until(permit, Instant::now() + TIMEOUT).await
}

/// Connects to the first of `permits` that answers. At most [`MAX_ATTEMPTS`] are tried, each with
/// an equal share of the time that is left of [`TIMEOUT`].
///
/// # Errors
/// The last error, if none answers.
pub async fn dial_first(permits: &[Permit]) -> Result<(&Permit, UpstreamStream), DialError> {
    let end = Instant::now() + TIMEOUT;
    let mut error = DialError::NoAddress;
    let attempts = permits.len().min(MAX_ATTEMPTS);
    for (tried, permit) in permits.iter().take(attempts).enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(attempts - tried).unwrap_or(1);
        match dial_until(permit, Instant::now() + share).await {
            Ok(upstream) => return Ok((permit, upstream)),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// The socket towards the real server of a flow of datagrams: it sends to that address alone, and hears
/// nobody else. Only this module makes one.
#[derive(Debug)]
pub struct UpstreamDatagrams(pub(super) UdpSocket);

/// Connects a socket for datagrams to the address of `permit`.
///
/// # Errors
/// The permit names no address, or there is no route to it.
pub fn dial_datagrams(permit: &Permit) -> Result<UpstreamDatagrams, DialError> {
    let address = SocketAddr::new(permit.address().ok_or(DialError::NoAddress)?, permit.port());
    let failed = |error| DialError::Connect { address, error };
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = std::net::UdpSocket::bind((any, 0)).map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    never_fragment(&socket, address.ip()).map_err(failed)?;
    UdpSocket::from_std(socket).map(UpstreamDatagrams).map_err(failed)
}

/// QUIC finds out which sizes arrive by sending larger ones, which must not be cut into fragments (RFC 9000,
/// section 14).
fn never_fragment(socket: &std::net::UdpSocket, ip: IpAddr) -> io::Result<()> {
    let (level, option) = match ip {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    let value = libc::IP_PMTUDISC_PROBE;
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads so many octets of `value`, which outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Why an upstream cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("permit names no address to connect to")]
    NoAddress,
    #[error("failed to connect to `{0}` in time")]
    Timeout(SocketAddr),
    #[error("failed to connect to `{address}`: {error}")]
    Connect { address: SocketAddr, error: io::Error },
}

/// How long an agent waits for an upstream that does not answer: three SYNs.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The most addresses of one name that are tried.
pub const MAX_ATTEMPTS: usize = 8;

async fn dial_until(permit: &Permit, end: Instant) -> Result<UpstreamStream, DialError> {
    Dialling::begin(permit)?.connected(end).await
}

/// A socket that connects to the address of a permit.
#[derive(Debug)]
pub struct Dialling {
    tcp: StdStream,
    address: SocketAddr,
    /// It is known to be connected.
    is_connected: bool,
}

impl Dialling {
    /// Begins to connect, and does not wait.
    ///
    /// # Errors
    /// The permit names no address, or there is no route to it.
    pub fn begin(permit: &Permit) -> Result<Self, DialError> {
        let address = SocketAddr::new(permit.address().ok_or(DialError::NoAddress)?, permit.port());
        match connecting(address) {
            Ok(tcp) => Ok(Self { tcp, address, is_connected: false }),
            Err(error) => Err(DialError::Connect { address, error }),
        }
    }

    /// Sends the first `octets` of what was read from `agent`, as far as they go at once, and returns how many
    /// did: where the upstream is near, the connection stands already, and nobody has to wake us for it.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn pass_on(&mut self, agent: &mut AgentStream, octets: usize) -> Result<usize, DialError> {
        let bytes = agent.0.buffer().get(..octets).unwrap_or_default();
        let sent = match (&self.tcp).write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(DialError::Connect { address: self.address, error }),
            Ok(sent) => sent,
        };
        agent.0.consume(sent);
        self.is_connected |= sent > 0;
        Ok(sent)
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// It fails, or takes until after `end`.
    pub async fn connected(self, end: Instant) -> Result<UpstreamStream, DialError> {
        let Self { tcp, address, is_connected } = self;
        let failed = |error| DialError::Connect { address, error };
        let tcp = TcpStream::from_std(tcp).map_err(failed)?;
        if !is_connected {
            let writable = timeout_at(end, tcp.writable()).await;
            writable.map_err(|_elapsed| DialError::Timeout(address))?.map_err(failed)?;
            tcp.take_error().and_then(|error| error.map_or(Ok(()), Err)).map_err(failed)?;
        }
        Ok(UpstreamStream(Wire::to_upstream(tcp)))
    }
}

/// A socket that connects to `address`, and that never blocks.
fn connecting(address: SocketAddr) -> io::Result<StdStream> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        Ok(()) | Err(_) => Ok(socket.into()),
    }
}
