//! What a daemon leaves in the kernel so that the fence outlives it, and how a test removes it.
//!
//! All of it bears the name of the lab: the cgroup above the agents, and the bpffs of pins in the
//! lab's folder. The nftables table goes with the namespace.

use crate::program::poll_for;
use nix::mount::{MntFlags, umount2};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Removes what bears `name`, the processes in its cgroups included. What fails here is left for
/// a later lab: this runs in drops, which must not panic.
pub fn remove(name: &str) {
    for cgroup in cgroups().into_iter().filter(|path| bears(path, name)) {
        let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        // A cgroup goes when its last process is reaped, which the kernel does in its own time.
        let _ = poll_for(Duration::from_secs(2), || remove_cgroup(&cgroup).then_some(()));
    }
    let mounts = mounts("bpf").into_iter().chain(mounts("nsfs"));
    for mount in mounts.filter(|path| bears(path, name)) {
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
}

/// Names that traces bear and that begin with `prefix`.
pub fn names(prefix: &str) -> Vec<String> {
    let paths = cgroups().into_iter().chain(mounts("bpf"));
    let words = paths.flat_map(|path| {
        let text = path.to_string_lossy().into_owned();
        text.split(['/', '-']).map(str::to_owned).collect::<Vec<_>>()
    });
    words.filter(|word| word.starts_with(prefix)).collect()
}

/// The cgroups at the top of the cgroup2 hierarchy.
pub fn cgroups() -> Vec<PathBuf> {
    let entries = mounts("cgroup2").into_iter().filter_map(|mount| fs::read_dir(mount).ok());
    let paths = entries.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    paths.filter(|path| path.is_dir()).collect()
}

fn remove_cgroup(cgroup: &Path) -> bool {
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_cgroup(&child.path());
        }
    }
    fs::remove_dir(cgroup).is_ok()
}

/// Mount points of filesystems of `kind` (proc(5), mounts).
fn mounts(kind: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|fields| fields.get(2) == Some(&kind)).map(|fields| PathBuf::from(fields[1])).collect()
}

/// Whether a word of `path` is `name`. A folder may have more behind a hyphen.
fn bears(path: &Path, name: &str) -> bool {
    path.to_string_lossy().split(['/', '-']).any(|word| word == name)
}
