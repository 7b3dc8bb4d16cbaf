//! Whose the socket at the other end of a TCP flow within this host is: sock_diag(7).

use super::{destroy::request, named::FlowSocket};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};
use std::{io, net::SocketAddr};

/// A socket of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSocket {
    /// Of the process that made it.
    pub cgroup: u64,
    /// As `/proc/PID/fd` names it.
    pub inode: u32,
}

/// The socket at `peer` of a flow that somebody has with `own`, in the network namespace of the calling thread.
///
/// # Errors
/// There is none, it has no process any more, or the kernel does not say whose it is.
pub fn peer_socket(peer: SocketAddr, own: SocketAddr) -> io::Result<PeerSocket> {
    let mut netlink = Socket::new(NETLINK_SOCK_DIAG)?;
    netlink.bind_auto()?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    let flow = FlowSocket { source: peer, destination: own, cookie: ANY_COOKIE };
    netlink.send(&request(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, &flow), 0)?;
    let (answer, _) = netlink.recv_from_full()?;
    read(&answer, &flow)
}

/// The socket that an answer is about: struct nlmsghdr, then struct inet_diag_msg (include/uapi/linux/inet_diag.h),
/// then attributes.
fn read(answer: &[u8], flow: &FlowSocket) -> io::Result<PeerSocket> {
    let short = || io::Error::other("expected a socket in the answer of the kernel");
    match octets(answer, 4).map(u16::from_ne_bytes).ok_or_else(short)? {
        SOCK_DIAG_BY_FAMILY => {}
        NLMSG_ERROR => {
            let code = octets(answer, HEADER).map(i32::from_ne_bytes).ok_or_else(short)?;
            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
        }
        _ => return Err(short()),
    }
    let [source, destination] = [4, 6].map(|at| octets(answer, HEADER + at).map(u16::from_be_bytes));
    // Where nobody has the flow any more, the kernel names a listener at the same port.
    if (source, destination) != (Some(flow.source.port()), Some(flow.destination.port())) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let inode = octets(answer, HEADER + 68).map(u32::from_ne_bytes).filter(|inode| *inode != 0);
    let inode = inode.ok_or(io::ErrorKind::NotFound)?;
    let attributes = answer.get(HEADER + MESSAGE..).ok_or_else(short)?;
    let cgroup = attribute(attributes, INET_DIAG_CGROUP_ID).and_then(|value| octets(value, 0));
    let cgroup = cgroup.map(u64::from_ne_bytes).ok_or(io::ErrorKind::Unsupported)?;
    Ok(PeerSocket { cgroup, inode })
}

/// struct nlattr: length and kind, then the value, filled up to whole words.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(octets(attributes, 0).map(u16::from_ne_bytes)?);
        let kind = octets(attributes, 2).map(u16::from_ne_bytes)?;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn octets<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Octets of struct nlmsghdr, and of struct inet_diag_msg.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// INET_DIAG_NOCOOKIE, twice.
const ANY_COOKIE: u64 = u64::MAX;
/// Since Linux 5.9.
const INET_DIAG_CGROUP_ID: u16 = 21;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Hierarchy;
    use std::{
        fs,
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    #[test]
    fn the_socket_of_a_peer_is_known_by_its_inode_and_cgroup() {
        for own in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(own) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let found = peer_socket(peer, server.local_addr().unwrap()).unwrap();
            let link = fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd())).unwrap();
            assert_eq!(link.to_str(), Some(format!("socket:[{}]", found.inode).as_str()));
            let own = fs::read_to_string("/proc/self/cgroup").unwrap();
            let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
            let hierarchy = Hierarchy::find().unwrap();
            assert_eq!(hierarchy.folder_of(found.cgroup), Some(hierarchy.mount().join(own)));
        }
    }

    #[test]
    fn a_peer_that_closed_its_socket_is_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        drop(client);
        // Somebody listens where it was; that is another socket.
        let _other = TcpListener::bind(peer);
        assert!(peer_socket(peer, server.local_addr().unwrap()).is_err());
    }

    #[test]
    fn no_answer_makes_a_panic() {
        let any = "127.0.0.1:0".parse().unwrap();
        let flow = FlowSocket { source: any, destination: any, cookie: 0 };
        let mut answer = vec![0; HEADER + MESSAGE + 12];
        answer[4] = 20;
        answer[HEADER + 68] = 1;
        for length in 0..answer.len() {
            assert!(read(&answer[..length], &flow).is_err());
        }
        answer[HEADER + MESSAGE] = 2;
        assert!(read(&answer, &flow).is_err(), "an attribute shorter than its head");
    }
}
