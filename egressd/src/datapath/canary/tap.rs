//! What came out of the canary's end of the link: every IP packet, whatever made it.

use super::places::Family;
use egress_common::AGENT_MAC;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{io, mem::MaybeUninit, time::Duration};

/// A socket for each family, on the far end of the link. They see packets after the hooks of that
/// end (net/core/dev.c, __netif_receive_skb_core), so that programs there are proven with the rest.
pub struct Tap {
    v4: Socket,
    v6: Socket,
    index: u32,
}

/// Octets of a packet at the most: the probes are far shorter.
const MAX_PACKET: usize = 2048;

impl Tap {
    /// Opens the tap on the link with this index, in the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel gives no packet socket.
    pub fn open(index: u32) -> io::Result<Self> {
        let open = |family| {
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
            socket.bind(&link_address(ethertype(family), index, [0; 6])?)?;
            io::Result::Ok(socket)
        };
        Ok(Self { v4: open(Family::V4)?, v6: open(Family::V6)?, index })
    }

    /// The next packet of `family`, from its IP header on; None if none comes within `timeout`,
    /// which must not be zero.
    pub fn next(&self, family: Family, timeout: Duration) -> Option<Vec<u8>> {
        let socket = self.of(family);
        socket.set_read_timeout(Some(timeout)).ok()?;
        receive(socket, 0)
    }

    /// Every packet of `family` that is there.
    pub fn rest(&self, family: Family) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(move || receive(self.of(family), libc::MSG_DONTWAIT))
    }

    /// Sends `packet` to the canary, as if it came from outside.
    ///
    /// # Errors
    /// The link takes nothing.
    pub fn inject(&self, family: Family, packet: &[u8]) -> io::Result<()> {
        let address = link_address(ethertype(family), self.index, AGENT_MAC)?;
        self.of(family).send_to(packet, &address).map(drop)
    }

    fn of(&self, family: Family) -> &Socket {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

fn receive(socket: &Socket, flags: libc::c_int) -> Option<Vec<u8>> {
    let mut buffer = [MaybeUninit::uninit(); MAX_PACKET];
    let length = socket.recv_with_flags(&mut buffer, flags).ok()?;
    // SAFETY: the kernel wrote that many octets.
    Some(buffer[..length].iter().map(|octet| unsafe { octet.assume_init() }).collect())
}

/// A socket that sends whole frames out of the link with this index, and receives none.
///
/// # Errors
/// The kernel gives no packet socket.
pub fn raw(index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.bind(&link_address(0, index, [0; 6])?)?;
    Ok(socket)
}

/// What the frames of a family are marked with.
pub fn ethertype(family: Family) -> u16 {
    match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    }
}

/// packet(7): the frames of one type, on one link.
fn link_address(ethertype: u16, index: u32, hardware: [u8; 6]) -> io::Result<SockAddr> {
    let [a, b, c, d, e, f] = hardware;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    // SAFETY: the storage is larger than any socket address, and plain old data.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
            Ok(())
        })?
    };
    Ok(address)
}
