//! The verdict on one address: the same function for every program.

use crate::{
    error::Denied,
    maps::{AGENTS, DENIED_NETWORKS, GRANTS, NETWORKS, RULES},
};
use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, maps::lpm_trie::Key};
use egress_common::{
    Address, DropReason, Gate, GrantKey, GrantValue, NetworkKey, NetworkValue, RuleKey, second,
};

/// Leave, and the way it takes.
pub struct Pass {
    pub rule: u32,
    pub through_proxy: bool,
}

/// Whether `agent` may send to (`address`, `port`) over `transport` at this moment.
#[inline(always)]
pub fn judge(agent: u32, transport: u8, address: &Address, port: u16) -> Result<Pass, Denied> {
    judge_start(agent, transport, address, port, false)
}

/// As [`judge`]. If a flow `starts`, a direct grant notes that it was used. One to the proxy does not:
/// many names may share its address, and the proxy knows which of them the flow is for.
#[inline(always)]
pub fn judge_start(
    agent: u32,
    transport: u8,
    address: &Address,
    port: u16,
    starts: bool,
) -> Result<Pass, Denied> {
    let key = GrantKey { agent, port, transport, zero: 0, address: *address };
    let mut denied = Denied::because(DropReason::AddressNotGranted);
    if let Some(grant) = GRANTS.get_ptr_mut(&key) {
        let grant = unsafe { &mut *grant };
        let now = unsafe { bpf_ktime_get_boot_ns() };
        if grant.expires > now {
            let through_proxy = grant.gate != Gate::Direct as u16;
            if starts && !through_proxy {
                note_use(grant, now);
            }
            return Ok(Pass { rule: grant.rule, through_proxy });
        }
        denied = Denied { reason: DropReason::GrantExpired, rule: grant.rule };
    }
    let network = Key::new(NetworkKey::BITS, NetworkKey::new(agent, transport, port, *address));
    let Some(allowed) = NETWORKS.get(&network) else { return Err(denied) };
    if allowed.rule == NetworkValue::HOLE {
        return Err(Denied::because(DropReason::AddressSpecial));
    }
    denied_network(agent, transport, port, address)?;
    Ok(Pass { rule: allowed.rule, through_proxy: false })
}

/// Once a second at most, so that of a flood each packet reads a cache line that all processors share,
/// and few write it. What two of them write at once is the same.
#[inline(always)]
fn note_use(grant: &mut GrantValue, now: u64) {
    let second = second(now);
    if grant.used != second {
        grant.used = second;
    }
}

/// Whether an open flow may go on after the policy was replaced. The end of its grant does not
/// matter; that its rule is in force, and that no deny rule took its grant away, does.
#[inline(always)]
pub fn judge_again(agent: u32, transport: u8, address: &Address, port: u16, rule: u32) -> Result<(), Denied> {
    let removed = Denied { reason: DropReason::RuleRemoved, rule };
    if unsafe { RULES.get(&RuleKey { agent, rule }) }.is_none() {
        return Err(removed);
    }
    denied_network(agent, transport, port, address)?;
    let grant = GrantKey { agent, port, transport, zero: 0, address: *address };
    if unsafe { GRANTS.get(&grant) }.is_some() {
        return Ok(());
    }
    let network = Key::new(NetworkKey::BITS, NetworkKey::new(agent, transport, port, *address));
    match NETWORKS.get(&network) {
        Some(allowed) if allowed.rule != NetworkValue::HOLE => Ok(()),
        Some(_) | None => Err(removed),
    }
}

#[inline(always)]
fn denied_network(agent: u32, transport: u8, port: u16, address: &Address) -> Result<(), Denied> {
    match unsafe { AGENTS.get(&agent) } {
        Some(config) if config.denies_networks == 0 => return Ok(()),
        Some(_) => {}
        None => return Err(Denied::because(DropReason::AgentUnknown)),
    }
    covers(agent, transport, port, address)?;
    covers(agent, transport, 0, address)?;
    covers(agent, 0, port, address)?;
    covers(agent, 0, 0, address)
}

#[inline(always)]
fn covers(agent: u32, transport: u8, port: u16, address: &Address) -> Result<(), Denied> {
    let key = Key::new(NetworkKey::BITS, NetworkKey::new(agent, transport, port, *address));
    match DENIED_NETWORKS.get(&key) {
        Some(deny) => Err(Denied { reason: DropReason::DeniedByRule, rule: deny.rule }),
        None => Ok(()),
    }
}
