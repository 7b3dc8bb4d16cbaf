//! What the kernel knows of an agent.

/// The most agents of one daemon. With [`MAX_SOCKETS_PER_AGENT`] and the grants of each it
/// sizes the maps, so that no agent can fill what another one needs.
pub const MAX_AGENTS: u32 = 256;

/// The most open sockets of one agent that the daemon's listeners serve: a browser opens some
/// hundred, a package manager some dozen.
pub const MAX_SOCKETS_PER_AGENT: u32 = 4096;

/// Key of [`CounterKey::reason`] under which events that found the ring buffer full are counted.
pub const LOST_EVENTS: u32 = 255;

/// The listeners that serve one agent. Ports in host byte order; 0 where there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentConfig {
    pub dns_v4: u16,
    pub dns_v6: u16,
    pub proxy_v4: u16,
    pub proxy_v6: u16,
    pub explicit_v4: u16,
    pub explicit_v6: u16,
    /// 1 if the policy denies networks: then every hit of an allowed network is checked again.
    pub denies_networks: u8,
    pub zero: [u8; 3],
    /// Changes with the policy: then open flows are judged again. Never 0.
    pub generation: u32,
    /// [`Self::RAW_FRAMES`], [`Self::SEALED`], [`Self::HOST_SOCKETS`], [`Self::ELSEWHERE`], [`Self::OBSERVES`],
    /// [`Self::BUDGETS`], [`Self::RAW_SOCKETS`].
    pub flags: u32,
    /// The place of the agent's own [`crate::Budget`], or 0.
    pub budget: u32,
}

impl AgentConfig {
    /// The agent was started with capabilities by which it makes frames in its own network namespace, beside the
    /// sockets that the programs see: what leaves its link is judged and counted there.
    pub const RAW_FRAMES: u32 = 1;
    /// The agent has a network namespace of its own: what stays on its loopback stays with it.
    pub const SEALED: u32 = 2;
    /// The agent may speak to Unix sockets that processes outside have bound to paths.
    pub const HOST_SOCKETS: u32 = 4;
    /// The agent was adopted in a network namespace that is not the host's: where its own sockets reach is
    /// that namespace's matter, and no table denies there. For the daemon alone.
    pub const ELSEWHERE: u32 = 8;
    /// The agent, or a rule of its policy, is in observe mode: flows that would be denied may be let out, and
    /// are reported.
    pub const OBSERVES: u32 = 16;
    /// The agent, or one of its rules, has a [`crate::Budget`].
    pub const BUDGETS: u32 = 32;
    /// The agent may make packet, XDP and netlink sockets and tunnel devices in its own network namespace: it was
    /// started with [`Self::RAW_FRAMES`], and its policy has not taken the capabilities away since.
    pub const RAW_SOCKETS: u32 = 64;
    /// Of agents that have a network namespace of their own, whoever made it.
    pub const OWN_NETWORK: u32 = Self::SEALED | Self::ELSEWHERE;
}

/// Key of the exact deny counters.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    pub agent: u32,
    /// A [`crate::DropReason`], or [`LOST_EVENTS`].
    pub reason: u32,
}

const _: () = assert!(size_of::<AgentConfig>() == 28);
const _: () = assert!(size_of::<CounterKey>() == 8);

#[cfg(feature = "user")]
unsafe impl aya::Pod for AgentConfig {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for CounterKey {}
