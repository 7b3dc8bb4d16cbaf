//! Every frame of a sealed agent, at the host's end of its link: whatever made it, and from
//! whatever namespace, layer or device of the agent it comes.

use crate::{
    budget::{self, Payers},
    error::Denied,
    maps::{FLOWS, LINKS, NAMED_FLOWS},
    packet::{self, BEHIND_ETHERNET, Packet, words},
    report, service, verdict,
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_pull_data, programs::TcContext};
use egress_common::{
    AGENT_MAC, Address, AgentConfig, DropReason, FLOWS_PER_LINK, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, Gate,
    Hook, KnownFlow, LinkConfig, NamedFlowKey, OBSERVED, PLACES_PER_FLOW, TCP, UDP, v4_mapped,
};

/// Whether one frame may go on.
#[inline(always)]
pub fn judge(ctx: &TcContext) -> bool {
    let skb = ctx.skb.skb;
    let index = unsafe { (*skb).ifindex };
    // Headers that lie in pages are not seen by what follows; where that fails they are denied.
    unsafe { bpf_skb_pull_data(skb, (*skb).len.min(HEADERS)) };
    let link = unsafe { LINKS.get(&index) };
    if is_chatter(skb) {
        report::chatter(link.map_or(0, |link| link.agent));
        return false;
    }
    let Some(link) = link else {
        let denied = Denied::because(DropReason::AgentUnknown);
        report::packet::<BEHIND_ETHERNET>(skb, 0, None, Hook::Frame, &denied);
        return false;
    };
    match may_leave(skb, link) {
        Ok(()) => true,
        Err(denied) => {
            report::packet::<BEHIND_ETHERNET>(skb, link.agent, None, Hook::Frame, &denied);
            false
        }
    }
}

/// Octets of the longest headers that are read: Ethernet, IPv6, TCP.
const HEADERS: u32 = 14 + 40 + 20;

#[repr(C)]
struct EthernetHeader {
    destination: [u8; 6],
    source: [u8; 6],
    kind: [u8; 2],
}

#[inline(always)]
fn may_leave(skb: *const __sk_buff, link: &LinkConfig) -> Result<(), Denied> {
    let forged = Denied::because(DropReason::SourceForged);
    let not_plain = Denied::because(DropReason::PacketNotAllowed);
    let header = unsafe { &*packet::at::<EthernetHeader>(skb, 0).ok_or(not_plain)? };
    if header.source != AGENT_MAC {
        return Err(forged);
    }
    // A tag of a virtual network, which the kernel takes off before it looks at the EtherType.
    if unsafe { (*skb).vlan_present } != 0 {
        return Err(not_plain);
    }
    if asks_for_gateway(skb, link) {
        return Ok(());
    }
    if header.destination != GATEWAY_MAC {
        return Err(not_plain);
    }
    let packet = packet::read::<BEHIND_ETHERNET>(skb)?;
    if packet.source() != link.v4 && packet.source() != link.v6 {
        return Err(forged);
    }
    flow(skb, link, &packet)
}

/// A flow starts within its grant. One that is known outlives it, for as long as its rule is in
/// force and nothing took the grant away.
#[inline(always)]
fn flow(skb: *const __sk_buff, link: &LinkConfig, packet: &Packet) -> Result<(), Denied> {
    let (agent, to, port) = (link.agent, &packet.destination(), packet.destination_port);
    let config = service::config(agent)?;
    let generation = config.generation;
    let starts = packet.opens || packet.transport == UDP;
    match verdict::judge_start(agent, packet.transport, to, port, starts) {
        // Frames that went around the redirect of their socket were judged by no proxy, those that no socket
        // of the gate sends by no program; but a flow that named its server goes on.
        Ok(pass) if !pass.is_direct() && !has_named(skb, link, packet, pass.gate) => {
            let denied = Denied::because(DropReason::AddressNotGranted);
            // A flow that was let out before a name earned its address goes on.
            let known = find(link, packet).filter(|known| known.rule == OBSERVED).ok_or(denied)?;
            verdict::judge_again(agent, packet.transport, to, port, OBSERVED)?;
            known.generation = generation;
            pays(skb, config, link, packet, OBSERVED)
        }
        Ok(pass) => {
            if config.flags & AgentConfig::RAW_FRAMES != 0
                && let Some(observed) = verdict::observed(config, agent, &pass)
                && find(link, packet).is_none_or(|known| known.rule != pass.rule)
            {
                report::observed::<BEHIND_ETHERNET>(skb, agent, None, Hook::Frame, &observed);
            }
            pays(skb, config, link, packet, pass.rule)?;
            remember(link, packet, pass.rule, generation);
            Ok(())
        }
        Err(denied) if denied.reason as u32 == DropReason::GrantExpired as u32 && !packet.opens => {
            let gate = verdict::gate(agent, packet.transport, to, port);
            if gate as u16 != Gate::Direct as u16 && !has_named(skb, link, packet, gate) {
                return Err(denied);
            }
            let known = find(link, packet).ok_or(denied)?;
            if known.generation != generation {
                known.rule = verdict::judge_again(agent, packet.transport, to, port, known.rule)?.rule;
                known.generation = generation;
            }
            pays(skb, config, link, packet, known.rule)
        }
        Err(denied) => Err(denied),
    }
}

/// Takes what a frame uses up, of an agent that makes frames beside its sockets. Who writes a frame chooses what
/// its headers say: they count, and each segment that opens a flow of TCP is a flow, be it sent again.
#[inline(always)]
fn pays(
    skb: *const __sk_buff,
    config: &AgentConfig,
    link: &LinkConfig,
    packet: &Packet,
    rule: u32,
) -> Result<(), Denied> {
    if !budget::is_counted_at_link(config) {
        return Ok(());
    }
    let begins = packet.opens || (packet.transport == UDP && find(link, packet).is_none());
    let octets = packet::octets::<BEHIND_ETHERNET>(skb);
    Payers::at_link(config, link.agent, rule).take(u64::from(octets), u64::from(begins))
}

/// Whether a frame of a flow that must name its server may pass: of one that has named it, or without
/// payload.
#[inline(always)]
fn has_named(skb: *const __sk_buff, link: &LinkConfig, packet: &Packet, gate: Gate) -> bool {
    if packet.transport != TCP {
        return false;
    }
    let Some(segment) = packet::segment::<BEHIND_ETHERNET>(skb) else { return false };
    if segment.length == 0 {
        let is_for_proxy = gate as u16 != Gate::Kernel as u16;
        return !is_for_proxy || (!packet.opens && find(link, packet).is_some());
    }
    let key = NamedFlowKey {
        agent: link.agent,
        source_port: packet.source_port,
        port: packet.destination_port,
        source: packet.source(),
        address: packet.destination(),
    };
    unsafe { NAMED_FLOWS.get(&key) }.is_some()
}

/// Writes down a flow that a live grant covers. Of TCP its first segment does that: what follows the
/// last one would write it down again.
#[inline(always)]
fn remember(link: &LinkConfig, packet: &Packet, rule: u32, generation: u32) {
    if let Some(known) = find(link, packet) {
        known.rule = rule;
        known.generation = generation;
        known.closing = u32::from(packet.closes || (known.closing == 1 && !packet.opens));
    } else if (packet.opens || packet.transport != TCP)
        && let Some(place) = free_place(link, packet)
    {
        *place = KnownFlow {
            destination: packet.destination(),
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            transport: u32::from(packet.transport),
            agent: link.agent,
            rule,
            generation,
            closing: 0,
        };
    }
}

/// The place of a flow, if it has one.
#[inline(always)]
fn find<'a>(link: &LinkConfig, packet: &Packet) -> Option<&'a mut KnownFlow> {
    let first = first_place(link, packet);
    for number in 0..PLACES_PER_FLOW {
        let known = unsafe { &mut *FLOWS.get_ptr_mut(first + number)? };
        let is_it = known.agent == link.agent
            && known.rule != 0
            && known.source_port == packet.source_port
            && known.destination_port == packet.destination_port
            && known.transport == u32::from(packet.transport)
            && words(&known.destination) == packet.to;
        if is_it {
            return Some(known);
        }
    }
    None
}

/// The place that a flow takes: one that nobody has, or whose flow ends; else that of another.
#[inline(always)]
fn free_place<'a>(link: &LinkConfig, packet: &Packet) -> Option<&'a mut KnownFlow> {
    let first = first_place(link, packet);
    for number in 0..PLACES_PER_FLOW {
        let known = unsafe { &mut *FLOWS.get_ptr_mut(first + number)? };
        if known.agent != link.agent || known.rule == 0 || known.closing == 1 {
            return Some(known);
        }
    }
    let number = u32::from(packet.source_port) % PLACES_PER_FLOW;
    FLOWS.get_ptr_mut(first + number).map(|place| unsafe { &mut *place })
}

/// The first place in [`FLOWS`] at which a flow may be known. Which flows share it does not matter:
/// each place names the flow that has it.
#[inline(always)]
fn first_place(link: &LinkConfig, packet: &Packet) -> u32 {
    let [.., a, b, c, d] = packet.destination();
    let mut hash = u32::from_be_bytes([a, b, c, d]);
    hash ^= u32::from(packet.source_port) << 16 | u32::from(packet.destination_port);
    hash ^= u32::from(packet.transport == TCP);
    // Multiplicative hashing: the upper bits are the well mixed ones.
    hash = hash.wrapping_mul(0x9e37_79b1) >> 16;
    link.slot * FLOWS_PER_LINK + hash % (FLOWS_PER_LINK / PLACES_PER_FLOW) * PLACES_PER_FLOW
}

#[repr(C)]
struct ArpPacket {
    kinds_and_lengths: [u8; 6],
    operation: [u8; 2],
    sender_mac: [u8; 6],
    sender: [u8; 4],
    destination_mac: [u8; 6],
    destination: [u8; 4],
}

/// Ethernet and IPv4, 6 and 4 octets long (RFC 826).
const ARP_OF_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ETH_P_ARP: u16 = 0x0806;

#[repr(C)]
struct NeighbourMessage {
    version_and_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: Address,
    destination: Address,
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    flags: [u8; 4],
    target: Address,
}

/// Where `fe80::1` is asked for: its solicited-node address (RFC 4291, section 2.7.1).
const GATEWAY_GROUP: Address = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1];

const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Whether a frame asks for the gateway's Ethernet address, or answers the gateway with the agent's
/// own: ARP (RFC 826) and neighbour discovery (RFC 4861, sections 4.3 and 4.4).
#[inline(always)]
fn asks_for_gateway(skb: *const __sk_buff, link: &LinkConfig) -> bool {
    match packet::ether_type(skb) {
        ETH_P_ARP => match packet::at::<ArpPacket>(skb, BEHIND_ETHERNET) {
            Some(arp) => {
                let arp = unsafe { &*arp };
                arp.kinds_and_lengths == ARP_OF_IPV4
                    && arp.operation[0] == 0
                    && (arp.operation[1] == 1 || arp.operation[1] == 2)
                    && arp.sender_mac == AGENT_MAC
                    && v4_mapped(arp.sender) == link.v4
                    && arp.destination == GATEWAY_V4
            }
            None => false,
        },
        packet::ETH_P_IPV6 => match packet::at::<NeighbourMessage>(skb, BEHIND_ETHERNET) {
            Some(message) => {
                let message = unsafe { &*message };
                message.version_and_flow[0] >> 4 == 6
                    && message.next_header == ICMPV6
                    && message.hop_limit == 255
                    && message.source == link.v6
                    && message.code == 0
                    // The message, and at most the option with an Ethernet address.
                    && (message.payload_length == [0, 24] || message.payload_length == [0, 32])
                    && match message.kind {
                        NEIGHBOUR_SOLICITATION => {
                            message.target == GATEWAY_V6
                                && (message.destination == GATEWAY_V6 || message.destination == GATEWAY_GROUP)
                        }
                        NEIGHBOUR_ADVERTISEMENT => {
                            message.target == link.v6 && message.destination == GATEWAY_V6
                        }
                        _ => false,
                    }
            }
            None => false,
        },
        _ => false,
    }
}

/// Whether a frame is what a kernel sends by itself when a link or an address comes up: ICMPv6, maybe
/// behind the hop-by-hop header of a membership report, from no address yet or to a group of the
/// link (RFC 4291, section 2.7). It is dropped and counted; nobody asked for it.
#[inline(always)]
fn is_chatter(skb: *const __sk_buff) -> bool {
    if packet::ether_type(skb) != packet::ETH_P_IPV6 {
        return false;
    }
    match packet::at::<NeighbourMessage>(skb, BEHIND_ETHERNET) {
        Some(message) => {
            let message = unsafe { &*message };
            let is_icmp = message.next_header == ICMPV6 || message.next_header == 0;
            let is_for_gateway = message.next_header == ICMPV6 && message.target == GATEWAY_V6;
            is_icmp && message.destination[0] == 0xff && message.destination[1] == 2 && !is_for_gateway
        }
        None => false,
    }
}
