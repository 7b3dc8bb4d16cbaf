//! One socket of another process: what it is, whether the fence sees it, and how its flow is cut.

use egress_common::FENCE_PROBE;
use nix::errno::Errno;
use socket2::SockRef;
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// A descriptor of ours for the socket of another process.
#[derive(Debug)]
pub struct Held {
    descriptor: OwnedFd,
}

/// What a socket is to the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// TCP or UDP, made in the fence: its packets are judged.
    Fenced(Flow),
    /// Made inside, and neither TCP nor UDP: judged, but no flow of it can be cut.
    FencedOther,
    /// Made outside, of any family that leaves this host: the programs never see it.
    Foreign,
    /// Made inside, of a family that sends below or beside IP: no program on a cgroup sees its frames.
    BesideIp,
    /// Of a family that stays on this host.
    Local,
}

/// Whether a socket has begun something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Connected, or listening.
    Open,
    /// As good as one that is made later.
    None,
}

impl Held {
    /// Takes descriptor `number` of the process behind `pidfd` (pidfd_getfd(2), Linux 5.6).
    ///
    /// # Errors
    /// It is closed, or the kernel refuses.
    pub fn take(pidfd: &OwnedFd, number: RawFd) -> io::Result<Self> {
        // SAFETY: the call takes integers, and gives a descriptor of ours.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
        let taken = i32::try_from(Errno::result(taken)?).map_err(io::Error::other)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(taken) } })
    }

    /// # Errors
    /// The kernel does not say.
    pub fn standing(&self) -> io::Result<Standing> {
        let domain = i32::from(self.socket().domain()?);
        Ok(match domain {
            libc::AF_UNIX | libc::AF_NETLINK | libc::AF_ALG => Standing::Local,
            _ if !self.is_fenced()? => Standing::Foreign,
            libc::AF_INET | libc::AF_INET6 => match self.protocol()? {
                libc::IPPROTO_TCP if self.tcp_state()? != TCP_CLOSE => Standing::Fenced(Flow::Open),
                libc::IPPROTO_UDP if self.peer().is_some() => Standing::Fenced(Flow::Open),
                libc::IPPROTO_TCP | libc::IPPROTO_UDP => Standing::Fenced(Flow::None),
                _ => Standing::FencedOther,
            },
            _ => Standing::BesideIp,
        })
    }

    /// Ends the flow: a TCP socket is reset, or stops to listen; a UDP socket forgets its peer. The
    /// socket itself stays, and could begin anew: so this is for those that the fence sees.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self) -> io::Result<()> {
        // connect(2): AF_UNSPEC dissolves the association.
        // SAFETY: an all-zero sockaddr_storage is one of family AF_UNSPEC.
        let nobody: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let length = libc::socklen_t::try_from(size_of_val(&nobody)).map_err(io::Error::other)?;
        // SAFETY: `nobody` is valid for its length.
        let outcome =
            unsafe { libc::connect(self.descriptor.as_raw_fd(), (&raw const nobody).cast(), length) };
        Ok(Errno::result(outcome).map(drop)?)
    }

    pub fn is_unix(&self) -> bool {
        self.socket().domain().is_ok_and(|domain| i32::from(domain) == libc::AF_UNIX)
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.descriptor)
    }

    fn protocol(&self) -> io::Result<i32> {
        Ok(self.socket().protocol()?.map_or(0, i32::from))
    }

    /// Whether the programs see this socket: asks the one that sees its options.
    fn is_fenced(&self) -> io::Result<bool> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: no octet is read from the null pointer.
        let outcome = unsafe { libc::setsockopt(descriptor, FENCE_PROBE, 1, std::ptr::null(), 0) };
        match Errno::result(outcome) {
            Err(Errno::EPERM) => Ok(true),
            // No protocol knows the level.
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(false),
            Ok(_) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn tcp_state(&self) -> io::Result<u8> {
        let mut state = 0_u8;
        let mut length: libc::socklen_t = 1;
        // tcp(7): the state is the first octet of struct tcp_info.
        // SAFETY: `state` is valid for `length` octets.
        let outcome = unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut state).cast(),
                &raw mut length,
            )
        };
        Errno::result(outcome)?;
        Ok(state)
    }

    fn local(&self) -> Option<SocketAddr> {
        self.socket().local_addr().ok()?.as_socket()
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.socket().peer_addr().ok()?.as_socket()
    }
}

/// Protocol, both ends, and the state: `tcp 10.0.0.1:4000 to 192.0.2.1:443, established`.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(domain) = self.socket().domain() else { return f.write_str("socket") };
        let domain = i32::from(domain);
        if !matches!(domain, libc::AF_INET | libc::AF_INET6) {
            return f.write_str(family(domain));
        }
        let protocol = self.protocol().unwrap_or(0);
        f.write_str(protocol_name(protocol))?;
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        write!(f, " {}", self.local().unwrap_or(nowhere))?;
        if let Some(peer) = self.peer() {
            write!(f, " to {peer}")?;
        }
        match self.tcp_state() {
            Ok(state) if protocol == libc::IPPROTO_TCP => write!(f, ", {}", state_name(state)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

fn protocol_name(number: i32) -> &'static str {
    match number {
        libc::IPPROTO_TCP => "tcp",
        libc::IPPROTO_UDP => "udp",
        libc::IPPROTO_UDPLITE => "udplite",
        libc::IPPROTO_ICMP => "icmp",
        libc::IPPROTO_ICMPV6 => "icmp6",
        libc::IPPROTO_MPTCP => "mptcp",
        libc::IPPROTO_SCTP => "sctp",
        _ => "raw",
    }
}

fn family(number: i32) -> &'static str {
    match number {
        libc::AF_PACKET => "packet socket",
        libc::AF_XDP => "xdp socket",
        libc::AF_VSOCK => "vsock socket",
        libc::AF_UNIX => "unix socket",
        libc::AF_NETLINK => "netlink socket",
        _ => "socket of an unusual family",
    }
}

/// include/net/tcp_states.h
fn state_name(state: u8) -> &'static str {
    match state {
        1 => "established",
        2 | 3 => "connecting",
        TCP_CLOSE => "closed",
        10 => "listening",
        _ => "closing",
    }
}

const TCP_CLOSE: u8 = 7;
