//! The cgroups of agents, all below one that carries the programs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The cgroup2 hierarchy, wherever this host mounts it.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    mount: PathBuf,
}

impl Hierarchy {
    /// Finds the hierarchy in `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// No cgroup2 is mounted.
    pub fn find() -> Result<Self, CgroupError> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mountinfo)?;
        let mount = mountinfo.lines().find_map(cgroup2_mount).ok_or(CgroupError::NotMounted)?;
        Ok(Self { mount })
    }

    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Makes the cgroup `name` below the root of the hierarchy, or takes the one that is there.
    ///
    /// # Errors
    /// The kernel refuses to make it.
    pub fn create(&self, name: &str) -> Result<Cgroup, CgroupError> {
        Cgroup::create(self.mount.join(name))
    }

    /// The path of `cgroup` as `/proc/PID/cgroup` has it; None where it is not of this hierarchy.
    #[must_use]
    pub fn path_of(&self, cgroup: &Cgroup) -> Option<String> {
        let below = cgroup.path().strip_prefix(&self.mount).ok()?;
        Some(format!("/{}", below.display()))
    }

    /// Whether `folder` is the cgroup of agents of a daemon, or below it.
    #[must_use]
    pub fn is_of_a_daemon(&self, folder: &Path) -> bool {
        let below = folder.strip_prefix(&self.mount).unwrap_or(folder);
        below.to_string_lossy().starts_with(ROOT_PREFIX)
    }

    /// The folder of the cgroup that the kernel knows by `id`. None where it is gone, or cannot be seen from here.
    /// Walks the hierarchy: a thousand cgroups take some milliseconds.
    #[must_use]
    pub fn folder_of(&self, id: u64) -> Option<PathBuf> {
        if fs::metadata(&self.mount).ok()?.ino() == id {
            return Some(self.mount.clone());
        }
        let mut unseen = vec![self.mount.clone()];
        while let Some(folder) = unseen.pop() {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if entry.ino() == id {
                    return Some(entry.path());
                }
                unseen.push(entry.path());
            }
        }
        None
    }

    /// Whether the process `pid` is in `cgroup` or below it, or in the cgroup of agents of another
    /// daemon. True where that cannot be told: whoever asks wants to keep such a process out.
    #[must_use]
    pub fn holds(&self, cgroup: &Cgroup, pid: u32) -> bool {
        let Ok(memberships) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return true };
        let Some(own) = memberships.lines().find_map(|line| line.strip_prefix("0::/")) else { return true };
        own.starts_with(ROOT_PREFIX) || self.mount.join(own).starts_with(&cgroup.path)
    }
}

/// What the cgroups that carry programs of ours are called, right below the root of the hierarchy.
const ROOT_PREFIX: &str = "egressd";

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
    id: u64,
}

impl Cgroup {
    /// Makes the cgroup `name` below this one, or takes the one that is there.
    ///
    /// # Errors
    /// The kernel refuses to make it.
    pub fn child(&self, name: &str) -> Result<Self, CgroupError> {
        Self::create(self.path.join(name))
    }

    /// Bounds what an agent that finds a writable hierarchy can build below this cgroup: whoever
    /// removes it has to walk all of it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn bound_descendants(&self) -> Result<(), CgroupError> {
        let write = |file: &str, bound: &str| fs::write(self.path.join(file), bound);
        write("cgroup.max.depth", "8")
            .and_then(|()| write("cgroup.max.descendants", "256"))
            .map_err(|error| CgroupError::Create(self.path.clone(), error))
    }

    /// Opens a cgroup that exists.
    ///
    /// # Errors
    /// There is none at `path`.
    pub fn open(path: PathBuf) -> Result<Self, CgroupError> {
        // kernfs: on 64-bit hosts the inode number is the cgroup id of bpf_skb_cgroup_id.
        let id = fs::metadata(&path).map_err(|error| CgroupError::Open(path.clone(), error))?.ino();
        Ok(Self { path, id })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id by which the kernel programs know this cgroup.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The folder, to attach programs to or to clone into.
    ///
    /// # Errors
    /// It is gone.
    pub fn file(&self) -> Result<File, CgroupError> {
        File::open(&self.path).map_err(|error| CgroupError::Open(self.path.clone(), error))
    }

    /// Whether a process lives in this cgroup or below it. True if that cannot be told.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => !events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// How many processes live in this cgroup, not counting those below it.
    #[must_use]
    pub fn processes(&self) -> u32 {
        let list = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        u32::try_from(list.lines().count()).unwrap_or(u32::MAX)
    }

    /// Kills every process in this cgroup and below it (`cgroup.kill`, Linux 5.14).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&self) -> Result<(), CgroupError> {
        fs::write(self.path.join("cgroup.kill"), "1")
            .map_err(|error| CgroupError::Kill(self.path.clone(), error))
    }

    /// The cgroups right below this one.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| Self::open(entry.path()).ok()).collect()
    }

    /// Stops every process in this cgroup and below it, until it is thawed (`cgroup.freeze`, Linux
    /// 5.2). They can be killed all the same.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen("1")
    }

    /// Lets what was frozen go on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen("0")
    }

    /// Whether this very cgroup was told to freeze.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.freeze")).is_ok_and(|state| state.trim() == "1")
    }

    fn set_frozen(&self, state: &str) -> Result<(), CgroupError> {
        fs::write(self.path.join("cgroup.freeze"), state)
            .map_err(|error| CgroupError::Freeze(self.path.clone(), error))
    }

    /// Removes this cgroup and the empty ones below it.
    ///
    /// # Errors
    /// A process still lives there.
    pub fn remove(&self) -> Result<(), CgroupError> {
        remove_tree(&self.path).map_err(|error| CgroupError::Remove(self.path.clone(), error))
    }

    /// Kills whatever lives in this cgroup, waits for its end, and removes it.
    ///
    /// # Errors
    /// A process lives on.
    pub fn remove_with_all(&self) -> Result<(), CgroupError> {
        self.kill()?;
        let deadline = Instant::now() + LAST_BREATH;
        while self.is_populated() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.remove()
    }

    fn create(path: PathBuf) -> Result<Self, CgroupError> {
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(CgroupError::Create(path, error)),
        }
        Self::open(path)
    }
}

/// How long a killed process may take to be gone: what it does in the kernel ends first.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("failed to read `/proc/self/mountinfo`: {0}")]
    Mountinfo(io::Error),
    #[error("no cgroup2 hierarchy is mounted; mount one: `mount -t cgroup2 none /sys/fs/cgroup`")]
    NotMounted,
    #[error("failed to create cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Create(PathBuf, io::Error),
    #[error("failed to open cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Open(PathBuf, io::Error),
    #[error("failed to kill cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Kill(PathBuf, io::Error),
    #[error("failed to freeze or thaw cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Freeze(PathBuf, io::Error),
    #[error("failed to remove cgroup `{path}`: {error}", path = .0.display(), error = .1)]
    Remove(PathBuf, io::Error),
}

/// The mount point of a line of mountinfo, if it is a whole cgroup2 hierarchy (proc(5)).
pub(super) fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    (right.split(' ').next()? == "cgroup2").then(|| left.split(' ').nth(4).map(PathBuf::from))?
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup2_hierarchy_is_found_wherever_it_is_mounted() {
        let hybrid = "35 24 0:30 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup2_mount("36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
    }
}
