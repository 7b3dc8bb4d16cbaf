//! What an agent sees of the file system: kernel settings that it cannot change, and nothing of ours.

use super::{doors::Doors, trust};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};
use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    fs,
    io::{self, ErrorKind::NotFound},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// Of what an agent sees kernel settings and cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Views {
    OfHost,
    /// Of its own network and cgroup namespaces, in which this process is.
    Own,
}

/// Files of the host in whose place an agent sees others.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a> {
    pub resolv_conf: Option<&'a Path>,
    pub authorities: Option<&'a Path>,
}

/// What an agent must not see, and what it must not write.
#[derive(Debug, Clone, Copy)]
pub struct Withheld<'a> {
    pub hidden: &'a [PathBuf],
    pub kept: &'a [PathBuf],
}

/// Fences the mount namespace that this process was cloned into: cgroups and kernel settings become
/// read-only with all that is mounted below them, what is withheld empty or read-only, and the doors to deputies
/// closed.
///
/// # Errors
/// Names the mount that failed.
pub fn fence(
    views: Views,
    doors: Doors,
    replaced: Replaced<'_>,
    withheld: Withheld<'_>,
) -> Result<(), String> {
    let root = Path::new("/");
    // Mounts of the host still arrive; ours do not leave.
    mount_with(None, root, MsFlags::MS_SLAVE | MsFlags::MS_REC)
        .map_err(named("detach mounts below", root))?;
    // Of this process id namespace: processes outside can be neither seen nor traced.
    let proc = Path::new("/proc");
    mount(Some("proc"), proc, Some("proc"), INERT, None::<&str>).map_err(named("mount", proc))?;
    if views == Views::Own {
        let (sysfs, cgroups) = (Path::new("/sys"), Path::new("/sys/fs/cgroup"));
        mount(Some("sysfs"), sysfs, Some("sysfs"), INERT, None::<&str>).map_err(named("mount", sysfs))?;
        mount(Some("cgroup2"), cgroups, Some("cgroup2"), INERT, None::<&str>)
            .map_err(named("mount", cgroups))?;
    }
    for path in KERNEL_SETTINGS.map(Path::new).into_iter().filter(|path| path.exists()) {
        mount_with(Some(path), path, MsFlags::MS_BIND | MsFlags::MS_REC).map_err(named("bind", path))?;
        make_read_only(path).map_err(named("make read-only", path))?;
    }
    for path in kernel_mounts().map_err(|error| format!("failed to read mountinfo: {error}"))? {
        match make_read_only(&path) {
            // Another mount covers this one, from the agent as well: nothing is there, or no mount.
            Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EINVAL) => {}
            Err(error) => return Err(named("make read-only", &path)(error)),
        }
    }
    keep(withheld.kept)?;
    // Before the doors, behind which its source may be.
    replaced.authorities.map_or(Ok(()), trust::believe)?;
    doors.close(replaced.resolv_conf)?;
    withheld.hidden.iter().try_for_each(|path| hide(path))
}

/// Makes `folders` read-only where they are: no folder on the way to one can be moved, for what something is
/// mounted on cannot be renamed (EBUSY, rename(2)).
fn keep(folders: &[PathBuf]) -> Result<(), String> {
    let mut way = BTreeSet::new();
    let folders: BTreeSet<PathBuf> = folders.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    for folder in &folders {
        way.extend(folder.ancestors().filter(|place| *place != Path::new("/")));
    }
    // Sorted: each before what is below it.
    for place in way {
        mount_with(Some(place), place, MsFlags::MS_BIND | MsFlags::MS_REC).map_err(named("bind", place))?;
    }
    folders.iter().try_for_each(|path| make_read_only(path).map_err(named("make read-only", path)))
}

const INERT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

pub fn named(act: &'static str, path: &Path) -> impl Fn(Errno) -> String {
    let path = path.display().to_string();
    move |error| format!("failed to {act} `{path}`: {}", error.desc())
}

/// Makes a folder or a file look empty; what is not there stays so.
pub fn hide(path: &Path) -> Result<(), String> {
    let hidden = match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let flags = INERT | MsFlags::MS_RDONLY;
            mount(Some("egressd"), path, Some("tmpfs"), flags, Some("mode=0,size=4k"))
        }
        Ok(_) => mount_with(Some(Path::new("/dev/null")), path, MsFlags::MS_BIND),
        Err(error) if error.kind() == NotFound => Ok(()),
        Err(error) => return Err(format!("failed to look at `{}`: {error}", path.display())),
    };
    hidden.map_err(named("hide", path))
}

pub fn mount_with(source: Option<&Path>, path: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(source, path, None::<&str>, flags, None::<&str>)
}

/// Makes a mount and all below it read-only: mount_setattr(2), Linux 5.12.
pub fn make_read_only(path: &Path) -> nix::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: all zeroes is a valid mount_attr, which changes nothing.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set =
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: path and attributes outlive the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Where root changes the host without a capability: a core pattern or an uevent helper names a
/// program that the kernel starts outside every cgroup of ours.
const KERNEL_SETTINGS: [&str; 3] = ["/proc/sys", "/proc/sysrq-trigger", "/sys"];

/// File systems that are views of the kernel, wherever they are mounted.
const KERNEL_FILE_SYSTEMS: [&str; 8] =
    ["cgroup", "cgroup2", "sysfs", "bpf", "debugfs", "tracefs", "securityfs", "configfs"];

/// Mount points of every file system of [`KERNEL_FILE_SYSTEMS`].
fn kernel_mounts() -> io::Result<Vec<PathBuf>> {
    let mountinfo = fs::read("/proc/self/mountinfo")?;
    Ok(mountinfo.split(|octet| *octet == b'\n').filter_map(kernel_mount).collect())
}

/// The mount point of a line of mountinfo, if it is a view of the kernel (proc(5)).
fn kernel_mount(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|octet| *octet == b' ');
    let point = fields.nth(4)?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let is_kernel = KERNEL_FILE_SYSTEMS.iter().any(|name| name.as_bytes() == kind);
    is_kernel.then(|| PathBuf::from(OsString::from_vec(unescape(point))))
}

/// Decodes `\040` and its like: proc(5) writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&octet, after)) = rest.split_first() {
        let escaped = (octet == b'\\').then(|| after.get(..3).and_then(octal)).flatten();
        decoded.push(escaped.unwrap_or(octet));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    decoded
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_of_the_kernel_is_found_wherever_it_is_mounted() {
        let found = |line: &str| kernel_mount(line.as_bytes());
        let tracing = "36 24 0:31 / /opt/my\\040trace\\134x rw shared:1 - tracefs none rw";
        assert_eq!(found(tracing), Some(PathBuf::from("/opt/my trace\\x")));
        assert_eq!(found("41 31 0:38 / /cg rw - cgroup2 cgroup2 rw"), Some(PathBuf::from("/cg")));
        assert_eq!(found("27 1 254:0 / / rw - ext4 /dev/vda rw"), None);
        assert_eq!(found("27 1 254:0"), None);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        for (field, decoded) in [("\\", "\\"), ("\\04", "\\04"), ("\\999", "\\999"), ("a\\011", "a\t")] {
            assert_eq!(unescape(field.as_bytes()), decoded.as_bytes());
        }
    }
}
