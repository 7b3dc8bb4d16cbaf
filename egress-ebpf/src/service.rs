//! The daemon's own listeners, to which sockets of an agent are redirected.

use crate::{
    error::Denied,
    maps::{AGENTS, ORIGINS, SOCKET_COUNTS, Socket, add},
    packet::{Words, words},
};
use egress_common::{
    Address, AgentConfig, DropReason, MAX_SOCKETS_PER_AGENT, OriginKey, OriginValue, loopback_v4, loopback_v6,
};

/// A listener of the daemon. The numbers are bits of [`Socket::redirects`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Service {
    Dns = 1,
    Proxy = 2,
    Explicit = 4,
}

/// The listener of an agent that (`address`, `port`) is, if it is one.
#[inline(always)]
pub fn at(config: &AgentConfig, address: Words, port: u16) -> Option<Service> {
    let (dns, proxy, explicit) = if address == words(&loopback_v4()) {
        (config.dns_v4, config.proxy_v4, config.explicit_v4)
    } else if address == words(&loopback_v6()) {
        (config.dns_v6, config.proxy_v6, config.explicit_v6)
    } else {
        return None;
    };
    match port {
        0 => None,
        _ if port == dns => Some(Service::Dns),
        _ if port == proxy => Some(Service::Proxy),
        _ if port == explicit => Some(Service::Explicit),
        _ => None,
    }
}

/// The listeners of `agent`.
#[inline(always)]
pub fn config<'a>(agent: u32) -> Result<&'a AgentConfig, Denied> {
    unsafe { AGENTS.get(&agent) }.ok_or(Denied::because(DropReason::AgentUnknown))
}

/// Takes one of the agent's places for a socket that a listener is going to serve.
#[inline(always)]
pub fn claim(socket: &mut Socket, service: Service) -> Result<(), Denied> {
    claim_place(socket)?;
    socket.redirects |= service as u32;
    Ok(())
}

/// Takes one of the agent's places for a socket of which the maps hold more than the kernel frees.
#[inline(always)]
pub fn claim_place(socket: &mut Socket) -> Result<(), Denied> {
    if socket.counted == 0 {
        let full = Denied::because(DropReason::QuotaExceeded);
        let count = SOCKET_COUNTS.get_ptr_mut(&socket.agent).ok_or(full)?;
        if unsafe { *count } >= u64::from(MAX_SOCKETS_PER_AGENT) {
            return Err(full);
        }
        add(count, 1);
        socket.counted = 1;
    }
    Ok(())
}

/// Whether a UDP socket may be redirected to (`address`, `port`): its packets carry no mark of where they were
/// meant to go, so one of them that the proxy has seen holds the socket to that destination for ever. The
/// resolver takes packets for any.
#[inline(always)]
pub fn keeps_to_one(socket: &Socket, service: Service, address: &Address, port: u16) -> Result<(), Denied> {
    let went_to = |service: Service| socket.redirects & service as u32 != 0;
    let is_the_same = socket.original_port == port && socket.original_address == *address;
    if socket.has_origin == 0 || (service == Service::Dns && !went_to(Service::Proxy)) {
        return Ok(());
    }
    match service == Service::Proxy && !went_to(Service::Dns) && is_the_same {
        true => Ok(()),
        false => Err(Denied::because(DropReason::QuotaExceeded)),
    }
}

/// Writes down where the socket that is bound to (`address`, `port`) wanted to go, before the
/// listener can see its packet.
#[inline(always)]
pub fn note_origin(socket: &mut Socket, transport: u8, address: &Address, port: u16) -> Result<(), Denied> {
    let key = OriginKey { agent: socket.agent, port, transport, zero: 0, address: *address };
    if socket.has_origin == 1 && socket.origin != key {
        let _ = ORIGINS.remove(&socket.origin);
    }
    let value = OriginValue {
        pid: socket.pid,
        port: socket.original_port,
        zero: 0,
        address: socket.original_address,
        command: socket.command,
    };
    ORIGINS.insert(&key, &value, 0).map_err(|_| Denied::because(DropReason::QuotaExceeded))?;
    socket.origin = key;
    socket.has_origin = 1;
    Ok(())
}

/// Gives back what [`claim`] and [`note_origin`] took.
#[inline(always)]
pub fn release(socket: &mut Socket) {
    if socket.has_origin == 1 {
        let _ = ORIGINS.remove(&socket.origin);
        socket.has_origin = 0;
    }
    if socket.counted == 1 {
        if let Some(count) = SOCKET_COUNTS.get_ptr_mut(&socket.agent) {
            add(count, -1);
        }
        socket.counted = 0;
    }
}
