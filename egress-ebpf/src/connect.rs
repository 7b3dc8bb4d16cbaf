//! connect(2) and sendmsg(2): fast errors, redirection, and the name of the process.

use crate::{
    DENY, PASS, agent,
    budget::{self, Payers},
    error::Denied,
    gate,
    maps::{Socket, socket, socket_or_insert},
    note::{self, Flow},
    packet::{is_loopback_address, is_v4_mapped, words},
    report, service,
    service::Service,
    sockets::made_by_current,
    verdict,
};
use aya_ebpf::{EbpfContext, programs::SockAddrContext};
use egress_common::{
    Address, AgentConfig, DropReason, Gate, GateState, Hook, TCP, UDP, loopback_v4, loopback_v6, v4_mapped,
};

/// Which of the two hooks of a pair runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

const DNS_PORT: u16 = 53;

/// connect(2): the flow that the socket is going to carry.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    let destination = destination(ctx, family);
    match direct(ctx, family, &destination, Hook::Connect) {
        Ok(()) => PASS,
        Err((agent, denied)) => {
            report::address(agent, &destination, Hook::Connect, &denied);
            DENY
        }
    }
}

/// sendmsg(2) with a destination, on an unconnected UDP socket.
#[inline(always)]
pub fn send(ctx: &SockAddrContext, family: Family) -> i32 {
    let destination = destination(ctx, family);
    match direct(ctx, family, &destination, Hook::SendMessage) {
        Ok(()) => PASS,
        Err((agent, denied)) => {
            report::address(agent, &destination, Hook::SendMessage, &denied);
            DENY
        }
    }
}

/// recvmsg(2) and getpeername(2): the agent sees the address that it asked for.
#[inline(always)]
pub fn hide_redirect(ctx: &SockAddrContext, family: Family) {
    let Some(socket) = socket(sk(ctx)) else { return };
    let peer = destination(ctx, family);
    let Ok(config) = service::config(socket.agent) else { return };
    let Some(service) = service::at(config, words(&peer.address), peer.port) else { return };
    if service != Service::Explicit && socket.redirects & service as u32 != 0 && socket.original_port != 0 {
        rewrite(ctx, family, &socket.original_address, socket.original_port);
    }
}

/// Where a hook's caller wants to send.
pub struct Destination {
    pub address: Address,
    pub port: u16,
    pub transport: u8,
    pub family: u16,
}

/// Judges one destination, and redirects it where a listener of ours serves it.
#[inline(always)]
fn direct(ctx: &SockAddrContext, family: Family, to: &Destination, hook: Hook) -> Result<(), (u32, Denied)> {
    let socket = match socket(sk(ctx)) {
        Some(socket) => socket,
        None => noted(ctx)?,
    };
    choose(ctx, family, to, hook, socket).map_err(|denied| (socket.agent, denied))
}

/// Remembers a socket that nobody noted, as one that was there before the programs.
#[inline(always)]
fn noted<'a>(ctx: &SockAddrContext) -> Result<&'a mut Socket, (u32, Denied)> {
    let agent = agent::of_current().map_err(|denied| (0, denied))?;
    let mut first = made_by_current(agent);
    socket_or_insert(sk(ctx), &mut first).ok_or((agent, Denied::because(DropReason::QuotaExceeded)))
}

#[inline(always)]
fn choose(
    ctx: &SockAddrContext,
    family: Family,
    to: &Destination,
    hook: Hook,
    socket: &mut Socket,
) -> Result<(), Denied> {
    let agent = socket.agent;
    if hook == Hook::Connect {
        socket.gate = GateState::None as u16;
    }
    if to.transport != TCP && to.transport != UDP {
        return Err(Denied::because(DropReason::SocketTypeNotAllowed));
    }
    if to.port == DNS_PORT {
        return redirect(ctx, family, to, socket, Service::Dns);
    }
    let config = service::config(agent)?;
    // Read before it is judged: a reload may replace it meanwhile.
    let generation = config.generation;
    match service::at(config, words(&to.address), to.port) {
        Some(Service::Explicit) => {
            socket.original_port = 0;
            return service::claim(socket, Service::Explicit);
        }
        // Only who was sent there may speak to the others.
        Some(_) => return Err(Denied::because(DropReason::AddressNotGranted)),
        None if config.flags & AgentConfig::SEALED != 0 && is_loopback_address(words(&to.address)) => {
            return Ok(());
        }
        None => {}
    }
    let pass = match verdict::judge_start(agent, to.transport, &to.address, to.port, true) {
        Err(_) if hook == Hook::Connect && only_asks_for_a_route(agent, to) => return Ok(()),
        verdict => verdict?,
    };
    match pass.gate {
        Gate::Direct if hook == Hook::Connect && to.transport == TCP && budget::is_bounded(config) => {
            Payers::of(config, agent, pass.rule).take(0, 1)?;
        }
        Gate::Direct => {}
        Gate::Kernel if hook == Hook::Connect && may_name(config, to) => {
            gate::begin(ctx.as_ptr(), sk(ctx), socket)?
        }
        Gate::Kernel | Gate::Proxy => return redirect(ctx, family, to, socket, Service::Proxy),
    }
    if hook == Hook::Connect {
        // What is only observed is judged again, and reported, when its first packet leaves: a connect(2) of UDP
        // may only ask for a route.
        let is_observed = verdict::observed(config, agent, &pass).is_some();
        // Of a flow under the gate, its name says which rule it is.
        let is_named = !gate::is_under(socket);
        let flow = Flow {
            address: to.address,
            port: to.port,
            transport: to.transport,
            rule: pass.rule,
            generation: if is_observed { 0 } else { generation },
            budget: if is_named { budget::place_of(config, agent, pass.rule) } else { 0 },
        };
        note::carry(socket, &flow);
    }
    Ok(())
}

/// Whether the gate can judge the flow: not where frames could be made beside the agent's sockets.
#[inline(always)]
fn may_name(config: &AgentConfig, to: &Destination) -> bool {
    gate::is_there() && to.transport == TCP && config.flags & AgentConfig::RAW_FRAMES == 0
}

/// Resolver libraries connect UDP sockets to the addresses of an answer to learn which source
/// address each would get (RFC 6724, section 5). No packet leaves by that; one that is sent
/// later is judged as it leaves.
#[inline(always)]
fn only_asks_for_a_route(agent: u32, to: &Destination) -> bool {
    to.transport == UDP && (to.port == 0 || verdict::judge(agent, TCP, &to.address, to.port).is_ok())
}

#[inline(always)]
fn redirect(
    ctx: &SockAddrContext,
    family: Family,
    to: &Destination,
    socket: &mut Socket,
    service: Service,
) -> Result<(), Denied> {
    let config = service::config(socket.agent)?;
    let is_v4 = family == Family::V4 || is_v4_mapped(&to.address);
    let port = match (service, is_v4) {
        (Service::Dns, true) => config.dns_v4,
        (Service::Dns, false) => config.dns_v6,
        (_, true) => config.proxy_v4,
        (_, false) => config.proxy_v6,
    };
    if port == 0 {
        return Err(Denied::because(DropReason::AddressNotGranted));
    }
    if to.transport == UDP {
        service::keeps_to_one(socket, service, &to.address, to.port)?;
    }
    service::claim(socket, service)?;
    socket.original_address = to.address;
    socket.original_port = to.port;
    let address = if is_v4 { loopback_v4() } else { loopback_v6() };
    rewrite(ctx, family, &address, port);
    Ok(())
}

/// What the hook's context says, with `0.0.0.0` and `::` as what the kernel makes of them.
#[inline(always)]
fn destination(ctx: &SockAddrContext, family: Family) -> Destination {
    let addr = unsafe { &*ctx.sock_addr };
    let address = match family {
        Family::V4 => match addr.user_ip4 {
            0 => loopback_v4(),
            ip => v4_mapped(ip.to_ne_bytes()),
        },
        Family::V6 => v6_address(addr.user_ip6),
    };
    Destination {
        address,
        port: u16::from_be(addr.user_port as u16),
        transport: addr.protocol as u8,
        family: addr.family as u16,
    }
}

#[inline(always)]
fn v6_address(words: [u32; 4]) -> Address {
    if words == [0; 4] {
        return loopback_v6();
    }
    if words == [0, 0, 0xffff_u32.to_be(), 0] {
        return loopback_v4();
    }
    let mut address = [0; 16];
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    address[0..4].copy_from_slice(&a);
    address[4..8].copy_from_slice(&b);
    address[8..12].copy_from_slice(&c);
    address[12..16].copy_from_slice(&d);
    address
}

#[inline(always)]
fn rewrite(ctx: &SockAddrContext, family: Family, address: &Address, port: u16) {
    let addr = unsafe { &mut *ctx.sock_addr };
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    let last = u32::from_ne_bytes([m, n, o, p]);
    match family {
        Family::V4 => addr.user_ip4 = last,
        Family::V6 => {
            // One word at a time: the kernel refuses wider stores at some offsets.
            unsafe {
                core::ptr::write_volatile(&raw mut addr.user_ip6[0], u32::from_ne_bytes([a, b, c, d]));
                core::ptr::write_volatile(&raw mut addr.user_ip6[1], u32::from_ne_bytes([e, f, g, h]));
                core::ptr::write_volatile(&raw mut addr.user_ip6[2], u32::from_ne_bytes([i, j, k, l]));
                core::ptr::write_volatile(&raw mut addr.user_ip6[3], last);
            }
        }
    }
    addr.user_port = u32::from(port.to_be());
}

#[inline(always)]
fn sk(ctx: &SockAddrContext) -> *mut core::ffi::c_void {
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }.cast()
}
