//! Two network namespaces of our own, joined by two links: the canary lives in the one, and in the
//! other taps see what came out. Nothing in them is reached from the host, nor reaches it.

use super::{
    super::{
        links,
        seal::{
            self, Link,
            rtnl::{End, Rtnl},
        },
    },
    places::{Family, GATED, at},
    tap::{self, Tap},
};
use egress_common::{AGENT_MAC, GATEWAY_MAC, MAX_AGENTS};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};
use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// What is there to see what the canary sends. None of these sockets is in the canary's cgroup.
pub struct World {
    inside: File,
    outside: File,
    /// At the far end of the link of the canary's sockets, where nothing judges.
    pub tap: Tap,
    /// At the far end of the other link, behind the program that judges frames.
    pub judged: Tap,
    /// At the near end of it, for whole frames.
    pub raw: Socket,
    pub services: Vec<Services>,
}

/// The daemon's own listeners, as an agent of one family would have them.
pub struct Services {
    pub family: Family,
    pub resolver: Socket,
    pub resolver_tcp: Socket,
    pub proxy: Socket,
    /// At the far end of the link.
    pub server: Socket,
}

/// The ports of the listeners.
pub const RESOLVER: u16 = 53;
pub const PROXY: u16 = 8443;

/// The canary's end of the link of its sockets.
pub const LINK: &str = seal::INNER;

impl World {
    /// Makes the namespaces, and leaves the calling thread, which must be the only one, in the
    /// canary's.
    ///
    /// # Errors
    /// Names what could not be made.
    pub fn make() -> Result<Self, WorldError> {
        let act = |act| move |error: io::Error| WorldError { act, error };
        let inside = namespace().map_err(act("make a network namespace"))?;
        let outside = namespace().map_err(act("make a network namespace"))?;
        let make = "make a pair of veth links (is the kernel module `veth` there?)";
        add_pairs(&inside).map_err(act(make))?;
        let tap = up(PEER).and_then(Tap::open).map_err(act("open a tap"))?;
        let judged = up(JUDGED.name).and_then(Tap::open).map_err(act("open a tap"))?;
        let servers = servers().map_err(act("bind the canary's server"))?;
        enter(&inside).map_err(act("enter a network namespace"))?;
        let families = furnish().map_err(act("give the canary an address"))?;
        let raw = up(RAW).and_then(tap::raw).map_err(act("open a raw socket"))?;
        let services =
            families.into_iter().zip(servers).map(|(family, server)| Services::bind(family, server));
        let services = services.collect::<io::Result<_>>();
        let services = services.map_err(act("bind the canary's listeners"))?;
        Ok(Self { inside, outside, tap, judged, raw, services })
    }

    /// Has the program that is pinned at `program` judge frames, until what is returned is dropped.
    ///
    /// # Errors
    /// The kernel has no TCX (before 6.6), or the program is not there.
    pub fn judge_frames_by(&self, program: &Path) -> io::Result<OwnedFd> {
        let program = links::open(program)?.ok_or(io::ErrorKind::NotFound)?;
        enter(&self.outside)?;
        let attached = links::attach_to_device(program, JUDGED.index);
        enter(&self.inside)?;
        attached
    }
}

/// The link whose frames are judged, as the daemon knows it.
pub fn judged_link() -> Link {
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 2), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
    Link { name: JUDGED.name.to_owned(), index: JUDGED.index, number: MAX_AGENTS - 1, v4, v6 }
}

/// Why there is no place to prove anything.
#[derive(Debug, thiserror::Error)]
#[error("failed to {act}: {error}")]
pub struct WorldError {
    act: &'static str,
    error: io::Error,
}

impl Services {
    fn bind(family: Family, server: Socket) -> io::Result<Self> {
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
            server,
        })
    }
}

/// The far ends of the links. No device of a host has such an index, so that the canary's entry
/// stands for nobody else's link.
const PEER: &str = "tap";
const JUDGED: End<'_> = End { name: "judged", mac: GATEWAY_MAC, index: 0x7fff_ff00 };
/// The near end of the second link.
const RAW: &str = "raw";

/// Enters a network namespace of its own, and returns it.
fn namespace() -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    File::open("/proc/thread-self/ns/net")
}

fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Both links, from here to `inside`.
fn add_pairs(inside: &File) -> io::Result<()> {
    let near = |name| End { name, mac: AGENT_MAC, index: 0 };
    let far = End { name: PEER, mac: GATEWAY_MAC, index: 0 };
    let rtnl = Rtnl::open()?;
    rtnl.add_pair(far, near(LINK), inside.as_fd())?;
    rtnl.add_pair(JUDGED, near(RAW), inside.as_fd())
}

fn up(name: &str) -> io::Result<u32> {
    let index = seal::index(name)?;
    Rtnl::open()?.set_up(index)?;
    Ok(index)
}

/// What listens at the far end of the first link, for each family that this kernel has; and a way back
/// from there.
fn servers() -> io::Result<Vec<Socket>> {
    let _ = fs::write(DISABLE_IPV6, "0");
    let (rtnl, index) = (Rtnl::open()?, seal::index(PEER)?);
    let serve = |family: Family| {
        rtnl.add_address(index, family.gated())?;
        rtnl.add_neighbour(index, family.own(), AGENT_MAC)?;
        rtnl.add_route(index, family.own())?;
        let address = at(family.gated(), GATED);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&address.into())?;
        socket.listen(16)?;
        Ok(socket)
    };
    let families = if seal::has_ipv6() { vec![Family::V4, Family::V6] } else { vec![Family::V4] };
    families.into_iter().map(serve).collect()
}

/// The canary's end, as an agent's; returns the families that this kernel has.
fn furnish() -> io::Result<Vec<Family>> {
    // Some hosts start every namespace without IPv6. Where there is none at all, there is no file either.
    let _ = fs::write(DISABLE_IPV6, "0");
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (Family::V4.own(), Family::V6.own()) else {
        return Ok(Vec::new());
    };
    Link { name: PEER.to_owned(), index: 0, number: 0, v4, v6 }.furnish_inside()?;
    Ok(if seal::has_ipv6() { vec![Family::V4, Family::V6] } else { vec![Family::V4] })
}

const DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
