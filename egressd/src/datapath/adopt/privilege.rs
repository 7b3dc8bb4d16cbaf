//! What a process may do that a fence made of cgroup programs does not hold against.

use super::process::{Process, namespace};
use crate::datapath::cgroup::Cgroup;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The rights of one process (proc_pid_status(5)).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rights {
    user: u32,
    groups: Vec<u32>,
    permitted: u64,
    bounding: u64,
    no_new_privileges: bool,
}

impl Rights {
    /// # Errors
    /// The process is gone.
    pub fn of(process: &Process) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(process.path("status"))?))
    }

    /// Whether a setuid program would give it more than it has.
    pub fn may_grow(&self) -> bool {
        !self.no_new_privileges && self.bounding & !self.permitted != 0
    }

    /// Names of those capabilities that reach below or around the programs.
    ///
    /// # Errors
    /// The process is gone.
    pub fn dangerous(&self, process: &Process) -> io::Result<Vec<&'static str>> {
        let here = |kind: &str| namespace(&Path::new("/proc/self/ns").join(kind));
        // In a user namespace of its own it has no power over a network that is ours.
        if process.namespace("user")? != here("user")? && process.namespace("net")? == here("net")? {
            return Ok(Vec::new());
        }
        let held = DANGEROUS.iter().filter(|(number, _)| self.permitted & (1 << number) != 0);
        Ok(held.map(|(_, name)| *name).collect())
    }

    /// The file by which the process could move itself out of `cgroup`, if there is one: cgroups(7)
    /// wants leave to write to a common ancestor.
    ///
    /// # Errors
    /// The process is gone.
    pub fn way_out(
        &self,
        process: &Process,
        cgroup: &Cgroup,
        hierarchy: &Path,
    ) -> io::Result<Option<PathBuf>> {
        let below = cgroup.path().strip_prefix(hierarchy).unwrap_or(cgroup.path());
        let mounts = fs::read_to_string(process.path("mountinfo"))?;
        if !mounts.lines().any(|line| shows_ancestors(line, &Path::new("/").join(below))) {
            return Ok(None);
        }
        let ancestors = cgroup.path().ancestors().skip(1).take_while(|folder| folder.starts_with(hierarchy));
        let mut files = ancestors.map(|folder| folder.join("cgroup.procs"));
        Ok(files.find(|file| self.may_write(file)))
    }

    fn may_write(&self, file: &Path) -> bool {
        let Ok(found) = fs::metadata(file) else { return false };
        let mode = found.mode();
        self.permitted & OVERRIDES != 0
            || found.uid() == self.user
            || (mode & 0o020 != 0 && self.groups.contains(&found.gid()))
            || mode & 0o002 != 0
    }

    fn parse(status: &str) -> Self {
        let line = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let numbers = |name: &str| line(name).split_whitespace().filter_map(|number| number.parse().ok());
        // What cannot be read is held to be all of it.
        let set = |name: &str| u64::from_str_radix(line(name), 16).unwrap_or(u64::MAX);
        Self {
            // Of the four, the one by which files are opened.
            user: numbers("Uid").nth(3).unwrap_or(0),
            groups: numbers("Gid").skip(3).chain(numbers("Groups")).collect(),
            permitted: set("CapPrm"),
            bounding: set("CapBnd"),
            no_new_privileges: line("NoNewPrivs") == "1",
        }
    }
}

/// include/uapi/linux/capability.h: frames below IP, other namespaces, other processes, the kernel.
const DANGEROUS: [(u32, &str); 8] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (16, "CAP_SYS_MODULE"),
    (17, "CAP_SYS_RAWIO"),
    (19, "CAP_SYS_PTRACE"),
    (21, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, SETGID and SETUID: each makes a file writable, sooner or later.
const OVERRIDES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7;

/// Whether a line of mountinfo is a cgroup2 hierarchy that shows more than what is in `cgroup`
/// (proc_pid_mountinfo(5)). Also where it is read-only: clone3(2) with CLONE_INTO_CGROUP asks for the
/// rights over `cgroup.procs` alone.
fn shows_ancestors(line: &str, cgroup: &Path) -> bool {
    let Some((left, right)) = line.split_once(" - ") else { return false };
    let Some(root) = left.split(' ').nth(3) else { return false };
    right.split(' ').next() == Some("cgroup2") && !Path::new(root).starts_with(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nUid:\t1000\t1000\t1000\t1001\nGid:\t5\t5\t5\t6\nGroups:\t7 8 \n\
                      CapPrm:\t0000000000003000\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\n";
        let rights = Rights::parse(status);
        assert_eq!((rights.user, rights.groups.as_slice()), (1001, [6, 7, 8].as_slice()));
        assert_eq!((rights.permitted, rights.no_new_privileges), (0x3000, true));
        assert!(!rights.may_grow());
        assert_eq!(Rights::parse("").permitted, u64::MAX, "what cannot be read is held to be all of it");
    }

    #[test]
    fn only_a_hierarchy_that_reaches_above_is_a_way_out() {
        let shows = |line| shows_ancestors(line, Path::new("/a/b"));
        assert!(shows("35 24 0:30 / /sys/fs/cgroup rw,relatime shared:10 - cgroup2 cgroup2 rw"));
        assert!(shows("35 24 0:30 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"));
        assert!(shows("35 24 0:30 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup2 rw"));
        assert!(!shows("35 24 0:30 /a/b /sys/fs/cgroup rw - cgroup2 cgroup2 rw"));
        assert!(!shows("35 24 0:30 /a/b/c /sys/fs/cgroup rw - cgroup2 cgroup2 rw"));
        assert!(!shows("35 24 0:30 / /tmp rw - tmpfs tmpfs rw"));
    }
}
