//! The authority: it judges the packet as it will leave.

use crate::{
    DENY, PASS, agent,
    budget::{self, Payers},
    error::Denied,
    gate,
    maps::{Socket, socket},
    note::{self, Carried, Flow},
    packet::{self, AT_START, Packet, is_loopback_address},
    report,
    service::{self, Service},
    verdict::{self, Pass},
};
use aya_ebpf::{helpers::generated::bpf_sk_fullsock, programs::SkBuffContext};
use egress_common::{AgentConfig, DropReason, Hook, TCP, UDP};

/// Passes or drops one packet of an agent's socket.
#[inline(always)]
pub fn judge(ctx: &SkBuffContext) -> i32 {
    let mut socket = socket_of(ctx);
    let agent = match agent::of_packet(ctx, socket.as_deref()) {
        Ok(agent) => agent,
        Err(denied) => return report::packet::<AT_START>(ctx.skb.skb, 0, None, Hook::Egress, &denied),
    };
    let denied = match packet::read::<AT_START>(ctx.skb.skb) {
        // A socket chooses its device: what is for this host must not be put on a wire.
        Ok(packet) if is_loopback_address(packet.to) && !leaves_by_loopback(ctx) => {
            Denied::because(DropReason::PacketNotAllowed)
        }
        Ok(packet) if stays_inside(ctx, agent, &packet) => return PASS,
        Ok(packet) => match may_leave(ctx, agent, socket.as_deref_mut(), &packet) {
            Ok(true) => return PASS,
            Ok(false) => return DENY,
            Err(denied) => denied,
        },
        Err(denied) => denied,
    };
    report::packet::<AT_START>(ctx.skb.skb, agent, socket.as_deref(), Hook::Egress, &denied)
}

/// What is known of the full socket that a packet belongs to.
#[inline(always)]
pub fn socket_of<'a>(ctx: &SkBuffContext) -> Option<&'a mut Socket> {
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    let full = unsafe { bpf_sk_fullsock(sk) };
    if full.is_null() {
        return None;
    }
    socket(full.cast())
}

/// Whether both ends of a packet are on 127.0.0.0/8 or `::1`.
#[inline(always)]
pub fn is_loopback(packet: &Packet) -> bool {
    is_loopback_address(packet.from) && is_loopback_address(packet.to)
}

/// False if it may not yet, or was reported already.
#[inline(always)]
fn may_leave(
    ctx: &SkBuffContext,
    agent: u32,
    mut socket: Option<&mut Socket>,
    packet: &Packet,
) -> Result<bool, Denied> {
    let (to, port) = (&packet.destination(), packet.destination_port);
    if let Some(socket) = socket.as_deref_mut() {
        let config = service::config(agent)?;
        if let Some(service) = service::at(config, packet.to, port) {
            return to_service(socket, service, packet).map(|()| true);
        }
        if let Some(mut flow) = note::carried(socket, packet.transport, packet.to, port) {
            // Read once: a reload may replace it between the judgement and the note of it.
            let generation = config.generation;
            if flow.generation != generation {
                let rule = gate::segment::judge_again(ctx, socket, flow.rule)?;
                let pass = verdict::judge_again(agent, packet.transport, to, port, rule)?;
                if let Some(denied) = pass.observed()
                    && (flow.generation == 0 || rule != pass.rule)
                {
                    tell(ctx, config, Some(socket), agent, &denied);
                }
                let budget = budget::place_of(config, agent, pass.rule);
                flow = flow.renewed(socket, pass.rule, generation, budget);
            }
            if gate::is_under(socket) && !gate::segment::may_leave(ctx, socket, packet) {
                return Ok(false);
            }
            return if budget::is_bounded(config) {
                pays(ctx, config, socket, &flow, packet)
            } else {
                Ok(true)
            };
        }
    }
    match verdict::judge(agent, packet.transport, to, port) {
        Ok(pass) if pass.is_direct() => {
            let config = service::config(agent)?;
            note(ctx, config, agent, socket, packet, &pass);
            if budget::is_bounded(config) {
                // Looked up again: the kernel follows no pointer for so long.
                let payers = Payers::of(config, agent, pass.rule);
                budget::pay(ctx.skb.skb, payers, socket_of(ctx), packet)?;
            }
            Ok(true)
        }
        // A socket that was not redirected, nor put under the gate, may not speak to an address whose flows
        // must name their server.
        Ok(_) => answers_allowed(agent, packet, Denied::because(DropReason::AddressNotGranted)),
        Err(denied) => answers_allowed(agent, packet, denied),
    }
}

/// Reports a packet that is only observed, and has its socket remember the flow, so that this is told once.
#[inline(always)]
fn note(
    ctx: &SkBuffContext,
    config: &AgentConfig,
    agent: u32,
    socket: Option<&mut Socket>,
    packet: &Packet,
    pass: &Pass,
) {
    let Some(denied) = verdict::observed(config, agent, pass) else { return };
    match socket {
        Some(socket) => {
            tell(ctx, config, Some(socket), agent, &denied);
            let flow = Flow {
                address: packet.destination(),
                port: packet.destination_port,
                transport: packet.transport,
                rule: pass.rule,
                generation: config.generation,
                budget: budget::place_of(config, agent, pass.rule),
            };
            note::carry(socket, &flow);
        }
        // What the kernel sends after a socket is gone belongs to a flow that was told.
        None if packet.transport == TCP && !packet.opens => {}
        None => tell(ctx, config, None, agent, &denied),
    }
}

/// Frames of an agent that makes its own are reported where all of them are met.
#[inline(always)]
fn tell(ctx: &SkBuffContext, config: &AgentConfig, socket: Option<&Socket>, agent: u32, denied: &Denied) {
    if config.flags & AgentConfig::RAW_FRAMES == 0 {
        report::observed::<AT_START>(ctx.skb.skb, agent, socket, Hook::Egress, denied);
    }
}

/// Takes what a packet of the flow that `socket` carries uses up. False where that is not there: a flow of
/// TCP is cut then, and that was reported, once.
#[inline(always)]
fn pays(
    ctx: &SkBuffContext,
    config: &AgentConfig,
    socket: &mut Socket,
    flow: &Carried,
    packet: &Packet,
) -> Result<bool, Denied> {
    let payers = Payers::known(config, flow);
    // What says nothing may end it.
    if socket.is_cut == 1 && packet::payload::<AT_START>(ctx.skb.skb, packet) != 0 {
        return Ok(false);
    }
    let denied = match budget::pay(ctx.skb.skb, payers, Some(socket), packet) {
        Ok(()) => return Ok(true),
        Err(denied) => denied,
    };
    if packet.transport != TCP {
        return Err(denied);
    }
    if socket.is_cut == 0 {
        socket.is_cut = 1;
        report::cut(ctx, socket, packet, &denied);
    }
    Ok(false)
}

/// Whether a packet goes from a sealed agent to itself, and not to a listener of ours: in a network
/// namespace of its own, what leaves by loopback reaches nobody else.
#[inline(always)]
fn stays_inside(ctx: &SkBuffContext, agent: u32, packet: &Packet) -> bool {
    if !leaves_by_loopback(ctx) {
        return false;
    }
    let Ok(config) = service::config(agent) else { return false };
    config.flags & AgentConfig::SEALED != 0
        && service::at(config, packet.to, packet.destination_port).is_none()
}

#[inline(always)]
fn to_service(socket: &mut Socket, service: Service, packet: &Packet) -> Result<(), Denied> {
    if socket.redirects & service as u32 == 0 {
        return Err(Denied::because(DropReason::AddressNotGranted));
    }
    if packet.opens || packet.transport == UDP {
        return service::note_origin(socket, packet.transport, &packet.source(), packet.source_port);
    }
    Ok(())
}

/// A listener of the agent may answer over loopback where a network rule covers its own address.
#[inline(always)]
fn answers_allowed(agent: u32, packet: &Packet, denied: Denied) -> Result<bool, Denied> {
    if packet.transport != TCP || packet.opens || !is_loopback(packet) {
        return Err(denied);
    }
    match verdict::judge(agent, TCP, &packet.source(), packet.source_port) {
        Ok(pass) if pass.is_direct() => Ok(true),
        Ok(_) | Err(_) => Err(denied),
    }
}

/// The loopback device is the first of every network namespace (net/core/dev.c, LOOPBACK_IFINDEX).
#[inline(always)]
fn leaves_by_loopback(ctx: &SkBuffContext) -> bool {
    unsafe { (*ctx.skb.skb).ifindex == 1 }
}
