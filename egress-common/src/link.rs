//! The link of a sealed agent, as its host's end judges frames.

use crate::{agent::MAX_AGENTS, flow::Address};

/// The Ethernet address of the host's end of every link. Locally administered (IEEE 802, section 8.4).
pub const GATEWAY_MAC: [u8; 6] = *b"\x0aegr\x00\x01";

/// The Ethernet address of the agent's end of every link: links share no segment.
pub const AGENT_MAC: [u8; 6] = *b"\x0aegr\x00\x02";

/// The IPv4 address of the host's end of every link. Link-local (RFC 3927), so it is nobody else's.
pub const GATEWAY_V4: [u8; 4] = [169, 254, 1, 1];

/// The IPv6 address of the host's end of every link: `fe80::1`.
pub const GATEWAY_V6: Address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Known flows of one sealed agent: by these, flows outlive their grants. A flow that lost its
/// place to another of the same agent ends with its grant.
pub const FLOWS_PER_LINK: u32 = 512;

/// Places among which a flow finds one. Those of flows that have ended are free again, so that the
/// flows that are open have to fill four before one is lost.
pub const PLACES_PER_FLOW: u32 = 4;

/// Places of known flows: as many links as agents.
pub const MAX_FLOWS: u32 = MAX_AGENTS * FLOWS_PER_LINK;

/// Who is behind a link, by the index of the host's end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    pub agent: u32,
    /// Which share of the known flows is its own: 0 to [`MAX_AGENTS`] - 1.
    pub slot: u32,
    /// The only source addresses of its frames; zero where there is none.
    pub v4: Address,
    pub v6: Address,
}

/// A direct flow whose first frame found a live grant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownFlow {
    pub destination: Address,
    pub source_port: u16,
    pub destination_port: u16,
    pub transport: u32,
    pub agent: u32,
    pub rule: u32,
    /// The policy by which it was judged last.
    pub generation: u32,
    /// 1 once one end has said that it ends.
    pub closing: u32,
}

const _: () = assert!(size_of::<LinkConfig>() == 40);
const _: () = assert!(size_of::<KnownFlow>() == 40);

#[cfg(feature = "user")]
unsafe impl aya::Pod for LinkConfig {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for KnownFlow {}
