//! The only pointer arithmetic: what a packet's headers say.

use crate::error::Denied;
use aya_ebpf::bindings::__sk_buff;
use egress_common::{Address, DropReason, TCP, UDP, v4_mapped};

/// One plain TCP or UDP packet, as it will leave or as it came.
pub struct Packet {
    /// Addresses are kept as [`words`]: octet by octet, each comparison would take sixteen steps.
    pub from: Words,
    pub to: Words,
    pub source_port: u16,
    pub destination_port: u16,
    pub transport: u8,
    /// A TCP segment that opens a connection.
    pub opens: bool,
    /// One that says that its sender ends it.
    pub closes: bool,
}

impl Packet {
    #[inline(always)]
    pub fn source(&self) -> Address {
        address(self.from)
    }

    #[inline(always)]
    pub fn destination(&self) -> Address {
        address(self.to)
    }
}

/// An address as four words, each in the byte order of the network.
pub type Words = [u32; 4];

/// Where the IP header of a packet is: what a cgroup's programs see begins with it.
pub const AT_START: usize = 0;
/// What a link's programs see begins with the Ethernet header.
pub const BEHIND_ETHERNET: usize = 14;

/// Reads the headers of a packet whose IP header is at `AT`. Everything that is not plain TCP or UDP is an error: IP options (RFC 791),
/// extension headers (RFC 8200, section 4), fragments, other protocols, short packets.
#[inline(always)]
pub fn read<const AT: usize>(skb: *const __sk_buff) -> Result<Packet, Denied> {
    match ether_type(skb) {
        ETH_P_IP => read_v4::<AT>(skb),
        ETH_P_IPV6 => read_v6::<AT>(skb),
        _ => Err(NOT_PLAIN),
    }
}

/// The EtherType of a packet, by which the kernel chooses who reads it.
#[inline(always)]
pub fn ether_type(skb: *const __sk_buff) -> u16 {
    u16::from_be(unsafe { (*skb).protocol } as u16)
}

/// The `AF_` number of a packet's addresses; 0 where it is not IP.
#[inline(always)]
pub fn family(skb: *const __sk_buff) -> u16 {
    match ether_type(skb) {
        ETH_P_IP => 2,
        ETH_P_IPV6 => 10,
        _ => 0,
    }
}

/// The IP protocol number of a packet that [`read`] refused; 0 where not even that is readable.
#[inline(always)]
pub fn protocol<const AT: usize>(skb: *const __sk_buff) -> u8 {
    let next = match ether_type(skb) {
        ETH_P_IP => at::<u8>(skb, AT + 9),
        ETH_P_IPV6 => at::<u8>(skb, AT + 6),
        _ => None,
    };
    match next {
        Some(next) => unsafe { *next },
        None => 0,
    }
}

/// The destination of a packet that [`read`] refused; zero where it is not readable.
#[inline(always)]
pub fn destination<const AT: usize>(skb: *const __sk_buff) -> Address {
    match ether_type(skb) {
        ETH_P_IP => match at::<Ipv4Header>(skb, AT) {
            Some(header) => v4_mapped(unsafe { (*header).destination }),
            None => [0; 16],
        },
        ETH_P_IPV6 => match at::<Ipv6Header>(skb, AT) {
            Some(header) => unsafe { (*header).destination },
            None => [0; 16],
        },
        _ => [0; 16],
    }
}

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_IPV6: u16 = 0x86dd;
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
    source: Address,
    destination: Address,
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

/// The payload of a TCP segment.
pub struct Segment {
    /// That of the first octet of the payload; of a SYN, that of the SYN.
    pub sequence: u32,
    /// That of the first octet of the other side that has not arrived.
    pub acknowledged: u32,
    /// Where the payload begins in the packet.
    pub payload: u32,
    /// Its octets.
    pub length: u32,
}

/// Octets of a packet without what lies before its IP header.
#[inline(always)]
pub fn octets<const AT: usize>(skb: *const __sk_buff) -> u32 {
    unsafe { (*skb).len }.saturating_sub(AT as u32)
}

/// Octets of the payload of a packet that [`read`] has read.
#[inline(always)]
pub fn payload<const AT: usize>(skb: *const __sk_buff, packet: &Packet) -> u32 {
    let ip = if ether_type(skb) == ETH_P_IP { 20 } else { 40 };
    let whole = unsafe { (*skb).len };
    match packet.transport {
        // A header that cannot be read counts as payload.
        TCP => segment::<AT>(skb).map_or(whole, |segment| segment.length),
        _ => whole.saturating_sub(AT as u32 + ip + 8),
    }
}

/// Reads what [`read`] does not of a packet that it has read. None if it is no TCP, or short.
#[inline(always)]
pub fn segment<const AT: usize>(skb: *const __sk_buff) -> Option<Segment> {
    match ether_type(skb) {
        ETH_P_IP if unsafe { *at::<u8>(skb, AT + 9)? } == TCP => segment_at(skb, AT + 20),
        ETH_P_IPV6 if unsafe { *at::<u8>(skb, AT + 6)? } == TCP => segment_at(skb, AT + 40),
        _ => None,
    }
}

#[inline(always)]
fn segment_at(skb: *const __sk_buff, offset: usize) -> Option<Segment> {
    let header = unsafe { &*at::<TcpHeader>(skb, offset)? };
    let words = u32::from(header.offset >> 4);
    if words < 5 {
        return None;
    }
    let payload = offset as u32 + words * 4;
    let length = unsafe { (*skb).len }.checked_sub(payload)?;
    let [sequence, acknowledged] = [header.sequence, header.acknowledgement].map(u32::from_be_bytes);
    Some(Segment { sequence, acknowledged, payload, length })
}

const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

#[inline(always)]
fn read_v4<const AT: usize>(skb: *const __sk_buff) -> Result<Packet, Denied> {
    let header = unsafe { &*at::<Ipv4Header>(skb, AT).ok_or(NOT_PLAIN)? };
    let [high, low] = header.fragment;
    let is_fragment = (high & 0x3f) | low != 0;
    if header.version_and_length != 0x45 || is_fragment {
        return Err(NOT_PLAIN);
    }
    let mapped = |octets| [0, 0, MAPPED, word(octets)];
    let addresses = (mapped(&header.source), mapped(&header.destination));
    read_transport(skb, AT + 20, header.protocol, addresses)
}

#[inline(always)]
fn read_v6<const AT: usize>(skb: *const __sk_buff) -> Result<Packet, Denied> {
    let header = unsafe { &*at::<Ipv6Header>(skb, AT).ok_or(NOT_PLAIN)? };
    let addresses = (whole(&header.source), whole(&header.destination));
    // A v4-mapped address is never on a wire (RFC 4291, section 2.5.5.2), and would be taken for IPv4.
    if header.version_and_flow[0] >> 4 != 6 || is_mapped(addresses.1) {
        return Err(NOT_PLAIN);
    }
    read_transport(skb, AT + 40, header.next_header, addresses)
}

#[inline(always)]
pub fn is_v4_mapped(address: &Address) -> bool {
    is_mapped(words(address))
}

#[inline(always)]
fn is_mapped([a, b, c, _]: Words) -> bool {
    a | b == 0 && c == MAPPED
}

/// Whether an address is on 127.0.0.0/8 or `::1`.
#[inline(always)]
pub fn is_loopback_address([a, b, c, d]: Words) -> bool {
    a | b == 0 && ((c == MAPPED && d.to_ne_bytes()[0] == 127) || (c == 0 && d == 1_u32.to_be()))
}

#[inline(always)]
pub fn words(address: &Address) -> Words {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

#[inline(always)]
fn address(words: Words) -> Address {
    // SAFETY: both are 16 octets without meaning of their own.
    unsafe { core::mem::transmute(words) }
}

/// The third word of a v4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

/// Four octets of a packet, by one load.
#[inline(always)]
fn word(octets: &[u8; 4]) -> u32 {
    // SAFETY: the kernel lets programs load words at any offset of a packet where its processor can; where it
    // cannot, it does not load the programs. To the compiler of this target, alignment is nothing else.
    unsafe { core::ptr::from_ref(octets).cast::<u32>().read() }
}

/// The same of a whole address.
#[inline(always)]
fn whole(octets: &Address) -> Words {
    let first = core::ptr::from_ref(octets).cast::<u32>();
    // SAFETY: as in `word`.
    let at = |index| unsafe { first.add(index).read() };
    [at(0), at(1), at(2), at(3)]
}

#[inline(always)]
fn read_transport(
    skb: *const __sk_buff,
    offset: usize,
    transport: u8,
    (from, to): (Words, Words),
) -> Result<Packet, Denied> {
    let (ports, opens, closes) = match transport {
        TCP => {
            let header = unsafe { &*at::<TcpHeader>(skb, offset).ok_or(NOT_PLAIN)? };
            let opens = header.flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            (header.ports, opens, header.flags & (TCP_FIN | TCP_RST) != 0)
        }
        UDP => (unsafe { *at::<Ports>(skb, offset).ok_or(NOT_PLAIN)? }, false, false),
        _ => return Err(NOT_PLAIN),
    };
    Ok(Packet {
        from,
        to,
        source_port: u16::from_be_bytes(ports.source),
        destination_port: u16::from_be_bytes(ports.destination),
        transport,
        opens,
        closes,
    })
}

/// A `T` at `offset` of the packet, if it is all there. `T` must have an alignment of 1.
#[inline(always)]
pub fn at<T>(skb: *const __sk_buff, offset: usize) -> Option<*const T> {
    let (start, end) = unsafe { ((*skb).data as usize, (*skb).data_end as usize) };
    if start + offset + size_of::<T>() > end {
        return None;
    }
    Some((start + offset) as *const T)
}
