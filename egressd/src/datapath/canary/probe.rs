//! What the canary tries, and where each try must arrive.

use super::{
    places::{BOTH, CLOSED, Family, GUARDED, TCP_ONLY, at},
    world::{LINK, RESOLVER},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

/// One try.
pub struct Probe {
    pub what: &'static str,
    pub family: Family,
    pub act: Act,
    pub arrives: Place,
}

/// What is done. Each sends at most one packet, which carries the probe's mark where it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// connect(2), and no more.
    Connect(SocketAddr),
    /// sendto(2) on a UDP socket.
    Send(SocketAddr),
    /// connect(2) and send(2) on a UDP socket.
    ConnectAndSend(SocketAddr),
    /// The same, on a UDP-Lite socket (RFC 3828).
    ConnectAndSendLite(SocketAddr),
    /// sendto(2) to an IPv4 address on an IPv6 socket.
    SendMapped(SocketAddr),
    /// sendmsg(2) with an option (RFC 791) or an extension header (RFC 8200) of the sender's choice.
    SendWithOption(SocketAddr),
    /// sendto(2) on a socket that is bound to the link.
    SendByLink(SocketAddr),
    /// sendto(2) on a raw socket, of an IP protocol for experiments (RFC 3692).
    SendRaw(IpAddr),
    /// Joins a group: the kernel tells the link of it.
    Join(IpAddr),
    /// The tap sends from there to the canary's own UDP socket.
    Receive(SocketAddr),
}

/// Where a probe arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Nowhere,
    /// At the tap.
    Outside,
    /// At the listeners that the daemon has for each agent.
    Resolver,
    Proxy,
    /// At the canary's own socket.
    Canary,
}

/// Every probe of one family. What must arrive outside comes last: whatever went the same way
/// before it has arrived by then.
pub fn probes(family: Family) -> Vec<Probe> {
    use Act::{Connect, ConnectAndSend, ConnectAndSendLite, Join, Receive, Send, SendByLink, SendMapped};
    use Act::{SendRaw, SendWithOption};
    use Place::{Canary, Nowhere, Outside, Proxy, Resolver};
    let (granted, expired, denied) = (family.granted(), family.expired(), family.denied());
    let mut table = vec![
        ("tcp to an address without a grant", Connect(at(denied, CLOSED)), Nowhere),
        ("udp to an address without a grant", Send(at(denied, CLOSED)), Nowhere),
        ("connected udp to an address without a grant", ConnectAndSend(at(denied, CLOSED)), Nowhere),
        ("udp-lite to an address without a grant", ConnectAndSendLite(at(denied, CLOSED)), Nowhere),
        ("tcp to a granted address at another port", Connect(at(granted, CLOSED)), Nowhere),
        ("udp to a granted address at another port", Send(at(granted, CLOSED)), Nowhere),
        // connect(2) lets it pass, for resolver libraries ask for routes that way.
        ("udp by the leave that tcp has", ConnectAndSend(at(granted, TCP_ONLY)), Nowhere),
        ("tcp by a grant that expired", Connect(at(expired, BOTH)), Nowhere),
        ("udp by a grant that expired", Send(at(expired, BOTH)), Nowhere),
        ("udp to a network of a deny rule", Send(at(family.denied_in_network(), BOTH)), Nowhere),
        ("an ip option or extension header", SendWithOption(at(granted, BOTH)), Nowhere),
        ("an ip protocol that is neither tcp nor udp", SendRaw(granted), Nowhere),
        ("a group that is joined", Join(family.group()), Nowhere),
        ("a query by a device of the sender's choice", SendByLink(at(denied, RESOLVER)), Nowhere),
        ("udp from an address without a grant", Receive(at(denied, BOTH)), Nowhere),
        ("udp from a granted address", Receive(at(granted, BOTH)), Canary),
        ("a query over udp", Send(at(denied, RESOLVER)), Resolver),
        ("a query over connected udp", ConnectAndSend(at(denied, RESOLVER)), Resolver),
        ("a query over tcp", Connect(at(denied, RESOLVER)), Resolver),
        ("tcp to an address that the proxy guards", Connect(at(granted, GUARDED)), Proxy),
        ("tcp to a granted address", Connect(at(granted, BOTH)), Outside),
        ("udp to a network of a rule", Send(at(family.in_network(), BOTH)), Outside),
        ("connected udp to a granted address", ConnectAndSend(at(granted, BOTH)), Outside),
        ("udp to a granted address", Send(at(granted, BOTH)), Outside),
    ];
    if family == Family::V4 {
        table
            .insert(0, ("udp to an ipv4 address in ipv6's clothes", SendMapped(at(denied, CLOSED)), Nowhere));
    }
    table.into_iter().map(|(what, act, arrives)| Probe { what, family, act, arrives }).collect()
}

impl Probe {
    /// Does it. Errors are no matter: what arrived tells. A group is left when the socket that is
    /// returned is dropped.
    pub fn attempt(&self, mark: &[u8]) -> io::Result<Option<Socket>> {
        let udp = || socket(self.family, Type::DGRAM, Protocol::UDP);
        match self.act {
            Act::Connect(to) => socket(self.family, Type::STREAM, Protocol::TCP)?.connect(&to.into())?,
            Act::Send(to) => drop(udp()?.send_to(mark, &to.into())?),
            Act::ConnectAndSend(to) => connect_and_send(&udp()?, to, mark)?,
            Act::ConnectAndSendLite(to) => {
                connect_and_send(&socket(self.family, Type::DGRAM, UDP_LITE)?, to, mark)?;
            }
            Act::SendMapped(to) => {
                let IpAddr::V4(address) = to.ip() else { return Ok(None) };
                let to = SocketAddr::new(address.to_ipv6_mapped().into(), to.port());
                let socket = socket(Family::V6, Type::DGRAM, Protocol::UDP)?;
                socket.set_only_v6(false)?;
                socket.send_to(mark, &to.into())?;
            }
            Act::SendWithOption(to) => send_with_option(&udp()?, to, mark)?,
            Act::SendByLink(to) => {
                let socket = udp()?;
                socket.bind_device(Some(LINK.as_bytes()))?;
                socket.send_to(mark, &to.into())?;
            }
            Act::SendRaw(to) => {
                let socket = socket(self.family, Type::RAW, FOR_EXPERIMENTS)?;
                socket.send_to(mark, &SocketAddr::new(to, 0).into())?;
            }
            Act::Join(group) => return join(udp()?, group).map(Some),
            Act::Receive(_) => {}
        }
        Ok(None)
    }
}

const UDP_LITE: Protocol = Protocol::UDPLITE;
const FOR_EXPERIMENTS: i32 = 253;

fn socket(family: Family, kind: Type, protocol: impl Into<Protocol>) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, kind, Some(protocol.into()))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn connect_and_send(socket: &Socket, to: SocketAddr, mark: &[u8]) -> io::Result<()> {
    socket.connect(&to.into())?;
    socket.send(mark).map(drop)
}

fn join(socket: Socket, group: IpAddr) -> io::Result<Socket> {
    let link = crate::datapath::seal::index(LINK)?;
    match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(link))?
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, link)?,
    }
    Ok(socket)
}

/// As ancillary data, which setsockopt programs do not see.
fn send_with_option(socket: &Socket, to: SocketAddr, mark: &[u8]) -> io::Result<()> {
    /// Room for a header and eight octets (cmsg(3)).
    #[repr(C, align(8))]
    struct Ancillary {
        length: usize,
        level: libc::c_int,
        kind: libc::c_int,
        data: [u8; 8],
    }
    let (level, kind, data, size) = match to {
        // Four times "no operation" (RFC 791, section 3.1).
        SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RETOPTS, [1, 1, 1, 1, 0, 0, 0, 0], 4),
        // A header of destination options that holds padding (RFC 8200, section 4.6).
        SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_DSTOPTS, [0, 0, 1, 4, 0, 0, 0, 0], 8),
    };
    let header = size_of::<Ancillary>() - 8;
    let mut ancillary = Ancillary { length: header + size, level, kind, data };
    let to: socket2::SockAddr = to.into();
    let mut payload = libc::iovec { iov_base: mark.as_ptr().cast_mut().cast(), iov_len: mark.len() };
    // SAFETY: plain old data, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut payload;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut ancillary).cast();
    message.msg_controllen = size_of::<Ancillary>();
    // SAFETY: every pointer of the message lives until the call is over.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) } {
        sent if sent < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
