//! Types shared by the kernel programs and the daemon.
//!
//! Every struct is `repr(C)` without implicit padding, and its size is asserted: both sides read
//! the same bytes. Addresses are 16 octets in network order; IPv4 is held as v4-mapped IPv6
//! (RFC 4291, section 2.5.5.2). Ports are in host byte order.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod agent;
mod budget;
mod device;
mod event;
mod flow;
mod gate;
mod grant;
pub mod hello;
mod link;
mod offsets;
mod probe;
mod verdict;

pub use agent::{AgentConfig, CounterKey, LOST_EVENTS, MAX_AGENTS, MAX_SOCKETS_PER_AGENT};
pub use budget::{Budget, MAX_BUDGETS, MAX_BUDGETS_PER_AGENT, RuleValue};
pub use device::{Device, DeviceKind};
pub use event::{CutEvent, Event, Hook};
pub use flow::{Address, OriginKey, OriginValue, TCP, UDP, fnv1a, loopback_v4, loopback_v6, v4_mapped};
pub use gate::{GateState, MAX_SILENT_PER_AGENT, NameEvent, NamedFlow, NamedFlowKey};
pub use grant::{
    Gate, GrantKey, GrantValue, MAX_GRANTS_PER_AGENT, MAX_NETWORKS_PER_AGENT, NameKey, NameValue, NetworkKey,
    NetworkValue, OBSERVED, RULE_ENFORCED, RULE_OBSERVED, RuleKey, SPEAKS_TLS, second,
};
pub use link::{
    AGENT_MAC, FLOWS_PER_LINK, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, KnownFlow, LinkConfig, MAX_FLOWS,
    PLACES_PER_FLOW,
};
pub use offsets::{GateOffsets, Offsets};
pub use probe::FENCE_PROBE;
pub use verdict::DropReason;
