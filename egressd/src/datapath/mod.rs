//! The kernel half: cgroups, programs, maps, and nftables as an independent second deny.

pub mod adopt;
mod attached;
mod bpffs;
pub mod canary;
mod cgroup;
mod clock;
mod detail;
mod ebpf;
mod events;
mod fence;
mod frames;
pub mod launch;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod leave;
mod links;
mod lsm;
mod lsm_offsets;
mod nft;
pub mod probe;
mod ruleset;
mod seal;
mod sockmap;
mod tables;

pub use attached::Attached;
pub use bpffs::Pins;
pub use cgroup::{Cgroup, CgroupError, Hierarchy};
pub use clock::now;
pub use ebpf::{Ebpf, EbpfError, HOOKS};
pub use events::{Names, report};
pub use fence::{Fence, FenceError, Site};
pub use frames::{Frames, FramesError};
pub use lsm::{SecurityHooks, UseSecurityHooks};
pub use nft::{Nft, NftError};
pub use ruleset::Listeners;
pub use seal::{Cell, CellError, Forwarding, ForwardingError, Link, Namespaces};
pub use sockmap::GateSupport;
pub use tables::Tables;
