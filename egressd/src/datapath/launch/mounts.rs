//! What an agent sees of the file system: cgroups that it cannot change, and nothing of ours.

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Fences the mount namespace that this process was cloned into: cgroups and kernel settings become
/// read-only, `hidden` and the sockets of [`DEPUTIES`] empty.
///
/// # Errors
/// Names the mount that failed.
pub fn fence(hidden: &[PathBuf]) -> Result<(), String> {
    let named = |act: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |error: Errno| format!("failed to {act} `{path}`: {}", error.desc())
    };
    let root = Path::new("/");
    // Mounts of the host still arrive; ours do not leave.
    mount_with(None, root, MsFlags::MS_SLAVE | MsFlags::MS_REC)
        .map_err(named("detach mounts below", root))?;
    // Of this process id namespace: processes outside can be neither seen nor traced.
    let proc = Path::new("/proc");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), proc, Some("proc"), flags, None::<&str>).map_err(named("mount", proc))?;
    for path in KERNEL_SETTINGS.map(Path::new).into_iter().filter(|path| path.exists()) {
        mount_with(Some(path), path, MsFlags::MS_BIND | MsFlags::MS_REC).map_err(named("bind", path))?;
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
        mount_with(None, path, read_only).map_err(named("make read-only", path))?;
    }
    for path in cgroup_mounts().map_err(|error| format!("failed to read mountinfo: {error}"))? {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
        mount_with(None, &path, read_only).map_err(named("make read-only", &path))?;
    }
    for path in hidden.iter().filter(|path| path.is_dir()) {
        mount(Some("egressd"), path, Some("tmpfs"), flags | MsFlags::MS_RDONLY, Some("mode=0,size=4k"))
            .map_err(named("hide", path))?;
    }
    let files = hidden.iter().map(PathBuf::as_path).filter(|path| path.is_file());
    for path in files.chain(DEPUTIES.map(Path::new).into_iter().filter(|path| path.exists())) {
        mount_with(Some(Path::new("/dev/null")), path, MsFlags::MS_BIND).map_err(named("hide", path))?;
    }
    Ok(())
}

fn mount_with(source: Option<&Path>, path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(source, path, None::<&str>, flags, None::<&str>)
}

/// Where root changes the host without a capability: a core pattern or an uevent helper names a
/// program that the kernel starts outside every cgroup of ours.
const KERNEL_SETTINGS: [&str; 3] = ["/proc/sys", "/proc/sysrq-trigger", "/sys"];

/// Sockets of programs that would resolve names or start processes for an agent, outside its
/// cgroup.
const DEPUTIES: [&str; 12] = [
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
];

/// Mount points of every cgroup hierarchy, of either version.
fn cgroup_mounts() -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let point = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let is_cgroup = matches!(right.split(' ').next()?, "cgroup" | "cgroup2");
        is_cgroup.then(|| left.split(' ').nth(4).map(PathBuf::from))?
    };
    Ok(mountinfo.lines().filter_map(point).collect())
}
