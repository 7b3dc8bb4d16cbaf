//! What a socket remembers of its flows, read and written whole: datagrams leave a socket on several processors
//! at once, and while it connects elsewhere. Half of one destination and half of another is none that was judged.

use crate::{
    maps::{Socket, fetch_add, replace},
    packet::{Packet, Words, words},
};
use core::ptr;
use egress_common::{Address, UDP};

/// The direct flow that a socket carries.
#[derive(Clone, Copy)]
pub struct Carried {
    pub rule: u32,
    /// The policy by which it was judged last; 0 if it is to be judged again and reported.
    pub generation: u32,
    /// The place of the budget of `rule`, or 0.
    pub budget: u32,
    version: u64,
}

/// The flow of `socket`, if it is the one to (`address`, `port`).
#[inline(always)]
pub fn carried(socket: &mut Socket, transport: u8, address: Words, port: u16) -> Option<Carried> {
    if socket.flow_rule == 0 || socket.flow_transport != u32::from(transport) {
        return None;
    }
    let place = &raw mut socket.flow_version;
    let version = begin(place, transport);
    if socket.flow_port != port || words(&socket.flow_address) != address {
        return None;
    }
    let (rule, generation, budget) = (socket.flow_rule, socket.flow_generation, socket.flow_budget);
    let is_flow = rule != 0 && is_whole(place, transport, version);
    is_flow.then_some(Carried { rule, generation, budget, version })
}

/// What [`carry`] writes down.
pub struct Flow {
    pub address: Address,
    pub port: u16,
    pub transport: u8,
    pub rule: u32,
    pub generation: u32,
    pub budget: u32,
}

/// Has `socket` remember a flow. Where something else writes at this moment nothing is remembered: then each
/// packet is judged by itself.
#[inline(always)]
pub fn carry(socket: &mut Socket, flow: &Flow) {
    let place = &raw mut socket.flow_version;
    if !take_turn(place, unsafe { ptr::read_volatile(place) }) {
        return;
    }
    socket.flow_address = flow.address;
    socket.flow_port = flow.port;
    socket.flow_transport = u32::from(flow.transport);
    socket.flow_rule = flow.rule;
    socket.flow_generation = flow.generation;
    socket.flow_budget = flow.budget;
    socket.is_cut = 0;
    fetch_add(place, 1);
}

impl Carried {
    /// The same flow, judged again by the policy `generation` to be of `rule`. `socket` remembers that, unless it
    /// carries another one by now.
    #[inline(always)]
    pub fn renewed(self, socket: &mut Socket, rule: u32, generation: u32, budget: u32) -> Self {
        renew(socket, self.version, rule, generation, budget);
        Self { rule, generation, budget, ..self }
    }
}

/// A function of its own, for the sake of its callers' stacks.
#[inline(never)]
fn renew(socket: &mut Socket, version: u64, rule: u32, generation: u32, budget: u32) {
    let place = &raw mut socket.flow_version;
    if take_turn(place, version) {
        socket.flow_rule = rule;
        socket.flow_generation = generation;
        socket.flow_budget = budget;
        fetch_add(place, 1);
    }
}

/// Whether the last datagram for which `socket` used up a flow went where `packet` goes.
#[inline(always)]
pub fn has_paid(socket: &mut Socket, packet: &Packet) -> bool {
    let place = &raw mut socket.paid_version;
    let version = begin(place, UDP);
    socket.paid_port == u32::from(packet.destination_port)
        && words(&socket.paid_address) == packet.to
        && is_whole(place, UDP, version)
}

/// Has `socket` remember that it used up a flow for `packet`; not where something else writes at this moment.
#[inline(always)]
pub fn pay(socket: &mut Socket, packet: &Packet) {
    let place = &raw mut socket.paid_version;
    if take_turn(place, unsafe { ptr::read_volatile(place) }) {
        socket.paid_address = packet.destination();
        socket.paid_port = u32::from(packet.destination_port);
        fetch_add(place, 1);
    }
}

/// The version that what is read from here on is of. Who sends by TCP holds the socket's lock, and so does who
/// connects: nothing is written meanwhile.
#[inline(always)]
fn begin(version: *mut u64, transport: u8) -> u64 {
    match transport {
        // Atomic, so that no processor reads anything sooner.
        UDP => fetch_add(version, 0),
        _ => unsafe { ptr::read_volatile(version) },
    }
}

/// Whether all that was read since [`begin`] is of one version.
#[inline(always)]
fn is_whole(version: *mut u64, transport: u8, begun: u64) -> bool {
    transport != UDP || (begun & WRITING == 0 && fetch_add(version, 0) == begun)
}

/// Begins to write, where nobody else does and nothing was written since `version`.
#[inline(always)]
fn take_turn(place: *mut u64, version: u64) -> bool {
    version & WRITING == 0 && replace(place, version, version + 1)
}

/// Set in a version while somebody writes.
const WRITING: u64 = 1;
