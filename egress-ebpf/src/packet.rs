//! The only pointer arithmetic: what a packet's headers say.

use crate::error::Denied;
use aya_ebpf::programs::SkBuffContext;
use egress_common::{Address, DropReason, TCP, UDP, v4_mapped};

/// One plain TCP or UDP packet, as it will leave or as it came.
pub struct Packet {
    pub source: Address,
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub transport: u8,
    /// A TCP segment that opens a connection.
    pub opens: bool,
}

/// Reads the headers. Everything that is not plain TCP or UDP is an error: IP options (RFC 791),
/// extension headers (RFC 8200, section 4), fragments, other protocols, short packets.
#[inline(always)]
pub fn read(ctx: &SkBuffContext) -> Result<Packet, Denied> {
    match u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16) {
        ETH_P_IP => read_v4(ctx),
        ETH_P_IPV6 => read_v6(ctx),
        _ => Err(NOT_PLAIN),
    }
}

/// The IP protocol number of a packet that [`read`] refused; 0 where not even that is readable.
#[inline(always)]
pub fn protocol(ctx: &SkBuffContext) -> u8 {
    let next = match u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16) {
        ETH_P_IP => at::<u8>(ctx, 9),
        ETH_P_IPV6 => at::<u8>(ctx, 6),
        _ => None,
    };
    match next {
        Some(next) => unsafe { *next },
        None => 0,
    }
}

/// The destination of a packet that [`read`] refused; zero where it is not readable.
#[inline(always)]
pub fn destination(ctx: &SkBuffContext) -> Address {
    match u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16) {
        ETH_P_IP => match at::<Ipv4Header>(ctx, 0) {
            Some(header) => v4_mapped(unsafe { (*header).destination }),
            None => [0; 16],
        },
        ETH_P_IPV6 => match at::<Ipv6Header>(ctx, 0) {
            Some(header) => unsafe { (*header).destination },
            None => [0; 16],
        },
        _ => [0; 16],
    }
}

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const NOT_PLAIN: Denied = Denied::because(DropReason::PacketNotAllowed);

#[repr(C)]
struct Ipv4Header {
    version_and_length: u8,
    service: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
    time_to_live: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
}

#[repr(C)]
struct Ipv6Header {
    version_and_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

/// The first 14 octets of a TCP header; the ports are where UDP has them too.
#[repr(C)]
struct TcpHeader {
    ports: Ports,
    sequence: [u8; 4],
    acknowledgement: [u8; 4],
    offset: u8,
    flags: u8,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ports {
    source: [u8; 2],
    destination: [u8; 2],
}

const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

#[inline(always)]
fn read_v4(ctx: &SkBuffContext) -> Result<Packet, Denied> {
    let header = unsafe { &*at::<Ipv4Header>(ctx, 0).ok_or(NOT_PLAIN)? };
    let [high, low] = header.fragment;
    let is_fragment = (high & 0x3f) | low != 0;
    if header.version_and_length != 0x45 || is_fragment {
        return Err(NOT_PLAIN);
    }
    let addresses = (v4_mapped(header.source), v4_mapped(header.destination));
    read_transport::<20>(ctx, header.protocol, addresses)
}

#[inline(always)]
fn read_v6(ctx: &SkBuffContext) -> Result<Packet, Denied> {
    let header = unsafe { &*at::<Ipv6Header>(ctx, 0).ok_or(NOT_PLAIN)? };
    if header.version_and_flow[0] >> 4 != 6 {
        return Err(NOT_PLAIN);
    }
    read_transport::<40>(ctx, header.next_header, (header.source, header.destination))
}

#[inline(always)]
fn read_transport<const OFFSET: usize>(
    ctx: &SkBuffContext,
    transport: u8,
    (source, destination): (Address, Address),
) -> Result<Packet, Denied> {
    let (ports, opens) = match transport {
        TCP => {
            let header = unsafe { &*at::<TcpHeader>(ctx, OFFSET).ok_or(NOT_PLAIN)? };
            (header.ports, header.flags & (TCP_SYN | TCP_ACK) == TCP_SYN)
        }
        UDP => (unsafe { *at::<Ports>(ctx, OFFSET).ok_or(NOT_PLAIN)? }, false),
        _ => return Err(NOT_PLAIN),
    };
    Ok(Packet {
        source,
        destination,
        source_port: u16::from_be_bytes(ports.source),
        destination_port: u16::from_be_bytes(ports.destination),
        transport,
        opens,
    })
}

/// A `T` at `offset` of the packet, if it is all there. `T` must have an alignment of 1.
#[inline(always)]
fn at<T>(ctx: &SkBuffContext, offset: usize) -> Option<*const T> {
    let skb = ctx.skb.skb;
    let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if start + offset + size_of::<T>() > end {
        return None;
    }
    Some((start + offset) as *const T)
}
