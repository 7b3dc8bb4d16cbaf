//! Denials of the kernel programs, on their way to the audit log.

use super::{
    canary::CANARY,
    fence::process,
    tables::{address, command},
};
use crate::{
    audit::{Event, Gate, Recorder, Spoken, Verdict},
    policy::{Agent, AgentId, AgentName, Destination, Protocol, Reason},
};
use aya::maps::{MapData, RingBuf};
use egress_common::{DropReason, Hook};
use std::{io, sync::Arc};
use tokio::io::{Interest, unix::AsyncFd};

/// Finds the agents that events name by number.
pub trait Names: Send + Sync {
    fn agent(&self, id: AgentId) -> Option<Arc<Agent>>;
}

/// Hands every denial of the ring buffer to `recorder`, until it is dropped.
///
/// # Errors
/// The ring buffer cannot be polled.
pub async fn report(ring: RingBuf<MapData>, agents: Arc<dyn Names>, recorder: Recorder) -> io::Result<()> {
    // SAFETY: the ring buffer owns its descriptor, and keeps it for as long as the AsyncFd keeps
    // the ring buffer.
    let mut ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
    loop {
        let mut guard = ring.readable_mut().await?;
        let ring = guard.get_inner_mut();
        let mut taken = 0;
        while taken < BATCH
            && let Some(item) = ring.next()
        {
            taken += 1;
            // What the canary is denied is no agent's doing.
            if let Some(raw) = read(&item).filter(|raw| raw.agent != CANARY.0) {
                let agent = agents.agent(AgentId(raw.agent));
                recorder.record(event(agent.as_deref(), &raw));
            }
        }
        if taken < BATCH {
            guard.clear_ready();
        } else {
            // A flood of denials must not keep this thread from whoever else waits for it.
            tokio::task::yield_now().await;
        }
    }
}

/// Events that are taken before others have their turn.
const BATCH: usize = 64;

/// The event in a ring buffer item; None if it is not one of ours.
fn read(item: &[u8]) -> Option<egress_common::Event> {
    if item.len() < size_of::<egress_common::Event>() {
        return None;
    }
    // SAFETY: there are enough octets, the type is plain old data, and the read is unaligned.
    Some(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) })
}

/// `agent` is None for a cgroup below ours that no agent has: its daemon forgot it, or never knew.
fn event(agent: Option<&Agent>, raw: &egress_common::Event) -> Event {
    let hook = Hook::from_code(raw.hook);
    let denied = DropReason::from_code(raw.reason);
    let has_address = raw.address != [0; 16];
    let is_option = hook == Some(Hook::SetSocketOption);
    let is_alien_frame = hook == Some(Hook::Frame) && raw.family == 0;
    let policy = agent.map(Agent::policy).unwrap_or_default();
    let rule = policy.deny().iter().chain(policy.allow()).find(|rule| rule.id.0 == raw.rule && raw.rule != 0);
    let wire = has_address.then(|| address(raw.address));
    let name = wire.zip(agent).and_then(|(wire, agent)| agent.name_granted_at(wire));
    Event {
        agent: agent.map_or_else(AgentName::unknown, |agent| agent.name().clone()),
        verdict: Verdict::Deny,
        gate: Gate::Address,
        process: (raw.pid != 0).then(|| process(raw.pid, command(raw.command))),
        destination: name.map(Destination::Name).or(wire.map(Destination::Address)),
        address: wire,
        port: (raw.port != 0 && !is_option && !is_alien_frame).then_some(raw.port),
        protocol: spoken(raw),
        reason: Some(denied.map_or(Reason::PacketNotAllowed, reason)),
        rule: rule.map(|rule| rule.source.clone()),
        detail: match (is_option, is_alien_frame) {
            (true, _) => Some(format!("socket option {} of level {}", raw.port, raw.protocol)),
            (_, true) => Some(format!("frame of EtherType {:#06x}", raw.port)),
            (false, false) => None,
        },
        count: 1,
    }
}

fn spoken(raw: &egress_common::Event) -> Spoken {
    match (raw.protocol, raw.port) {
        (egress_common::TCP, port) if port != 0 => Spoken::Of(Protocol::Tcp),
        (egress_common::UDP, port) if port != 0 => Spoken::Of(Protocol::Udp),
        (0, _) => Spoken::Family(raw.family),
        (number, _) => Spoken::Ip(number),
    }
}

fn reason(denied: DropReason) -> Reason {
    match denied {
        DropReason::AgentUnknown => Reason::AgentUnknown,
        DropReason::AddressNotGranted => Reason::AddressNotGranted,
        DropReason::GrantExpired => Reason::GrantExpired,
        DropReason::DeniedByRule => Reason::DeniedByRule,
        DropReason::SocketTypeNotAllowed => Reason::SocketTypeNotAllowed,
        DropReason::PacketNotAllowed => Reason::PacketNotAllowed,
        DropReason::InboundNotAllowed => Reason::InboundNotAllowed,
        DropReason::QuotaExceeded => Reason::QuotaExceeded,
        DropReason::RuleRemoved => Reason::RuleRemoved,
        DropReason::SourceForged => Reason::SourceForged,
        DropReason::AddressSpecial => Reason::AddressSpecialPurpose,
    }
}
