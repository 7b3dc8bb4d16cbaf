//! Leave, as the kernel holds it.

use crate::flow::Address;

/// The most grants of one agent in the kernel. The daemon keeps to it before it writes.
pub const MAX_GRANTS_PER_AGENT: u32 = 4096;

/// The most (network, port) pairs of one agent in each network trie. The daemon keeps to it.
pub const MAX_NETWORKS_PER_AGENT: u32 = 1024;

/// What a grant is for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantKey {
    pub agent: u32,
    pub port: u16,
    /// [`crate::TCP`] or [`crate::UDP`].
    pub transport: u8,
    pub zero: u8,
    pub address: Address,
}

/// Until when, by which rule, and through which gate; and when it was used.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantValue {
    /// Nanoseconds on `CLOCK_BOOTTIME`; new flows may start before it.
    pub expires: u64,
    pub rule: u32,
    /// A [`Gate`].
    pub gate: u16,
    /// The [`second`] in which a direct flow started by it last, or 0: also in what a daemon wrote that
    /// knew of no such thing, and held the gate in 32 bits.
    pub used: u16,
}

impl GrantValue {
    /// How many whole seconds before `now` (as `expires`) a direct flow started by this grant; None if
    /// none did. Of what lies longer back than 18 hours, the time of day is all that is known.
    #[must_use]
    pub const fn used_before(&self, now: u64) -> Option<u64> {
        match (self.used, second(now)) {
            (0, _) => None,
            (used, now) if used <= now => Some((now - used) as u64),
            (used, now) => Some(SECONDS - (used - now) as u64),
        }
    }
}

/// The second of `now`, in nanoseconds on `CLOCK_BOOTTIME`, as grants note it: it fits beside the gate,
/// comes around after 18 hours, and is never 0.
#[inline(always)]
#[must_use]
pub const fn second(now: u64) -> u16 {
    (now / 1_000_000_000 % SECONDS) as u16 + 1
}

const SECONDS: u64 = u16::MAX as u64;

/// Which way a granted flow takes.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Straight to the address.
    Direct = 0,
    /// Through the proxy, which reads the server name.
    Proxy = 1,
    /// Straight to the address, once the programs have read the server name.
    Kernel = 2,
}

/// A grant by the name that earned it. The programs look up here whether a server name is that of the
/// address; and the kernel keeps them, so that a daemon that was killed knows again which names its grants
/// are bound to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameKey {
    pub agent: u32,
    pub port: u16,
    /// What the flow must speak: [`SPEAKS_TLS`], or another of the daemon's own numbers.
    pub protocol: u8,
    pub zero: u8,
    pub address: Address,
    /// Hash of the name, so that a key is small.
    pub name: u64,
}

/// The protocol of flows whose server name the programs read.
pub const SPEAKS_TLS: u8 = 0;

/// The name, and until when.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NameValue {
    /// Nanoseconds on `CLOCK_BOOTTIME`.
    pub expires: u64,
    pub rule: u32,
    /// Octets of `name` that count, at most 253.
    pub length: u32,
    /// Nanoseconds on `CLOCK_BOOTTIME` at which the programs last reported flows by this name, and how
    /// many began since.
    pub reported: u64,
    pub flows: u32,
    /// [`Self::REFUSES_ECH`], [`Self::NEEDS_PROXY`].
    pub flags: u32,
    /// In lower case, NUL-padded.
    pub name: [u8; 256],
}

impl NameValue {
    /// A ClientHello with Encrypted Client Hello (extension 0xfe0d) is denied.
    pub const REFUSES_ECH: u32 = 1;
    /// Only the proxy may let a flow by this name pass. One that began straight, by another name at its
    /// address, must not become it.
    pub const NEEDS_PROXY: u32 = 2;
}

/// Key of the network tries, in the order in which the bits are compared. Big-endian where a
/// number, because a trie compares bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkKey {
    pub agent: [u8; 4],
    /// 0 in a deny that covers every port, and in what an agent in observe mode is let out to.
    pub port: [u8; 2],
    /// The same of transports.
    pub transport: u8,
    pub zero: u8,
    pub address: Address,
}

impl NetworkKey {
    /// Bits in front of the address, which always match whole.
    pub const EXACT_BITS: u32 = 64;
    /// Bits of a key with a whole address.
    pub const BITS: u32 = Self::EXACT_BITS + 128;

    #[inline(always)]
    #[must_use]
    pub const fn new(agent: u32, transport: u8, port: u16, address: Address) -> Self {
        Self { agent: agent.to_be_bytes(), port: port.to_be_bytes(), transport, zero: 0, address }
    }
}

/// The rule behind a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkValue {
    /// Or [`Self::HOLE`].
    pub rule: u32,
}

impl NetworkValue {
    /// No rule: a special network within a wider one that does not open it.
    pub const HOLE: u32 = 0;
}

/// A rule that is in force for an agent, with [`RULE_ENFORCED`] or [`RULE_OBSERVED`]. Direct flows live as
/// long as theirs is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleKey {
    pub agent: u32,
    pub rule: u32,
}

/// What a rule allows is allowed.
pub const RULE_ENFORCED: u32 = 1;
/// The same, and each flow by it is reported as one that would be denied without.
pub const RULE_OBSERVED: u32 = 2;

/// The rule of flows that no rule allows, of an agent in observe mode.
pub const OBSERVED: u32 = u32::MAX;

const _: () = assert!(size_of::<GrantKey>() == 24);
const _: () = assert!(size_of::<GrantValue>() == 16);
const _: () = assert!(size_of::<NameKey>() == 32);
const _: () = assert!(size_of::<NameValue>() == 288);
const _: () = assert!(size_of::<NetworkKey>() == 24);
const _: () = assert!(size_of::<RuleKey>() == 8);

#[cfg(feature = "user")]
unsafe impl aya::Pod for GrantKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for GrantValue {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NameKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NameValue {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NetworkKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NetworkValue {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for RuleKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_tells_how_long_ago_it_was_used() {
        const SECOND: u64 = 1_000_000_000;
        for start in [0, 1, SECONDS - 2, SECONDS - 1, SECONDS, 10 * SECONDS + 7] {
            let used = second(start * SECOND + 999_999_999);
            let grant = GrantValue { expires: 0, rule: 1, gate: Gate::Direct as u16, used };
            for later in [0, 1, 2, 30, SECONDS - 1] {
                assert_eq!(grant.used_before((start + later) * SECOND), Some(later), "{start} + {later}");
            }
            assert_eq!(GrantValue { used: 0, ..grant }.used_before(start * SECOND), None);
        }
    }
}
