//! As much of rtnetlink(7) as the canary's two namespaces take: one link, addresses, a route.

use std::{
    ffi::CStr,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// A socket to the kernel's routing tables of one network namespace: the one that it was opened in.
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// # Errors
    /// The kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(socket) } })
    }

    /// Makes a pair of links: `name` here, with the hardware address `hardware`, and `peer` in
    /// `namespace`.
    ///
    /// # Errors
    /// The kernel has no veth links, or we may not make any.
    pub fn add_pair(
        &self,
        name: &CStr,
        hardware: [u8; 6],
        peer: &CStr,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let descriptor = namespace.as_raw_fd().to_ne_bytes();
        let mut message = Message::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        message.push(&[0; IFINFOMSG]);
        message.attribute(IFLA_IFNAME, name.to_bytes_with_nul());
        message.attribute(IFLA_ADDRESS, &hardware);
        message.nest(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |other| {
                    other.push(&[0; IFINFOMSG]);
                    other.attribute(IFLA_IFNAME, peer.to_bytes_with_nul());
                    other.attribute(IFLA_NET_NS_FD, &descriptor);
                });
            });
        });
        self.ask(message)
    }

    /// Sets the link with this index up, with `flags` (IFF_) besides.
    ///
    /// # Errors
    /// There is no such link.
    pub fn set_up(&self, index: u32, flags: libc::c_int) -> io::Result<()> {
        let flags = (flags | libc::IFF_UP).unsigned_abs();
        let mut message = Message::new(RTM_NEWLINK, 0);
        // struct ifinfomsg: family, type, index, flags, change.
        message.push(&[0; 4]);
        for word in [index, flags, flags] {
            message.push(&word.to_ne_bytes());
        }
        self.ask(message)
    }

    /// Gives `address` to the link with this index, and at once: without duplicate address detection.
    ///
    /// # Errors
    /// The kernel, or the link, has no such family.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        message.push(&[family(address), prefix, IFA_F_NODAD, 0]);
        message.push(&index.to_ne_bytes());
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            message.address(kind, address);
        }
        self.ask(message)
    }

    /// Sends everything of the family of `like` that has no other route out by the link.
    ///
    /// # Errors
    /// The link is down.
    pub fn add_default_route(&self, index: u32, like: IpAddr) -> io::Result<()> {
        let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        // struct rtmsg: family, three lengths and service, table, protocol, scope, type, flags.
        let scope = libc::RT_SCOPE_LINK;
        message.push(&[family(like), 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope]);
        message.push(&[libc::RTN_UNICAST, 0, 0, 0, 0]);
        message.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.ask(message)
    }

    /// Sends one request, and waits for what the kernel says of it.
    fn ask(&self, message: Message) -> io::Result<()> {
        let request = message.finish();
        let descriptor = self.socket.as_raw_fd();
        // SAFETY: the buffer is as long as we say.
        let sent = unsafe { libc::send(descriptor, request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 4096];
        // SAFETY: the buffer is as long as we say.
        let length = unsafe { libc::recv(descriptor, answer.as_mut_ptr().cast(), answer.len(), 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        // struct nlmsgerr after the header: 0, or an error below it.
        match answer[..length].get(HEADER..HEADER + 4).and_then(|code| code.try_into().ok()) {
            Some(code) => match i32::from_ne_bytes(code) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(-code)),
            },
            None => Err(io::Error::other("the kernel's answer is too short")),
        }
    }
}

/// The number of the link `name` in this network namespace.
///
/// # Errors
/// There is none of that name.
pub fn index_of(name: &CStr) -> io::Result<u32> {
    // SAFETY: the name ends in a NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// One request: a header, a structure that its kind wants, and attributes.
struct Message {
    octets: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = u16::try_from(flags | NLM_F_REQUEST | NLM_F_ACK).unwrap_or_default();
        let mut octets = vec![0; HEADER];
        octets[4..6].copy_from_slice(&kind.to_ne_bytes());
        octets[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { octets }
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |inside| inside.push(value));
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// An attribute whose value `fill` writes. Its length does not count its padding (netlink(3)).
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.octets.len();
        self.push(&[0; 2]);
        self.push(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.octets.len() - start).unwrap_or(u16::MAX);
        self.octets[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.octets.len()).unwrap_or(u32::MAX);
        self.octets[..4].copy_from_slice(&length.to_ne_bytes());
        self.octets
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

/// Octets of struct nlmsghdr and of struct ifinfomsg.
const HEADER: usize = 16;
const IFINFOMSG: usize = 16;

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h and veth.h.
const NLM_F_REQUEST: libc::c_int = libc::NLM_F_REQUEST;
const NLM_F_ACK: libc::c_int = libc::NLM_F_ACK;
const NLM_F_EXCL: libc::c_int = libc::NLM_F_EXCL;
const NLM_F_CREATE: libc::c_int = libc::NLM_F_CREATE;
const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const RTM_NEWADDR: u16 = libc::RTM_NEWADDR;
const RTM_NEWROUTE: u16 = libc::RTM_NEWROUTE;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
