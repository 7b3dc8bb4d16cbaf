//! What the processes of a cgroup hold that was there before the fence.

use super::{
    privilege::Rights,
    process::{Process, members, namespace},
    socket::{Flow, Held, Standing},
};
use crate::datapath::cgroup::Cgroup;
use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// What was found in a cgroup whose processes stand still, and that carries the programs already.
#[derive(Debug, Default)]
pub struct Inspection {
    pub findings: Vec<Finding>,
    /// Open flows of sockets that the fence sees, to be cut.
    flows: Vec<(Process, Held)>,
    /// Processes that hold Unix sockets, and those that setuid programs would give privileges.
    pub with_unix_sockets: usize,
    pub may_grow: usize,
    /// The network namespaces that its processes are in: a file to open, and what identifies it.
    pub networks: Vec<(PathBuf, (u64, u64))>,
}

/// Something that the fence does not hold against, or that was open before it stood.
#[derive(Debug)]
pub struct Finding {
    pub process: Process,
    pub what: What,
}

/// What was found in one process.
#[derive(Debug)]
pub enum What {
    /// A flow of a socket that was made in the cgroup: from its next packet on it is judged.
    Flow(String),
    /// A socket that was made elsewhere. It sends past the programs, and only the end of the process
    /// takes it away: destroyed, it could be connected anew.
    Foreign(String),
    /// Something else by which it sends past the programs, or may do so.
    WayAround(String),
    /// A privilege that reaches around or below the programs.
    Privilege(String),
}

/// The sockets from elsewhere that have come into `cgroup`, whose processes run. What goes meanwhile is
/// left out.
#[must_use]
pub fn strangers(cgroup: &Cgroup) -> Vec<Finding> {
    let mut inspection = Inspection::default();
    let mut budget = MAX_DESCRIPTORS;
    for process in members(cgroup).unwrap_or_default() {
        let (Ok(pidfd), Ok(entries)) = (process.open(), fs::read_dir(process.path("fd"))) else { continue };
        for entry in entries.flatten().take(budget) {
            budget -= 1;
            // What was closed meanwhile cannot be looked at, and must not hide the rest.
            let _ = inspection.look_at_descriptor(&process, &pidfd, &entry);
        }
    }
    inspection.findings.retain(|finding| matches!(finding.what, What::Foreign(_)));
    inspection.findings
}

/// Looks at every process of `cgroup`, at its descriptors, mappings and privileges.
///
/// # Errors
/// Something could not be looked at, and nothing can be said of it then.
pub fn inspect(cgroup: &Cgroup, hierarchy: &Path) -> Result<Inspection, InspectError> {
    let mut inspection = Inspection::default();
    let mut budget = MAX_DESCRIPTORS;
    for process in members(cgroup).map_err(InspectError::Members)? {
        match inspection.look_at(&process, cgroup, hierarchy, &mut budget) {
            Ok(()) => {}
            Err(_) if process.is_gone() => {}
            Err(InspectFailure::TooMany) => return Err(InspectError::TooMany),
            Err(InspectFailure::Look(error)) => return Err(InspectError::Look { process, error }),
        }
    }
    Ok(inspection)
}

impl Inspection {
    /// Cuts the open flows, and returns those that could not be cut.
    pub fn cut_flows(&self) -> Vec<(Process, io::Error)> {
        let failures =
            self.flows.iter().filter_map(|(process, held)| Some((process.clone(), held.cut().err()?)));
        failures.collect()
    }

    fn look_at(
        &mut self,
        process: &Process,
        cgroup: &Cgroup,
        hierarchy: &Path,
        budget: &mut usize,
    ) -> Result<(), InspectFailure> {
        if process.is_gone() {
            return Ok(());
        }
        self.look_at_threads(process)?;
        self.look_at_mappings(process)?;
        self.look_at_descriptors(process, budget)?;
        self.look_at_rights(process, cgroup, hierarchy)?;
        let network = process.path("ns/net");
        let identity = namespace(&network)?;
        if !self.networks.iter().any(|(_, known)| *known == identity) {
            self.networks.push((network, identity));
        }
        Ok(())
    }

    fn look_at_threads(&mut self, process: &Process) -> io::Result<()> {
        for thread in process.threads()? {
            if process.is_ring_worker(thread) {
                self.find(process, What::WayAround("a worker thread of io_uring".to_owned()));
            } else if !process.shares_descriptors(thread) {
                self.find(process, What::WayAround(format!("thread {thread}, with descriptors of its own")));
            }
        }
        Ok(())
    }

    /// What is mapped lives on when its descriptor is closed.
    fn look_at_mappings(&mut self, process: &Process) -> io::Result<()> {
        let maps = fs::read_to_string(process.path("maps"))?;
        let kinds: BTreeSet<&str> = maps.lines().filter_map(mapped_kind).collect();
        kinds.into_iter().for_each(|kind| self.find(process, What::WayAround(format!("a mapped {kind}"))));
        Ok(())
    }

    fn look_at_descriptors(&mut self, process: &Process, budget: &mut usize) -> Result<(), InspectFailure> {
        let pidfd = process.open()?;
        let mut holds_unix_socket = false;
        for entry in fs::read_dir(process.path("fd"))? {
            *budget = budget.checked_sub(1).ok_or(InspectFailure::TooMany)?;
            holds_unix_socket |= self.look_at_descriptor(process, &pidfd, &entry?)?;
        }
        self.with_unix_sockets += usize::from(holds_unix_socket);
        Ok(())
    }

    /// Returns whether it is a Unix socket, through which more may come.
    fn look_at_descriptor(
        &mut self,
        process: &Process,
        pidfd: &OwnedFd,
        entry: &fs::DirEntry,
    ) -> io::Result<bool> {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            return Ok(false);
        };
        let target = fs::read_link(entry.path())?;
        let target = target.to_string_lossy();
        if target.starts_with("socket:[") {
            return self.look_at_socket(process, pidfd, number);
        }
        if target.as_ref() == "anon_inode:[io_uring]" {
            self.find(process, What::WayAround(format!("descriptor {number}, an io_uring")));
        } else if target.starts_with('/')
            && let Some(what) = way_around(process, number, &entry.path(), &target)?
        {
            self.find(process, What::WayAround(format!("descriptor {number}, {what}")));
        }
        Ok(false)
    }

    fn look_at_socket(&mut self, process: &Process, pidfd: &OwnedFd, number: i32) -> io::Result<bool> {
        let held = Held::take(pidfd, number)?;
        let told = |why: &str| format!("descriptor {number}, {held}, {why}");
        let around = |why: &str| What::WayAround(told(why));
        let found = match held.standing()? {
            Standing::Fenced(Flow::None) => return Ok(false),
            Standing::Fenced(Flow::Open) => What::Flow(format!("descriptor {number}, {held}")),
            Standing::FencedOther => around("which cannot be cut"),
            Standing::Foreign => What::Foreign(told("which was made outside of the cgroup")),
            Standing::BesideIp => around("which no program on a cgroup sees"),
            Standing::Local => match in_flight(process, number)? {
                0 => return Ok(held.is_unix()),
                count => around(&format!("with {count} descriptor(s) on their way in it")),
            },
        };
        let is_flow = matches!(found, What::Flow(_));
        self.find(process, found);
        if is_flow {
            self.flows.push((process.clone(), held));
        }
        Ok(false)
    }

    fn look_at_rights(&mut self, process: &Process, cgroup: &Cgroup, hierarchy: &Path) -> io::Result<()> {
        let rights = Rights::of(process)?;
        let dangerous = rights.dangerous(process)?;
        if !dangerous.is_empty() {
            self.find(process, What::Privilege(dangerous.join(", ")));
        }
        if let Some(file) = rights.way_out(process, cgroup, hierarchy)? {
            self.find(process, What::Privilege(format!("it can leave the cgroup by `{}`", file.display())));
        }
        self.may_grow += usize::from(rights.may_grow());
        Ok(())
    }

    fn find(&mut self, process: &Process, what: What) {
        self.findings.push(Finding { process: process.clone(), what });
    }
}

/// Why nothing can be said of a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Members(io::Error),
    #[error("failed to look at process {pid} `{command}`: {error}", pid = process.pid, command = process.command)]
    Look { process: Process, error: io::Error },
    #[error("its processes hold more than {MAX_DESCRIPTORS} descriptors")]
    TooMany,
}

/// The same, before it is known of which process.
enum InspectFailure {
    TooMany,
    Look(io::Error),
}

impl From<io::Error> for InspectFailure {
    fn from(error: io::Error) -> Self {
        Self::Look(error)
    }
}

/// Descriptors of all processes together: looking at them takes a second or two, for which the
/// cgroup stands still.
const MAX_DESCRIPTORS: usize = 1 << 18;

/// What a line of proc_pid_maps(5) maps, if it is not of a file system.
fn mapped_kind(line: &str) -> Option<&'static str> {
    let path = line.splitn(6, ' ').nth(5)?.trim_start();
    match path {
        _ if path.starts_with("socket:[") => Some("socket"),
        "anon_inode:[io_uring]" => Some("io_uring"),
        _ => None,
    }
}

/// The descriptors that somebody sent and nobody received yet: they can be of any kind.
fn in_flight(process: &Process, number: i32) -> io::Result<u64> {
    let info = fs::read_to_string(process.path(&format!("fdinfo/{number}")))?;
    let count = info.lines().find_map(|line| line.strip_prefix("scm_fds:"));
    Ok(count.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
}

/// What a file lets its holder do that the fence does not hold against, if it does: put frames on a
/// wire, or leave the cgroup by the rights of whoever opened it.
fn way_around(process: &Process, number: i32, path: &Path, target: &str) -> io::Result<Option<&'static str>> {
    if target.ends_with("/cgroup.procs") || target.ends_with("/cgroup.threads") {
        return Ok(may_write(process, number)?.then_some("a list of processes of a cgroup, to be written"));
    }
    let Some((major, minor)) = character_device(path)? else { return Ok(None) };
    // Documentation/admin-guide/devices.txt
    Ok(match (major, minor) {
        (10, 200) => Some("a tun or tap device"),
        (10, 238) => Some("vhost-net"),
        (10, 241) => Some("vhost-vsock"),
        (108, _) => Some("a ppp device"),
        // Their numbers are given out as they come.
        _ if target.starts_with("/dev/tap") => Some("a macvtap device"),
        _ => None,
    })
}

/// Whether a descriptor was opened for writing (proc_pid_fdinfo(5): octal, as of open(2)).
fn may_write(process: &Process, number: i32) -> io::Result<bool> {
    let info = fs::read_to_string(process.path(&format!("fdinfo/{number}")))?;
    let flags =
        info.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    Ok(flags.is_none_or(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY))
}

/// Does not ask a file server that may never answer (statx(2)).
fn character_device(path: &Path) -> io::Result<Option<(u32, u32)>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: all-zero octets are a statx; the kernel writes it whole.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_STATX_DONT_SYNC;
    // SAFETY: both pointers are valid.
    let outcome =
        unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, libc::STATX_TYPE, &raw mut found) };
    nix::errno::Errno::result(outcome)?;
    let is_character_device = u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFCHR;
    Ok(is_character_device.then_some((found.stx_rdev_major, found.stx_rdev_minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_told_from_a_file_that_is_called_like_one() {
        let line = |path: &str| format!("7f00-7f01 rw-s 00000000 00:0f 4026 {path}");
        assert_eq!(mapped_kind(&line("                     anon_inode:[io_uring]")), Some("io_uring"));
        assert_eq!(mapped_kind(&line("   socket:[123]")), Some("socket"));
        assert_eq!(mapped_kind(&line("  /tmp/socket:[123]")), None);
        assert_eq!(mapped_kind("7f00-7f01 rw-p 00000000 00:00 0 "), None);
    }
}
