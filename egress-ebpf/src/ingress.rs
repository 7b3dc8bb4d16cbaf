//! Nothing new comes in, unless a network rule covers the agent's own loopback address.

use crate::{
    PASS, agent,
    egress::{is_loopback, socket_of},
    error::Denied,
    gate,
    maps::Socket,
    note,
    packet::{self, AT_START, Packet},
    report,
    service::{self, Service},
    verdict,
};
use aya_ebpf::programs::SkBuffContext;
use egress_common::{AgentConfig, DropReason, Hook, TCP};

/// Passes or drops one packet that is about to reach an agent's socket.
#[inline(always)]
pub fn judge(ctx: &SkBuffContext) -> i32 {
    let mut socket = socket_of(ctx);
    let agent = match agent::of_packet(ctx, socket.as_deref()) {
        Ok(agent) => agent,
        Err(denied) => return report::packet::<AT_START>(ctx.skb.skb, 0, None, Hook::Ingress, &denied),
    };
    let denied = match packet::read::<AT_START>(ctx.skb.skb) {
        Ok(packet) => match may_come(ctx, agent, socket.as_deref_mut(), &packet) {
            Ok(()) => {
                if let Some(socket) = socket.as_deref_mut()
                    && gate::is_under(socket)
                {
                    gate::answer::hear(ctx, socket, &packet);
                }
                return PASS;
            }
            Err(denied) => denied,
        },
        Err(denied) => denied,
    };
    report::packet::<AT_START>(ctx.skb.skb, agent, socket.as_deref(), Hook::Ingress, &denied)
}

#[inline(always)]
fn may_come(
    ctx: &SkBuffContext,
    agent: u32,
    socket: Option<&mut Socket>,
    packet: &Packet,
) -> Result<(), Denied> {
    if packet.transport == TCP {
        return match is_listening(ctx) {
            false => Ok(()),
            true => is_own_loopback(agent, packet),
        };
    }
    let (from, port) = (&packet.source(), packet.source_port);
    if let Some(Service::Dns | Service::Proxy) = service::at(service::config(agent)?, packet.from, port) {
        return Ok(());
    }
    if let Some(socket) = socket
        && note::carried(socket, packet.transport, packet.from, port).is_some()
    {
        return Ok(());
    }
    // An agent that is let out to be observed hears those that it speaks to, and nobody else.
    match verdict::enforced(agent, packet.transport, from, port, false) {
        Ok(_) => Ok(()),
        Err(_) => is_own_loopback(agent, packet),
    }
}

#[inline(always)]
fn is_own_loopback(agent: u32, packet: &Packet) -> Result<(), Denied> {
    let denied = Denied::because(DropReason::InboundNotAllowed);
    if !is_loopback(packet) {
        return Err(denied);
    }
    if service::config(agent)?.flags & AgentConfig::SEALED != 0 {
        return Ok(());
    }
    match verdict::judge(agent, packet.transport, &packet.destination(), packet.destination_port) {
        Ok(pass) if pass.is_direct() => Ok(()),
        Ok(_) | Err(_) => Err(denied),
    }
}

/// A SYN, and the ACK that answers a SYN cookie, reach the listener itself.
#[inline(always)]
fn is_listening(ctx: &SkBuffContext) -> bool {
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    // What cannot be told is taken for new.
    sk.is_null() || matches!(unsafe { (*sk).state }, TCP_LISTEN | TCP_NEW_SYN_RECV)
}

// include/net/tcp_states.h
const TCP_LISTEN: u32 = 10;
const TCP_NEW_SYN_RECV: u32 = 12;
