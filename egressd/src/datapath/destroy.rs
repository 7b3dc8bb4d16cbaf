//! Ends TCP sockets at once, in whatever state they are: SOCK_DESTROY over sock_diag(7).
//!
//! A flow that the programs deny as its packets leave would hang in retransmission until TCP gives up.
//! It is closed either way: this is for whoever waits.

use super::named::FlowSocket;
use crate::policy::AgentId;
use egress_common::TCP;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Sockets that are to be ended.
#[derive(Debug, Default)]
pub struct Doomed {
    waiting: Mutex<BTreeMap<AgentId, VecDeque<FlowSocket>>>,
    some: Notify,
}

impl Doomed {
    /// Has `socket` of `agent` ended soon. No-op where the agent has too many that wait: their flows are
    /// closed, and hang.
    pub fn add(&self, agent: AgentId, socket: FlowSocket) {
        let mut waiting = self.waiting();
        let own = waiting.entry(agent).or_default();
        if own.len() < MAX_WAITING {
            own.push_back(socket);
        }
        self.some.notify_one();
    }

    /// Waits for sockets that are to be ended, and takes some of each agent.
    pub async fn next(&self) -> Vec<(AgentId, Vec<FlowSocket>)> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.some.notified().await;
        }
    }

    fn take(&self) -> Vec<(AgentId, Vec<FlowSocket>)> {
        let mut waiting = self.waiting();
        let some = |own: &mut VecDeque<FlowSocket>| own.drain(..own.len().min(AT_ONCE)).collect();
        let taken = waiting.iter_mut().map(|(agent, own)| (*agent, some(own))).collect();
        waiting.retain(|_, own| !own.is_empty());
        taken
    }

    // Entries are added and removed whole.
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<AgentId, VecDeque<FlowSocket>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sockets of one agent that may wait for their end: 56 KiB. A program that is denied tries a handful at
/// once.
const MAX_WAITING: usize = 1024;

/// Sockets of one agent that are ended before others have their turn.
const AT_ONCE: usize = 64;

/// Ends `sockets` of the network namespace of the calling thread. One that is gone is as good.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] where the kernel was built without CONFIG_INET_DIAG_DESTROY.
pub fn destroy(sockets: &[FlowSocket]) -> io::Result<()> {
    let mut netlink = Socket::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    for socket in sockets {
        netlink.send(&request(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, socket), 0)?;
        let (answer, _) = netlink.recv_from_full()?;
        outcome(&answer)?;
    }
    Ok(())
}

/// What is asked of sock_diag(7) about one socket: include/uapi/linux/netlink.h, struct nlmsghdr, and inet_diag.h,
/// struct inet_diag_req_v2.
pub(super) fn request(kind: u16, flags: u16, socket: &FlowSocket) -> Vec<u8> {
    let mut octets = Vec::with_capacity(LENGTH);
    octets.extend(u32::try_from(LENGTH).unwrap_or(0).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend([0; 8]);
    let family = if socket.source.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    octets.extend([u8::try_from(family).unwrap_or(0), TCP, 0, 0]);
    // Any state.
    octets.extend(u32::MAX.to_ne_bytes());
    octets.extend(socket.source.port().to_be_bytes());
    octets.extend(socket.destination.port().to_be_bytes());
    octets.extend(words(socket.source.ip()));
    octets.extend(words(socket.destination.ip()));
    // Bound to no device.
    octets.extend([0; 4]);
    // The lower word of the cookie, then the upper one.
    octets.extend(u32::try_from(socket.cookie & 0xffff_ffff).unwrap_or(0).to_ne_bytes());
    octets.extend(u32::try_from(socket.cookie >> 32).unwrap_or(0).to_ne_bytes());
    octets
}

/// Of both headers.
const LENGTH: usize = 16 + 56;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

/// An address as 16 octets, an IPv4 one in the first four.
fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// What the kernel acknowledged: an NLMSG_ERROR, whose first number is 0 or an errno below zero.
fn outcome(answer: &[u8]) -> io::Result<()> {
    let code = answer.get(16..20).and_then(|octets| octets.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) if -code == libc::ENOENT => Ok(()),
        Some(code) if -code == libc::EOPNOTSUPP => Err(io::ErrorKind::Unsupported.into()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("expected an acknowledgement of the kernel")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        os::fd::AsRawFd,
        thread,
    };

    #[test]
    fn a_socket_is_ended_at_once_and_its_neighbour_is_not() {
        for own in ["127.0.0.1:0", "[::1]:0"] {
            in_a_network_of_its_own(move || {
                let listener = TcpListener::bind(own).expect("listener");
                let (mut doomed, _server) = connected(&listener);
                let (mut neighbour, mut other) = connected(&listener);
                destroy(&[flow(&doomed)]).expect("destroyed");
                let error = doomed.read(&mut [0]).expect_err("ended");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
                neighbour.write_all(b"x").expect("sent");
                other.read_exact(&mut [0]).expect("arrived");
            });
        }
    }

    #[test]
    fn a_socket_with_another_cookie_is_left_alone() {
        in_a_network_of_its_own(|| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
            let (mut stream, mut other) = connected(&listener);
            let flow = flow(&stream);
            destroy(&[FlowSocket { cookie: flow.cookie + 1, ..flow }]).expect("no such socket");
            stream.write_all(b"x").expect("sent");
            other.read_exact(&mut [0]).expect("arrived");
        });
    }

    #[test]
    fn the_sockets_of_one_agent_crowd_out_no_other() {
        let doomed = Doomed::default();
        let any: SocketAddr = "192.0.2.1:1".parse().expect("an address");
        let socket = |cookie| FlowSocket { source: any, destination: any, cookie };
        (0..5000).for_each(|cookie| doomed.add(AgentId(1), socket(cookie)));
        doomed.add(AgentId(2), socket(7));
        let first: Vec<_> = doomed.take().into_iter().map(|(agent, own)| (agent, own.len())).collect();
        assert_eq!(first, [(AgentId(1), AT_ONCE), (AgentId(2), 1)]);
        let rest = std::iter::from_fn(|| Some(doomed.take()).filter(|taken| !taken.is_empty()));
        let rest: usize = rest.flatten().map(|(_, own)| own.len()).sum();
        assert_eq!(rest, MAX_WAITING - AT_ONCE);
    }

    fn connected(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        (client, server)
    }

    fn flow(stream: &TcpStream) -> FlowSocket {
        let (source, destination) = (stream.local_addr().expect("own"), stream.peer_addr().expect("peer"));
        let mut cookie = 0_u64;
        let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("8");
        // SAFETY: the option takes 8 octets, which `cookie` has.
        let result = unsafe {
            let value = (&raw mut cookie).cast();
            libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, value, &raw mut length)
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        FlowSocket { source, destination, cookie }
    }

    fn in_a_network_of_its_own(act: impl FnOnce() + Send + 'static) {
        let inside = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.expect("ip").success());
            act();
        };
        thread::spawn(inside).join().expect("no panic");
    }
}
