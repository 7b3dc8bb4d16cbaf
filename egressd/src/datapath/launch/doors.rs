//! Doors to deputies: Unix sockets at which processes outside would send, resolve names, start
//! programs or type for an agent.
//!
//! An agent gets a `/run` of its own, where nearly all of them are, and does not see those that are
//! elsewhere when it starts. One that may speak to the host's sockets sees all but the known ones.

use super::mounts::{hide, mount_with, named};
use nix::{
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sys::stat::Mode,
    unistd::{Uid, chown},
};
use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, FileTypeExt, PermissionsExt, symlink},
        },
    },
    path::{Path, PathBuf},
};

/// The doors of the host, as they were found.
#[derive(Debug)]
pub struct Doors {
    bound: Vec<PathBuf>,
    stay_open: bool,
    /// Whose folder below `/run/user` is made.
    user: Uid,
}

impl Doors {
    /// Looks for them: to be asked in the network namespace of the host.
    ///
    /// # Errors
    /// The kernel's list cannot be read.
    pub fn find(stay_open: bool, user: Uid) -> Result<Self, String> {
        let list =
            fs::read("/proc/net/unix").map_err(|error| format!("failed to list Unix sockets: {error}"))?;
        let bound = list.split(|octet| *octet == b'\n').filter_map(bound_path).collect();
        Ok(Self { bound, stay_open, user })
    }

    /// Closes them in the mount namespace that this process was cloned into, and has `resolv_conf` seen
    /// in place of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// Names the mount that failed.
    pub fn close(self, resolv_conf: Option<&Path>) -> Result<(), String> {
        let text = resolv_conf.map(|path| (path, fs::read(path)));
        let text = match text {
            Some((path, Err(error))) => return Err(format!("failed to read `{}`: {error}", path.display())),
            Some((_, Ok(text))) => Some(text),
            None => None,
        };
        let resolver = real_path(Path::new(RESOLVER));
        if !self.stay_open {
            make_own_run(self.user)?;
        }
        if let (Some(text), Some(resolver)) = (text, resolver) {
            replace(&resolver, resolv_conf.filter(|_| self.stay_open), &text)?;
        }
        known().iter().try_for_each(|path| hide(path))?;
        if self.stay_open {
            return Ok(());
        }
        let is_socket = |path: &&PathBuf| fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
        self.bound.iter().filter(is_socket).try_for_each(|path| hide(path))
    }
}

const RUN: &str = "/run";
const RESOLVER: &str = "/etc/resolv.conf";

/// What of the host's `/run` an agent sees too: the programs of NixOS, and what containers are handed.
const KEPT: [&str; 7] = [
    "booted-system",
    "current-system",
    "opengl-driver",
    "opengl-driver-32",
    "wrappers",
    "secrets",
    ".containerenv",
];

/// Something of the host's `/run` that is put into the agent's.
enum Kept {
    Link(PathBuf),
    Mount { source: OwnedFd, is_folder: bool },
}

/// A `/run` in which nobody listens but the agent.
fn make_own_run(user: Uid) -> Result<(), String> {
    let run = Path::new(RUN);
    let kept: Vec<_> =
        KEPT.iter().filter_map(|name| Some((run.join(name), keep(&run.join(name))?))).collect();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("egressd"), run, Some("tmpfs"), flags, Some("mode=755,size=64m"))
        .map_err(named("cover", run))?;
    let failed = |error: io::Error| format!("failed to furnish `{RUN}`: {error}");
    for (path, kept) in kept {
        match kept {
            Kept::Link(to) => symlink(to, &path).map_err(failed)?,
            Kept::Mount { source, is_folder } => {
                let made = if is_folder { fs::create_dir(&path) } else { fs::File::create(&path).map(drop) };
                made.map_err(failed)?;
                let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
                mount_with(Some(&source), &path, MsFlags::MS_BIND | MsFlags::MS_REC)
                    .map_err(named("keep", &path))?;
            }
        }
    }
    let own = run.join("user").join(user.to_string());
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&own).map_err(failed)?;
    fs::set_permissions(&own, Permissions::from_mode(0o700)).map_err(failed)?;
    chown(&own, Some(user), None).map_err(|error| failed(error.into()))?;
    let locks = run.join("lock");
    fs::create_dir(&locks).map_err(failed)?;
    fs::set_permissions(&locks, Permissions::from_mode(0o1777)).map_err(failed)?;
    let older = Path::new("/var/run");
    match fs::symlink_metadata(older) {
        Ok(found) if found.is_dir() => {
            mount_with(Some(run), older, MsFlags::MS_BIND).map_err(named("cover", older))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn keep(path: &Path) -> Option<Kept> {
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_symlink() {
        return fs::read_link(path).ok().map(Kept::Link);
    }
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    Some(Kept::Mount { source, is_folder: found.is_dir() })
}

/// Where a path leads, links followed.
fn real_path(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// Has the agent see `text` at `path`: what is at `source`, or, in a `/run` of its own, a file there.
fn replace(path: &Path, source: Option<&Path>, text: &[u8]) -> Result<(), String> {
    let failed = |error: io::Error| format!("failed to write `{}`: {error}", path.display());
    if source.is_none() && path.starts_with(RUN) {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(RUN))).map_err(failed)?;
        return fs::write(path, text).map_err(failed);
    }
    let own = Path::new(RUN).join("resolv.conf");
    if source.is_none() {
        fs::write(&own, text).map_err(failed)?;
    }
    mount_with(Some(source.unwrap_or(&own)), path, MsFlags::MS_BIND).map_err(named("replace", path))
}

/// The path of a line of `/proc/net/unix`, if it has one (proc_pid_net(5)): the eighth field, and all
/// that follows it.
fn bound_path(line: &[u8]) -> Option<PathBuf> {
    let mut rest = line;
    for _ in 0..7 {
        let end = rest.iter().position(|octet| *octet == b' ')?;
        let next = rest.get(end..)?.iter().position(|octet| *octet != b' ')?;
        rest = rest.get(end + next..)?;
    }
    rest.starts_with(b"/").then(|| PathBuf::from(std::ffi::OsStr::from_bytes(rest)))
}

/// What is there of [`KNOWN`], of those below the folder of every user, and of tmux.
fn known() -> Vec<PathBuf> {
    // Users choose what these paths lead to. Only sockets and real folders are hidden, lest a link
    // hides from other agents what they need.
    let is_socket = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let is_tmux = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"tmux-"));
    let of_users = entries("/run/user")
        .flat_map(|user| KNOWN_OF_USERS.map(|deputy| user.join(deputy)))
        .filter(is_socket);
    let of_tmux = entries("/tmp").filter(is_tmux).filter(is_folder);
    KNOWN.map(PathBuf::from).into_iter().chain(of_users).chain(of_tmux).collect()
}

/// The entries of a folder; none where it cannot be read.
fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Sockets, and folders of sockets, of programs that would resolve names, start processes or type
/// into a shell for an agent, outside its cgroup.
const KNOWN: [&str; 14] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/libvirt/libvirt-sock",
    "/run/snapd.socket",
    "/run/screen",
    "/var/run/screen",
];

/// The same below `/run/user/<uid>`.
const KNOWN_OF_USERS: [&str; 4] = ["bus", "systemd/private", "docker.sock", "podman/podman.sock"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_path_is_what_follows_the_seventh_field() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 14123 /run/my door/x.sock";
        assert_eq!(bound_path(line), Some(PathBuf::from("/run/my door/x.sock")));
        assert_eq!(bound_path(b"0000000000000000: 00000002 00000000 00010000 0001 01     9 @abstract"), None);
        assert_eq!(bound_path(b"0000000000000000: 00000002 00000000 00000000 0002 01   9"), None);
        assert_eq!(bound_path(b"Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
