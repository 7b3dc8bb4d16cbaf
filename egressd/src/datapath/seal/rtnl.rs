//! Links, addresses and routes, over rtnetlink (rtnetlink(7)): requests that are answered by an
//! acknowledgement, one at a time.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

/// A conversation with the kernel about the network namespace in which it was opened.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
}

/// One end of a link.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub name: &'a str,
    pub mac: [u8; 6],
    /// The index that it is to have, of the near end; 0: whichever is free.
    pub index: u32,
}

impl Rtnl {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Makes a pair of Ethernet devices, the far one of them in `far_namespace`.
    ///
    /// # Errors
    /// A device of that name exists, or the kernel refuses.
    pub fn add_pair(&self, near: End<'_>, far: End<'_>, far_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let named = |end: End<'_>| {
            vec![LinkAttribute::IfName(end.name.to_owned()), LinkAttribute::Address(end.mac.to_vec())]
        };
        let mut peer = LinkMessage::default();
        peer.attributes = named(far);
        peer.attributes.push(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()));
        let mut pair = LinkMessage::default();
        pair.header.index = near.index;
        pair.attributes = named(near);
        pair.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.ask(RouteNetlinkMessage::NewLink(pair), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// # Errors
    /// There is no such device.
    pub fn set_up(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// # Errors
    /// There is no such device.
    pub fn delete(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// Gives a device an address that no other device of its link has.
    ///
    /// # Errors
    /// The kernel refuses, for example because it has no IPv6.
    pub fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = bits(address);
        message.header.index = index;
        // Nobody else can have it, so nobody is asked.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.scope = match address {
            IpAddr::V4(v4) if v4.is_link_local() => AddressScope::Link,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => AddressScope::Link,
            IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
        };
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sends what is for `address` out of a device.
    ///
    /// # Errors
    /// There is such a route already, or the kernel refuses.
    pub fn add_route(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = route(address, bits(address), RouteScope::Link);
        message.attributes = vec![RouteAttribute::Destination(address.into()), RouteAttribute::Oif(index)];
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sends what has no other way to `gateway`, with `source` as its source address.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_default_route(&self, index: u32, gateway: IpAddr, source: IpAddr) -> io::Result<()> {
        let mut message = route(gateway, 0, RouteScope::Universe);
        message.attributes = vec![
            RouteAttribute::Gateway(gateway.into()),
            RouteAttribute::PrefSource(source.into()),
            RouteAttribute::Oif(index),
        ];
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Writes down a neighbour, so that it needs not be asked for.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_neighbour(&self, index: u32, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(destination),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Error(_) => Ok(()),
            NetlinkPayload::Done(_)
            | NetlinkPayload::Noop
            | NetlinkPayload::Overrun(_)
            | NetlinkPayload::InnerMessage(_)
            | _ => Err(io::Error::other("expected an acknowledgement of the kernel")),
        }
    }
}

fn route(address: IpAddr, prefix: u8, scope: RouteScope) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = scope;
    message.header.kind = RouteType::Unicast;
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
