//! What agents and rules may use up, and have.

/// The most budgets of one agent, its own among them. A rule has one where it has a bound or an end: people
/// write some dozen of them.
pub const MAX_BUDGETS_PER_AGENT: u32 = 128;

/// The most budgets of all agents. While a policy is replaced, an agent has those of both.
pub const MAX_BUDGETS: u32 = crate::MAX_AGENTS * MAX_BUDGETS_PER_AGENT * 2;

/// One budget. The programs and the daemon use it up together: what is used is only ever added to and
/// compared atomically. The first half is one line of a processor's cache; the second is the daemon's.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Octets of payload that left.
    pub bytes: u64,
    /// Flows that started.
    pub flows: u64,
    /// [`Self::UNBOUNDED`], or the most of each.
    pub max_bytes: u64,
    pub max_flows: u64,
    /// Nanoseconds on `CLOCK_BOOTTIME` at which the next flow would be on time, if all kept to the rate.
    pub next: u64,
    /// Nanoseconds between flows that are on time; 0 where there is no rate.
    pub interval: u64,
    /// By how many nanoseconds a flow may be early.
    pub early: u64,
    /// Nanoseconds on `CLOCK_BOOTTIME` from which on nothing leaves; 0 where there is no end.
    pub ends: u64,
    /// Whose it is; 0 where it is nobody's.
    pub agent: u32,
    /// The rule, or 0 for all flows of the agent.
    pub rule: u32,
    /// How much was told to be used, of bytes and of flows, in percent.
    pub told_bytes: u64,
    pub told_flows: u64,
    /// 1 while its policy does not bound its rule: then others may have the place.
    pub idle: u64,
    pub zero: [u64; 4],
}

impl Budget {
    pub const UNBOUNDED: u64 = u64::MAX;
}

/// What is known of a rule that is in force.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleValue {
    /// The place of its budget, or 0.
    pub budget: u32,
    /// [`crate::RULE_ENFORCED`] or [`crate::RULE_OBSERVED`].
    pub standing: u32,
}

const _: () = assert!(size_of::<Budget>() == 128);
const _: () = assert!(size_of::<RuleValue>() == 8);

#[cfg(feature = "user")]
unsafe impl aya::Pod for Budget {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for RuleValue {}
