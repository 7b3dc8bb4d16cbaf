//! The verdict on one address: the same function for every program.

use crate::{
    agent,
    error::Denied,
    maps::{AGENTS, DENIED_NETWORKS, GRANTS, NETWORKS, RULES},
};
use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, maps::lpm_trie::Key};
use egress_common::{
    Address, AgentConfig, DropReason, Gate, GrantKey, GrantValue, NetworkKey, NetworkValue, OBSERVED,
    RULE_OBSERVED, RuleKey, second,
};

/// Leave, and the way it takes.
pub struct Pass {
    pub rule: u32,
    pub gate: Gate,
    /// Whether it is let out only to be observed, and was `denied`. Not an option: the kernel refuses programs that
    /// load what was never written, as compilers do of none.
    is_observed: bool,
    denied: Denied,
}

impl Pass {
    #[inline(always)]
    fn by(rule: u32, gate: Gate) -> Self {
        let denied = Denied::because(DropReason::AddressNotGranted);
        Self { rule, gate, is_observed: false, denied }
    }

    /// The denial, of what is let out only to be observed.
    #[inline(always)]
    pub fn observed(&self) -> Option<Denied> {
        self.is_observed.then_some(self.denied)
    }

    /// Whether packets may go straight to the address, whatever they say.
    #[inline(always)]
    pub fn is_direct(&self) -> bool {
        self.gate as u16 == Gate::Direct as u16
    }
}

/// Whether `agent` may send to (`address`, `port`) over `transport` at this moment.
#[inline(always)]
pub fn judge(agent: u32, transport: u8, address: &Address, port: u16) -> Result<Pass, Denied> {
    judge_start(agent, transport, address, port, false)
}

/// As [`judge`]. If a flow `starts`, a direct grant notes that it was used. One by a name does not:
/// many names may share its address, and it is not yet known which of them the flow is for.
#[inline(always)]
pub fn judge_start(
    agent: u32,
    transport: u8,
    address: &Address,
    port: u16,
    starts: bool,
) -> Result<Pass, Denied> {
    match enforced(agent, transport, address, port, starts) {
        Ok(pass) => Ok(pass),
        Err(denied) => observe(agent, address, port, denied),
    }
}

/// What `pass` would have been denied for, had its rule, or its agent, not been in observe mode.
#[inline(always)]
pub fn observed(config: &AgentConfig, agent: u32, pass: &Pass) -> Option<Denied> {
    if pass.is_observed || config.flags & AgentConfig::OBSERVES == 0 || !pass.is_direct() {
        return pass.observed();
    }
    on_trial(agent, pass.rule)
}

/// As [`judge`], without what is let out to be observed.
#[inline(always)]
pub fn enforced(
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
            let pass = Pass::by(grant.rule, way(grant.gate));
            if starts && pass.is_direct() {
                note_use(grant, now);
            }
            return Ok(pass);
        }
        denied = Denied { reason: DropReason::GrantExpired, rule: grant.rule };
    }
    let network = Key::new(NetworkKey::BITS, NetworkKey::new(agent, transport, port, *address));
    let Some(allowed) = NETWORKS.get(&network) else { return Err(denied) };
    if allowed.rule == NetworkValue::HOLE {
        return Err(Denied::because(DropReason::AddressSpecial));
    }
    denied_network(agent, transport, port, address)?;
    Ok(Pass::by(allowed.rule, Gate::Direct))
}

/// Lets out what is `denied`, of an agent in observe mode: straight to any address that is not special, but
/// not around our resolver.
#[inline(always)]
fn observe(agent: u32, address: &Address, port: u16, denied: Denied) -> Result<Pass, Denied> {
    if port == DNS_PORT || !agent::has(agent, AgentConfig::OBSERVES) {
        return Err(denied);
    }
    let key = Key::new(NetworkKey::BITS, NetworkKey::new(agent, 0, 0, *address));
    match NETWORKS.get(&key) {
        None => Err(denied),
        Some(network) if network.rule == NetworkValue::HOLE => {
            Err(Denied::because(DropReason::AddressSpecial))
        }
        Some(network) => Ok(Pass { rule: network.rule, gate: Gate::Direct, is_observed: true, denied }),
    }
}

/// The denial without a rule that only observes; None of one that is enforced.
#[inline(always)]
fn on_trial(agent: u32, rule: u32) -> Option<Denied> {
    match unsafe { RULES.get(&RuleKey { agent, rule }) } {
        Some(known) if known.standing == RULE_OBSERVED => {
            Some(Denied { reason: DropReason::AddressNotGranted, rule })
        }
        Some(_) | None => None,
    }
}

const DNS_PORT: u16 = 53;

/// The way of the grant for an address, whether it has expired or not; direct where there is none.
#[inline(always)]
pub fn gate(agent: u32, transport: u8, address: &Address, port: u16) -> Gate {
    let key = GrantKey { agent, port, transport, zero: 0, address: *address };
    match unsafe { GRANTS.get(&key) } {
        Some(grant) => way(grant.gate),
        None => Gate::Direct,
    }
}

/// Sends what follows through the proxy, which reads more than these programs do.
#[inline(always)]
pub fn fall_back(agent: u32, transport: u8, address: &Address, port: u16) {
    let key = GrantKey { agent, port, transport, zero: 0, address: *address };
    if let Some(grant) = GRANTS.get_ptr_mut(&key) {
        unsafe { (*grant).gate = Gate::Proxy as u16 };
    }
}

/// What no daemon of this time wrote is the proxy's.
#[inline(always)]
fn way(gate: u16) -> Gate {
    match gate {
        _ if gate == Gate::Direct as u16 => Gate::Direct,
        _ if gate == Gate::Kernel as u16 => Gate::Kernel,
        _ => Gate::Proxy,
    }
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

/// Whether an open flow may go on after the policy was replaced, and by which rule. The end of its grant does
/// not matter; that its rule is in force, and that no deny rule took its grant away, does.
#[inline(always)]
pub fn judge_again(
    agent: u32,
    transport: u8,
    address: &Address,
    port: u16,
    rule: u32,
) -> Result<Pass, Denied> {
    let denied = if rule == OBSERVED {
        match enforced(agent, transport, address, port, false) {
            // A name has earned it since, and flows by that name may go another way.
            Ok(_) => Denied::because(DropReason::AddressNotGranted),
            Err(denied) => denied,
        }
    } else {
        match is_in_force(agent, transport, address, port, rule) {
            Ok(()) => {
                return Ok(match on_trial(agent, rule) {
                    Some(denied) => Pass { rule, gate: Gate::Direct, is_observed: true, denied },
                    None => Pass::by(rule, Gate::Direct),
                });
            }
            Err(denied) => denied,
        }
    };
    observe(agent, address, port, denied)
}

#[inline(always)]
fn is_in_force(agent: u32, transport: u8, address: &Address, port: u16, rule: u32) -> Result<(), Denied> {
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
