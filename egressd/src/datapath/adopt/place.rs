//! Which cgroups can be adopted at all.

use crate::datapath::cgroup::{Cgroup, CgroupError, Hierarchy};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Opens the cgroup that somebody means by `path`: its folder, or what proc_pid_cgroup(5) calls it.
///
/// # Errors
/// There is none, or it is one that must not be adopted.
pub fn find(hierarchy: &Hierarchy, path: &Path) -> Result<Cgroup, PlaceError> {
    let mount = hierarchy.mount();
    let folder = match path.starts_with(mount) {
        true => path.to_owned(),
        false => mount.join(path.strip_prefix("/").unwrap_or(path)),
    };
    let folder = folder.canonicalize().map_err(|error| CgroupError::Open(folder, error))?;
    let Ok(below) = folder.strip_prefix(mount) else { return Err(PlaceError::Outside(folder)) };
    let depth = below.components().count();
    if depth == 0 {
        return Err(PlaceError::Root);
    }
    if depth >= MAX_DEPTH {
        return Err(PlaceError::Deep(folder));
    }
    if below
        .to_str()
        .is_none_or(|text| text.contains(|letter: char| letter.is_control() || "\"*".contains(letter)))
    {
        return Err(PlaceError::Unspeakable(folder));
    }
    if hierarchy.is_of_a_daemon(&folder) {
        return Err(PlaceError::Fenced(folder));
    }
    if holds_us(&folder, mount) {
        return Err(PlaceError::HoldsUs(folder));
    }
    Ok(Cgroup::open(folder)?)
}

/// Why a cgroup is not adopted.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("`{}` is not in the cgroup2 hierarchy", .0.display())]
    Outside(PathBuf),
    #[error("the root of the hierarchy holds every process, egressd too: adopt a cgroup below it")]
    Root,
    #[error("`{}` is {MAX_DEPTH} or more levels deep, where the programs do not look: adopt one above it", .0.display())]
    Deep(PathBuf),
    #[error("`{}` has a name that nft cannot be told", .0.display())]
    Unspeakable(PathBuf),
    #[error("`{}` belongs to a daemon, and is fenced already", .0.display())]
    Fenced(PathBuf),
    #[error("`{}` holds egressd itself: adopt a cgroup that does not", .0.display())]
    HoldsUs(PathBuf),
}

/// As many levels as the programs search for an agent (egress-ebpf, agent.rs).
const MAX_DEPTH: usize = 12;

/// True if that cannot be told.
fn holds_us(folder: &Path, mount: &Path) -> bool {
    let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = memberships.lines().find_map(|line| line.strip_prefix("0::/"));
    own.is_none_or(|own| mount.join(own).starts_with(folder))
}
