//! Which agent a socket or a process belongs to: its cgroup, or the nearest one above it.

use crate::{
    error::Denied,
    maps::{AGENTS, CGROUPS, Socket},
};
use aya_ebpf::{
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_skb_ancestor_cgroup_id,
        bpf_skb_cgroup_id,
    },
    programs::SkBuffContext,
};
use egress_common::DropReason;

/// The agent of the process that runs now.
#[inline(always)]
pub fn of_current() -> Result<u32, Denied> {
    find(unsafe { bpf_get_current_cgroup_id() }, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// Whether a flag of [`egress_common::AgentConfig`] is set for `agent`.
#[inline(always)]
pub fn has(agent: u32, flag: u32) -> bool {
    unsafe { AGENTS.get(&agent) }.is_some_and(|config| config.flags & flag != 0)
}

/// The agent of a packet: its socket's maker, or the cgroup of a socket that nobody noted, as one
/// that was accepted.
#[inline(always)]
pub fn of_packet(ctx: &SkBuffContext, socket: Option<&Socket>) -> Result<u32, Denied> {
    if let Some(socket) = socket {
        return Ok(socket.agent);
    }
    let skb = ctx.skb.skb;
    find(unsafe { bpf_skb_cgroup_id(skb) }, |level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
}

/// The deepest cgroup level at which an agent's own cgroup is looked for. Containers stand at
/// level 2 to 6; an agent may nest as deep below its own as it likes.
const MAX_LEVEL: i32 = 12;

/// The agent whose cgroup has the id `own`, or is the ancestor at some level.
#[inline(always)]
pub fn find(own: u64, ancestor: impl Fn(i32) -> u64) -> Result<u32, Denied> {
    if let Some(agent) = unsafe { CGROUPS.get(&own) } {
        return Ok(*agent);
    }
    for level in 1..MAX_LEVEL {
        let id = ancestor(level);
        if id == 0 || id == own {
            break;
        }
        if let Some(agent) = unsafe { CGROUPS.get(&id) } {
            return Ok(*agent);
        }
    }
    Err(Denied::because(DropReason::AgentUnknown))
}
