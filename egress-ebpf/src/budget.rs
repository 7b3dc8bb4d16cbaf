//! What agents and rules use up: taken before it leaves, from both or from neither.

use crate::{
    error::Denied,
    maps::{BUDGETS, RULES, Socket, fetch_add, replace},
    note::{self, Carried},
    packet::{self, AT_START, Packet},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_ktime_get_boot_ns};
use core::ptr;
use egress_common::{AgentConfig, Budget, DropReason, RuleKey, UDP};

/// Whose budgets a flow uses up.
#[derive(Clone, Copy)]
pub struct Payers {
    /// The place of the agent's own, or 0.
    pub own: u32,
    /// That of its rule's, or 0.
    pub of_rule: u32,
    pub rule: u32,
    /// Nothing is taken: it is asked whether it could be.
    is_asked: bool,
}

impl Payers {
    /// Of a flow by `rule`, of a socket. Those of agents that make frames beside their sockets take nothing: all
    /// frames pay as they come out of the link. They are asked here, for a denial that is heard of at once.
    #[inline(always)]
    pub fn of(config: &AgentConfig, agent: u32, rule: u32) -> Self {
        let of_rule = place_of(config, agent, rule);
        Self { own: config.budget, of_rule, rule, is_asked: makes_frames(config) }
    }

    /// Of the flow that a socket carries.
    #[inline(always)]
    pub fn known(config: &AgentConfig, flow: &Carried) -> Self {
        let (of_rule, rule) = (flow.budget, flow.rule);
        Self { own: config.budget, of_rule, rule, is_asked: makes_frames(config) }
    }

    /// Of a flow by `rule`, of an agent that makes frames beside its sockets.
    #[inline(always)]
    pub fn at_link(config: &AgentConfig, agent: u32, rule: u32) -> Self {
        Self { own: config.budget, of_rule: place_of(config, agent, rule), rule, is_asked: false }
    }

    /// Takes `octets` and `flows`.
    #[inline(always)]
    pub fn take(self, octets: u64, flows: u64) -> Result<(), Denied> {
        if self.own | self.of_rule == 0 {
            return Ok(());
        }
        let refused = match self.is_asked {
            false => take(self.own, self.of_rule, octets, flows),
            true => ask(self.own, self.of_rule, octets, flows),
        };
        let rule = if refused & BY_RULE != 0 { self.rule } else { 0 };
        match refused & !BY_RULE {
            0 => Ok(()),
            code if code == DropReason::RateExceeded as u32 => {
                Err(Denied { reason: DropReason::RateExceeded, rule })
            }
            code if code == DropReason::RuleExpired as u32 => {
                Err(Denied { reason: DropReason::RuleExpired, rule })
            }
            _ => Err(Denied { reason: DropReason::BudgetSpent, rule }),
        }
    }
}

/// Whether anything of the agent is bounded.
#[inline(always)]
pub fn is_bounded(config: &AgentConfig) -> bool {
    config.flags & AgentConfig::BUDGETS != 0
}

/// Whether the flows of the agent are counted as they come out of its link.
#[inline(always)]
pub fn is_counted_at_link(config: &AgentConfig) -> bool {
    is_bounded(config) && makes_frames(config)
}

#[inline(always)]
fn makes_frames(config: &AgentConfig) -> bool {
    config.flags & AgentConfig::RAW_FRAMES != 0
}

/// The place of the budget of `rule`, or 0.
#[inline(always)]
pub fn place_of(config: &AgentConfig, agent: u32, rule: u32) -> u32 {
    if !is_bounded(config) {
        return 0;
    }
    match unsafe { RULES.get(&RuleKey { agent, rule }) } {
        Some(known) => known.budget,
        None => 0,
    }
}

/// Takes what a packet of `socket` uses up: its payload, and a flow where it is the first datagram to
/// another destination than the last one. That a resolver library connects a socket is none.
#[inline(always)]
pub fn pay(
    skb: *const __sk_buff,
    payers: Payers,
    socket: Option<&mut Socket>,
    packet: &Packet,
) -> Result<(), Denied> {
    // As they are counted where they pay.
    let octets = match payers.is_asked {
        true => packet::octets::<AT_START>(skb),
        false => packet::payload::<AT_START>(skb, packet),
    };
    // An empty datagram says something, too: by its port, and when it comes.
    let octets = if octets == 0 && packet.transport == UDP { 1 } else { u64::from(octets) };
    let Some(socket) = socket else { return payers.take(octets, 0) };
    let is_paid = packet.transport != UDP || note::has_paid(socket, packet);
    payers.take(octets, u64::from(!is_paid))?;
    if !is_paid {
        note::pay(socket, packet);
    }
    Ok(())
}

/// Set where it is the rule's budget that refuses.
const BY_RULE: u32 = 1 << 31;

/// 0, or the reason for which one of them refuses. A function of its own: the kernel reads it once for each
/// of its callers, whose stack is not large enough for both.
#[inline(never)]
fn take(own: u32, of_rule: u32, octets: u64, flows: u64) -> u32 {
    let own = if own == 0 { None } else { BUDGETS.get_ptr_mut(own) };
    if let Some(own) = own {
        let refused = take_one(own, octets, flows);
        if refused != 0 {
            return refused;
        }
    }
    if of_rule != 0
        && let Some(of_rule) = BUDGETS.get_ptr_mut(of_rule)
    {
        let refused = take_one(of_rule, octets, flows);
        if refused != 0 {
            if let Some(own) = own {
                give_back(own, octets, flows);
            }
            return refused | BY_RULE;
        }
    }
    0
}

/// As [`take`], and takes nothing.
#[inline(never)]
fn ask(own: u32, of_rule: u32, octets: u64, flows: u64) -> u32 {
    if own != 0
        && let Some(own) = BUDGETS.get_ptr_mut(own)
    {
        let refused = ask_one(own, octets, flows);
        if refused != 0 {
            return refused;
        }
    }
    if of_rule != 0
        && let Some(of_rule) = BUDGETS.get_ptr_mut(of_rule)
    {
        let refused = ask_one(of_rule, octets, flows);
        if refused != 0 {
            return refused | BY_RULE;
        }
    }
    0
}

#[inline(always)]
fn take_one(budget: *mut Budget, octets: u64, flows: u64) -> u32 {
    if has_ended(budget) {
        return DropReason::RuleExpired as u32;
    }
    let (bytes, started) = unsafe { (&raw mut (*budget).bytes, &raw mut (*budget).flows) };
    let (max_bytes, max_flows) = unsafe { (&raw const (*budget).max_bytes, &raw const (*budget).max_flows) };
    if octets != 0 && !add_up_to(bytes, max_bytes, octets) {
        return DropReason::BudgetSpent as u32;
    }
    if flows != 0 {
        if octets == 0 && is_spent(bytes, max_bytes) {
            return DropReason::BudgetSpent as u32;
        }
        if !add_up_to(started, max_flows, flows) {
            fetch_add(bytes, octets.wrapping_neg());
            return DropReason::BudgetSpent as u32;
        }
        if !is_on_time(budget) {
            fetch_add(bytes, octets.wrapping_neg());
            fetch_add(started, flows.wrapping_neg());
            return DropReason::RateExceeded as u32;
        }
    }
    0
}

/// Whether not an octet is left: then nothing starts that could say something by that alone.
#[inline(always)]
fn is_spent(used: *const u64, most: *const u64) -> bool {
    unsafe { ptr::read_volatile(used) >= ptr::read_volatile(most) }
}

#[inline(always)]
fn has_ended(budget: *mut Budget) -> bool {
    let ends = unsafe { ptr::read_volatile(&raw const (*budget).ends) };
    ends != 0 && unsafe { bpf_ktime_get_boot_ns() } >= ends
}

/// As [`take_one`], and takes nothing.
#[inline(always)]
fn ask_one(budget: *mut Budget, octets: u64, flows: u64) -> u32 {
    if has_ended(budget) {
        return DropReason::RuleExpired as u32;
    }
    let read = |word: *const u64| unsafe { ptr::read_volatile(word) };
    let (bytes, max_bytes) = unsafe { (&raw const (*budget).bytes, &raw const (*budget).max_bytes) };
    let (started, max_flows) = unsafe { (&raw const (*budget).flows, &raw const (*budget).max_flows) };
    if octets != 0 && read(max_bytes).saturating_sub(read(bytes)) < octets {
        return DropReason::BudgetSpent as u32;
    }
    if flows != 0 && octets == 0 && is_spent(bytes, max_bytes) {
        return DropReason::BudgetSpent as u32;
    }
    if flows != 0 && read(max_flows).saturating_sub(read(started)) < flows {
        return DropReason::BudgetSpent as u32;
    }
    let (next, early) = unsafe { (&raw const (*budget).next, &raw const (*budget).early) };
    let interval = unsafe { &raw const (*budget).interval };
    let latest = unsafe { bpf_ktime_get_boot_ns() }.saturating_add(read(early));
    if flows != 0 && read(interval) != 0 && read(next) > latest {
        return DropReason::RateExceeded as u32;
    }
    0
}

/// Adds `amount` to what is used, unless that is more than the most then. Never more than the most is used,
/// whatever other processors do.
#[inline(always)]
fn add_up_to(used: *mut u64, most: *const u64, amount: u64) -> bool {
    let most = unsafe { ptr::read_volatile(most) };
    let fits = |used: u64| most.saturating_sub(used) >= amount;
    // What is used up for good is only read: a flood would have all processors wait for one line.
    if !fits(unsafe { ptr::read_volatile(used) }) {
        return false;
    }
    if fits(fetch_add(used, amount)) {
        return true;
    }
    fetch_add(used, amount.wrapping_neg());
    false
}

/// Whether a flow may start by the rate, which it then uses up (GCRA, ITU-T I.371).
#[inline(always)]
fn is_on_time(budget: *mut Budget) -> bool {
    let interval = unsafe { ptr::read_volatile(&raw const (*budget).interval) };
    if interval == 0 {
        return true;
    }
    let early = unsafe { ptr::read_volatile(&raw const (*budget).early) };
    let now = unsafe { bpf_ktime_get_boot_ns() };
    for _ in 0..ATTEMPTS {
        let next = unsafe { ptr::read_volatile(&raw const (*budget).next) };
        let from = if next > now { next } else { now };
        if from - now > early {
            return false;
        }
        if replace(unsafe { &raw mut (*budget).next }, next, from + interval) {
            return true;
        }
    }
    false
}

/// How often a flow tries to be the next one, beside those that start on other processors.
const ATTEMPTS: u32 = 32;

#[inline(always)]
fn give_back(budget: *mut Budget, octets: u64, flows: u64) {
    unsafe {
        fetch_add(&raw mut (*budget).bytes, octets.wrapping_neg());
        if flows != 0 {
            fetch_add(&raw mut (*budget).flows, flows.wrapping_neg());
            let interval = ptr::read_volatile(&raw const (*budget).interval);
            fetch_add(&raw mut (*budget).next, interval.wrapping_neg());
        }
    }
}
