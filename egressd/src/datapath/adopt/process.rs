//! The processes of a cgroup, as `/proc` shows them.

use crate::datapath::cgroup::Cgroup;
use nix::errno::Errno;
use std::{
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// What it calls itself: up to 15 octets of its own choice.
    pub command: String,
}

/// Every process in `cgroup` and below it.
///
/// # Errors
/// A list cannot be read, as that of a threaded cgroup, or names a process that we cannot see.
pub fn members(cgroup: &Cgroup) -> io::Result<Vec<Process>> {
    let mut members = Vec::new();
    let mut folders = vec![cgroup.path().to_owned()];
    while let Some(folder) = folders.pop() {
        folders.extend(folders_in(&folder)?);
        let list = match fs::read_to_string(folder.join("cgroup.procs")) {
            // Removed just now.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            list => list.map_err(|error| named(&folder, &error))?,
        };
        for pid in list.lines() {
            match pid.parse() {
                Ok(0) | Err(_) => {
                    return Err(named(
                        &folder,
                        &io::Error::other("it holds processes of another pid namespace"),
                    ));
                }
                Ok(pid) => members.push(Process { pid, command: command(pid) }),
            }
        }
    }
    Ok(members)
}

/// Kills one process, and no other that has its number by then.
///
/// # Errors
/// The kernel refuses. That it is gone is none.
pub fn kill(process: &Process) -> io::Result<()> {
    let outcome = process.open().and_then(|pidfd| {
        // SAFETY: the call takes integers and a null pointer for no further information.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        Ok(Errno::result(sent).map(drop)?)
    });
    match outcome {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Process {
    /// Its file or folder `name` in `/proc`.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    pub fn open(&self) -> io::Result<OwnedFd> {
        // SAFETY: the call takes integers, and gives a descriptor of ours.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        let opened = i32::try_from(Errno::result(opened)?).map_err(io::Error::other)?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(opened) })
    }

    /// Dead, with nothing left but its exit code.
    pub fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(self.path("stat")).unwrap_or_default();
        fields_of(&stat).next().is_none_or(|state| matches!(state, "Z" | "X"))
            && self.threads().is_ok_and(|threads| threads.len() <= 1)
    }

    /// Numbers of its threads.
    pub fn threads(&self) -> io::Result<Vec<u32>> {
        match fs::read_dir(self.path("task")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => {
                Ok(entries?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
            }
        }
    }

    /// Whether `thread` does io_uring's work, in the name of a ring that somebody set up.
    pub fn is_ring_worker(&self, thread: u32) -> bool {
        let stat = fs::read_to_string(self.path(&format!("task/{thread}/stat"))).unwrap_or_default();
        // proc_pid_stat(5): the flags are the seventh field from the state on.
        let flags = fields_of(&stat).nth(6).and_then(|flags| flags.parse::<u64>().ok());
        flags.is_some_and(|flags| flags & PF_IO_WORKER != 0)
    }

    /// Whether `thread` has the descriptors of its process (kcmp(2)). False if that cannot be told.
    pub fn shares_descriptors(&self, thread: u32) -> bool {
        // SAFETY: the call takes integers.
        thread == self.pid
            || unsafe { libc::syscall(libc::SYS_kcmp, self.pid, thread, KCMP_FILES, 0, 0) } == 0
    }

    /// The namespace of `kind` (`net`, `user`) that it is in.
    pub fn namespace(&self, kind: &str) -> io::Result<(u64, u64)> {
        namespace(&self.path("ns").join(kind))
    }
}

/// What identifies the namespace at `path`: namespaces(7), device and inode.
pub fn namespace(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// include/uapi/linux/kcmp.h
const KCMP_FILES: i32 = 2;

/// include/linux/sched.h
const PF_IO_WORKER: u64 = 0x10;

/// The fields of a line of proc_pid_stat(5) from the state on: a name may hold anything.
fn fields_of(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace()
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn folders_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| named(folder, &error))?,
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(folders.map(|entry| entry.path()).collect())
}

fn named(folder: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("failed to list the processes of `{}`: {error}", folder.display()))
}
