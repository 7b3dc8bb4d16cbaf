//! What the daemon is told of a denial: an exact counter, and an event while there is room. Of a flow that is
//! only observed there is no counter, but one for events that found no room.

use crate::{
    DENY, agent,
    connect::Destination,
    error::Denied,
    lsm,
    maps::{COUNTERS, EVENTS, Socket, add},
    packet::{self, Packet},
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid,
        generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns},
    },
    programs::{SkBuffContext, SockContext, SockoptContext},
};
use egress_common::{Address, CounterKey, CutEvent, Device, DropReason, Event, Hook, LOST_EVENTS};

/// A socket that may not be made.
#[inline(always)]
pub fn socket(ctx: &SockContext, denied: &Denied) -> i32 {
    let sock = unsafe { &*ctx.sock };
    let (pid, command) = current();
    let what = What { protocol: sock.protocol as u8, family: sock.family as u16, port: 0, address: [0; 16] };
    submit(agent::of_current().unwrap_or(0), pid, command, Hook::SocketCreate, what, denied);
    DENY
}

/// An option that may not be set.
#[inline(always)]
pub fn option(ctx: &SockoptContext, denied: &Denied) -> i32 {
    let option = unsafe { &*ctx.sockopt };
    let (pid, command) = current();
    // The option's number stands where a port would.
    let what =
        What { protocol: option.level as u8, family: 0, port: option.optname as u16, address: [0; 16] };
    submit(agent::of_current().unwrap_or(0), pid, command, Hook::SetSocketOption, what, denied);
    DENY
}

/// A destination that may not be reached.
#[inline(always)]
pub fn address(agent: u32, to: &Destination, hook: Hook, denied: &Denied) {
    let (pid, command) = current();
    let what = What { protocol: to.transport, family: to.family, port: to.port, address: to.address };
    submit(agent, pid, command, hook, what, denied);
}

/// A packet that is dropped.
#[inline(always)]
pub fn packet<const AT: usize>(
    skb: *const __sk_buff,
    agent: u32,
    socket: Option<&Socket>,
    hook: Hook,
    denied: &Denied,
) -> i32 {
    let (pid, command) = owner(socket);
    let what = what_of::<AT>(skb, hook);
    submit(agent, pid, command, hook, what, denied);
    DENY
}

/// A flow whose packet is let out although it is `denied`.
#[inline(always)]
pub fn observed<const AT: usize>(
    skb: *const __sk_buff,
    agent: u32,
    socket: Option<&Socket>,
    hook: Hook,
    denied: &Denied,
) {
    let (pid, command) = owner(socket);
    send(agent, pid, command, hook, what_of::<AT>(skb, hook), denied, 1);
}

#[inline(always)]
fn owner(socket: Option<&Socket>) -> (u32, [u8; 16]) {
    match socket {
        Some(socket) => (socket.pid, socket.command),
        None => (0, [0; 16]),
    }
}

/// What a packet says of its flow.
#[inline(always)]
fn what_of<const AT: usize>(skb: *const __sk_buff, hook: Hook) -> What {
    let family = packet::family(skb);
    match packet::read::<AT>(skb) {
        Ok(packet) if hook == Hook::Ingress => {
            What { protocol: packet.transport, family, port: packet.source_port, address: packet.source() }
        }
        Ok(packet) => What {
            protocol: packet.transport,
            family,
            port: packet.destination_port,
            address: packet.destination(),
        },
        // A frame that is not IP: its EtherType stands where a port would.
        Err(_) if family == 0 => {
            What { protocol: 0, family, port: packet::ether_type(skb), address: [0; 16] }
        }
        Err(_) => What {
            protocol: packet::protocol::<AT>(skb),
            family,
            port: 0,
            address: packet::destination::<AT>(skb),
        },
    }
}

/// A flow of TCP that is cut, so that whoever waits for it hears of that.
#[inline(always)]
pub fn cut(ctx: &SkBuffContext, socket: &Socket, packet: &Packet, denied: &Denied) {
    count(socket.agent, denied.reason as u32);
    let Some(mut slot) = EVENTS.reserve::<CutEvent>(0) else { return count(socket.agent, LOST_EVENTS) };
    slot.write(CutEvent {
        event: Event {
            time: unsafe { bpf_ktime_get_boot_ns() },
            agent: socket.agent,
            pid: socket.pid,
            reason: denied.reason as u32,
            rule: denied.rule,
            port: packet.destination_port,
            protocol: packet.transport,
            hook: Hook::Egress as u8,
            family: packet::family(ctx.skb.skb),
            observed: 0,
            address: packet.destination(),
            command: socket.command,
        },
        cookie: unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) },
        source: packet.source(),
        source_port: packet.source_port,
        zero: [0; 3],
    });
    slot.submit(0);
}

/// A socket of another family that may not be made.
#[inline(always)]
pub fn family(asked: &lsm::Asked, denied: &Denied) -> i32 {
    let what = What { protocol: asked.protocol, family: asked.family, port: 0, address: [0; 16] };
    process(Hook::SocketCreate, what, denied)
}

/// An abstract Unix socket that may not be spoken to.
#[inline(always)]
pub fn unix(name: lsm::UnixName, hook: Hook, denied: &Denied) -> i32 {
    // 1 in place of a port: the name is abstract.
    let port = u16::from(name.is_abstract);
    process(hook, What { protocol: 0, family: AF_UNIX, port, address: name.octets }, denied)
}

/// A device that may not be used.
#[inline(always)]
pub fn device(device: Device, denied: &Denied) -> i32 {
    process(Hook::Device, What { protocol: 0, family: 0, port: 0, address: device.to_address() }, denied)
}

/// A system call that no agent may use.
#[inline(always)]
pub fn system_call(hook: Hook) -> i32 {
    let denied = match agent::of_current() {
        Ok(_) => Denied::because(DropReason::SystemCallNotAllowed),
        Err(unknown) => unknown,
    };
    process(hook, What { protocol: 0, family: 0, port: 0, address: [0; 16] }, &denied)
}

/// What the process that runs is denied.
#[inline(always)]
fn process(hook: Hook, what: What, denied: &Denied) -> i32 {
    let (pid, command) = current();
    submit(agent::of_current().unwrap_or(0), pid, command, hook, what, denied);
    DENY
}

/// include/linux/socket.h.
const AF_UNIX: u16 = 1;

struct What {
    protocol: u8,
    family: u16,
    port: u16,
    address: Address,
}

#[inline(always)]
fn current() -> (u32, [u8; 16]) {
    ((bpf_get_current_pid_tgid() >> 32) as u32, bpf_get_current_comm().unwrap_or([0; 16]))
}

#[inline(always)]
fn submit(agent: u32, pid: u32, command: [u8; 16], hook: Hook, what: What, denied: &Denied) {
    count(agent, denied.reason as u32);
    send(agent, pid, command, hook, what, denied, 0);
}

#[inline(always)]
fn send(agent: u32, pid: u32, command: [u8; 16], hook: Hook, what: What, denied: &Denied, observed: u16) {
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else { return count(agent, LOST_EVENTS) };
    slot.write(Event {
        time: unsafe { bpf_ktime_get_boot_ns() },
        agent,
        pid,
        reason: denied.reason as u32,
        rule: denied.rule,
        port: what.port,
        protocol: what.protocol,
        hook: hook as u8,
        family: what.family,
        observed,
        address: what.address,
        command,
    });
    slot.submit(0);
}

/// A frame that is dropped without an event: link-local chatter that the kernel makes by itself.
#[inline(always)]
pub fn chatter(agent: u32) {
    count(agent, DropReason::PacketNotAllowed as u32);
}

#[inline(always)]
pub fn count(agent: u32, reason: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(&CounterKey { agent, reason }) {
        add(counter, 1);
    }
}
