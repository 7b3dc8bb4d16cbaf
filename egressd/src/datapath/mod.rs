//! The kernel half: cgroups, programs, maps, and nftables as an independent second deny.

pub mod adopt;
mod bpffs;
mod cgroup;
mod clock;
mod ebpf;
mod events;
mod fence;
mod frames;
pub mod launch;
mod leave;
mod links;
mod nft;
mod ruleset;
mod seal;
mod tables;

pub use bpffs::Pins;
pub use cgroup::{Cgroup, CgroupError, Hierarchy};
pub use clock::now;
pub use ebpf::{Ebpf, EbpfError, HOOKS};
pub use events::{Names, report};
pub use fence::{Fence, FenceError, Site};
pub use frames::{Frames, FramesError};
pub use nft::{Nft, NftError};
pub use ruleset::Listeners;
pub use seal::{Cell, CellError, Forwarding, ForwardingError, Namespaces};
pub use tables::Tables;
