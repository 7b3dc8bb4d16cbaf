//! The namespaces of one sealed agent: of users, and, owned by it, of the network.
//!
//! The user namespace maps every user to itself. In it an agent of uid 0 owns files as ever, while
//! none of its capabilities reaches further than its own namespaces.

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns},
    sys::wait::waitpid,
    unistd::{Pid, pipe2},
};
use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Where the namespaces of one agent are kept: files that hold them open for the next daemon.
#[derive(Debug, Clone)]
pub struct Namespaces {
    folder: PathBuf,
}

impl Namespaces {
    /// Makes both namespaces, and holds them in `folder`, which must exist.
    ///
    /// # Errors
    /// Names what the kernel refuses.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let namespaces = Self { folder: folder.to_owned() };
        let parked = Parked::start()?;
        parked.map_users()?;
        for (file, kind) in [(namespaces.user(), "user"), (namespaces.network(), "net")] {
            File::create(&file)?;
            let source = PathBuf::from(format!("/proc/{}/ns/{kind}", parked.child));
            mount(Some(&source), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|error| named("hold", &file, error))?;
        }
        Ok(namespaces)
    }

    /// Those that an earlier daemon holds in `folder`.
    #[must_use]
    pub fn held_in(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    #[must_use]
    pub fn user(&self) -> PathBuf {
        self.folder.join("user")
    }

    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.folder.join("net")
    }

    /// Runs `act` on a thread in the network namespace. Sockets that it makes stay there.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = File::open(self.network())?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(act())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Lets go of both. They live for as long as a process is in them.
    pub fn release(&self) {
        for file in [self.network(), self.user()] {
            // What is not there needs no removing.
            let _ = umount2(&file, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(&file);
        }
    }
}

/// A process that does nothing but be in new namespaces, until this is dropped.
struct Parked {
    child: Pid,
    /// The child ends when this is closed.
    hold: Option<OwnedFd>,
}

impl Parked {
    fn start() -> io::Result<Self> {
        let (wait, hold) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::SIGCHLD;
        // SAFETY: without CLONE_VM this is fork(2). This process has threads, so the child makes
        // system calls and nothing else: no allocation, no lock.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        match child {
            0 => {
                // SAFETY: the descriptors are this process's own copies; the octet is never written.
                unsafe {
                    libc::close(hold.as_raw_fd());
                    let mut octet = 0_u8;
                    libc::read(wait.as_raw_fd(), (&raw mut octet).cast(), 1);
                    libc::_exit(0)
                }
            }
            child if child > 0 => {
                let child = Pid::from_raw(i32::try_from(child).map_err(io::Error::other)?);
                Ok(Self { child, hold: Some(hold) })
            }
            _ => Err(io::Error::other(format!(
                "failed to make a user and a network namespace: {}; is user.max_user_namespaces 0? \
                 `--mode cgroup` needs neither",
                Errno::last().desc()
            ))),
        }
    }

    /// Every user and group that we know, as itself (user_namespaces(7)).
    fn map_users(&self) -> io::Result<()> {
        for map in ["uid_map", "gid_map"] {
            let ours = fs::read_to_string(format!("/proc/self/{map}"))?;
            let path = format!("/proc/{}/{map}", self.child);
            fs::write(&path, identity(&ours))
                .map_err(|error| io::Error::other(format!("`{path}`: {error}")))?;
        }
        Ok(())
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = waitpid(self.child, None);
    }
}

/// The map that maps every id of `ours` to itself.
fn identity(ours: &str) -> String {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (first, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{first} {first} {count}\n"))
    };
    ours.lines().filter_map(line).collect()
}

fn named(act: &str, path: &Path, error: Errno) -> io::Error {
    io::Error::other(format!("failed to {act} `{}`: {}", path.display(), error.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_is_mapped_to_itself() {
        assert_eq!(identity("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(identity("0 100000 65536\n65536 1000 1\n"), "0 0 65536\n65536 65536 1\n");
    }
}
