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

/// Until when, by which rule, and through which gate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantValue {
    /// Nanoseconds on `CLOCK_BOOTTIME`; new flows may start before it.
    pub expires: u64,
    pub rule: u32,
    /// A [`Gate`].
    pub gate: u32,
}

/// Which way a granted flow takes.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Straight to the address.
    Direct = 0,
    /// Through the proxy, which reads the server name.
    Proxy = 1,
}

/// A grant by the name that earned it. Only the daemon reads and writes these: the kernel keeps
/// them for it, so that a daemon that was killed knows again which names its grants are bound to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameKey {
    pub agent: u32,
    pub port: u16,
    /// What the flow must speak; the daemon's own numbering.
    pub protocol: u8,
    pub zero: u8,
    pub address: Address,
    /// Hash of the name, so that a key is small.
    pub name: u64,
}

/// The name, and until when.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NameValue {
    /// Nanoseconds on `CLOCK_BOOTTIME`.
    pub expires: u64,
    pub rule: u32,
    /// Octets of `name` that count, at most 253.
    pub length: u32,
    pub name: [u8; 256],
}

/// Key of the network tries, in the order in which the bits are compared. Big-endian where a
/// number, because a trie compares bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkKey {
    pub agent: [u8; 4],
    /// 0 in a deny that covers every port.
    pub port: [u8; 2],
    /// 0 in a deny that covers every transport.
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

/// A rule that is in force for an agent. Direct flows live as long as theirs is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleKey {
    pub agent: u32,
    pub rule: u32,
}

const _: () = assert!(size_of::<GrantKey>() == 24);
const _: () = assert!(size_of::<GrantValue>() == 16);
const _: () = assert!(size_of::<NameKey>() == 32);
const _: () = assert!(size_of::<NameValue>() == 272);
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
