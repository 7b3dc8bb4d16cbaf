//! Two network namespaces of our own, joined by one link: the canary lives in the one, and in the
//! other the tap sees what came out. Nothing in them is reached from the host, nor reaches it.

use super::{
    netlink::{Netlink, index_of},
    places::Family,
    tap::Tap,
};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};
use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
};

/// What is there to see what the canary sends. None of these sockets is in the canary's cgroup.
pub struct World {
    pub tap: Tap,
    pub services: Vec<Services>,
}

/// The daemon's own listeners, as an agent of one family would have them.
pub struct Services {
    pub family: Family,
    pub resolver: Socket,
    pub resolver_tcp: Socket,
    pub proxy: Socket,
}

/// The ports of the listeners.
pub const RESOLVER: u16 = 53;
pub const PROXY: u16 = 8443;

/// The canary's end of the link.
pub const LINK: &CStr = c"canary";
/// Its hardware address, to which the tap sends.
pub const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

impl World {
    /// Makes the namespaces, and leaves the calling thread, which must be the only one, in the
    /// canary's.
    ///
    /// # Errors
    /// Names what could not be made.
    pub fn make() -> Result<Self, WorldError> {
        let act = |act| move |error: io::Error| WorldError { act, error };
        let outside = namespace().map_err(act("make a network namespace"))?;
        let inside = namespace().map_err(act("make a network namespace"))?;
        let netlink = Netlink::open().map_err(act("open a netlink socket"))?;
        netlink
            .add_pair(LINK, HARDWARE, PEER, outside.as_fd())
            .map_err(act("make a pair of veth links (is the kernel module `veth` there?)"))?;
        let tap = within(&outside, &inside, || {
            let index = index_of(PEER)?;
            Netlink::open()?.set_up(index, libc::IFF_NOARP)?;
            Tap::open(index)
        });
        let tap = tap.map_err(act("open the tap"))?;
        let families = wire(&netlink).map_err(act("give the canary an address"))?;
        let services = families.into_iter().map(Services::bind).collect::<io::Result<_>>();
        Ok(Self { tap, services: services.map_err(act("bind the canary's listeners"))? })
    }
}

/// Why there is no place to prove anything.
#[derive(Debug, thiserror::Error)]
#[error("failed to {act}: {error}")]
pub struct WorldError {
    act: &'static str,
    error: io::Error,
}

impl Services {
    fn bind(family: Family) -> io::Result<Self> {
        let socket = |kind, port| {
            let (domain, ip) = match family {
                Family::V4 => (Domain::IPV4, Ipv4Addr::LOCALHOST.into()),
                Family::V6 => (Domain::IPV6, Ipv6Addr::LOCALHOST.into()),
            };
            let socket = Socket::new(domain, kind, None)?;
            socket.bind(&SocketAddr::new(ip, port).into())?;
            socket.set_nonblocking(true)?;
            if kind == Type::STREAM {
                socket.listen(16)?;
            }
            io::Result::Ok(socket)
        };
        Ok(Self {
            family,
            resolver: socket(Type::DGRAM, RESOLVER)?,
            resolver_tcp: socket(Type::STREAM, RESOLVER)?,
            proxy: socket(Type::STREAM, PROXY)?,
        })
    }
}

/// The tap's end of the link.
const PEER: &CStr = c"tap";

/// Enters a network namespace of its own, and returns it.
fn namespace() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/self/ns/net")
}

/// Runs `act` in `there`, and comes back to `home`.
fn within<T>(there: &File, home: &File, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    setns(there, CloneFlags::CLONE_NEWNET)?;
    let outcome = act();
    setns(home, CloneFlags::CLONE_NEWNET)?;
    outcome
}

/// Addresses and default routes; returns the families that this kernel has. Neighbours are not
/// asked for: a frame leaves at once, or not at all.
fn wire(netlink: &Netlink) -> io::Result<Vec<Family>> {
    let index = index_of(LINK)?;
    netlink.set_up(index_of(c"lo")?, 0)?;
    netlink.set_up(index, libc::IFF_NOARP)?;
    // Some hosts start every link without IPv6. Where there is none at all, there is no file either.
    for link in ["canary", "lo"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "0");
    }
    let mut families = Vec::new();
    for family in [Family::V4, Family::V6] {
        let own = family.own();
        match netlink.add_address(index, own, family.prefix()) {
            Ok(()) => netlink.add_default_route(index, own)?,
            Err(_) if family == Family::V6 => continue,
            Err(error) => return Err(error),
        }
        families.push(family);
    }
    Ok(families)
}
