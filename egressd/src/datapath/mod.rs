//! The kernel half: cgroups, programs, maps, and nftables as an independent second deny.

pub mod adopt;
mod attached;
mod bpffs;
pub mod canary;
mod cgroup;
mod clock;
mod destroy;
mod detail;
mod ebpf;
mod elements;
mod events;
mod fence;
mod frames;
mod grants;
pub mod launch;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod leave;
mod links;
mod lsm;
mod lsm_offsets;
mod name_events;
mod named;
mod nft;
mod permits;
pub mod probe;
mod ruleset;
mod seal;
mod sockmap;
mod tables;
mod way;

pub use attached::Attached;
pub use bpffs::Pins;
pub use cgroup::{Cgroup, CgroupError, Hierarchy};
pub use clock::now;
pub use destroy::{Doomed, destroy};
pub use ebpf::{Ebpf, EbpfError, HOOKS};
pub use events::{Names, Reporter, report};
pub use fence::{Fence, FenceError, Programs, Site};
pub use frames::{Frames, FramesError};
pub use lsm::{SecurityHooks, UseSecurityHooks};
pub use named::{CutFlow, FlowSocket, NamedFlows};
pub use nft::{Nft, NftError};
pub use ruleset::Listeners;
pub use seal::{Cell, CellError, Forwarding, ForwardingError, Link, Namespaces};
pub use tables::Tables;
