//! What the kernel says of itself.

use super::{
    super::{cgroup::Hierarchy, links},
    Finding, Level, Need,
};
use std::{fs, io, path::Path};

/// A host on which the fence would have a hole that nothing in it can show.
#[derive(Debug, thiserror::Error)]
pub enum KernelTooOld {
    #[error(
        "bpf(2) is denied to us ({0}): run egressd as root, and let its seccomp filter and its container \
         have CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"
    )]
    Denied(io::Error),
    #[error("this kernel has no bpf(2) ({0}): it needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF")]
    Absent(io::Error),
    #[error(
        "cgroup v1 `{controller}` is mounted at `{mount}`, and Linux {release} then runs cgroup programs for the \
         wrong cgroup (fixed in 5.15): unmount it, or take a newer kernel"
    )]
    Confused { controller: &'static str, mount: String, release: String },
}

/// Whether this kernel can serve at all: what would be an obscure failure later, or none.
///
/// # Errors
/// Says what stands in the way, and what to do.
pub fn must_serve() -> Result<(), KernelTooOld> {
    match links::any_program() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            return Err(KernelTooOld::Denied(error));
        }
        Err(error) => return Err(KernelTooOld::Absent(error)),
        Ok(()) => {}
    }
    let (mounts, release) = (read("/proc/self/mountinfo"), release());
    confusing_controller(&mounts, &release).map_or(Ok(()), Err)
}

pub fn findings() -> Vec<Finding> {
    vec![version(), bpf(), types(), hierarchy(), controllers(), bpffs(), seccomp()]
}

fn version() -> Finding {
    let line = Finding::new(Level::Kernel, "version", "everything below");
    let release = release();
    match number(&release) {
        Some(number) if number >= TESTED_FROM => line.ok(release),
        Some(number) if number >= NEEDED => {
            line.degraded(release, "egressd is built and tested on Linux 6.1 and later")
        }
        Some(_) | None => line.missing(Need::Every, release, "take Linux 6.1 or later"),
    }
}

/// Linux 5.14 brings cgroup.kill, 5.15 sockets that know their cgroup beside cgroup v1.
const NEEDED: (u32, u32) = (5, 15);
const TESTED_FROM: (u32, u32) = (6, 1);

fn bpf() -> Finding {
    let line = Finding::new(Level::Kernel, "bpf(2)", "loading programs");
    let root = nix::unistd::Uid::effective().is_root();
    match links::any_program() {
        Ok(()) => line.ok("answers"),
        Err(error) if !root => line.degraded(error.to_string(), "run `sudo egressctl doctor`"),
        Err(error) => {
            let remedy =
                "run outside of a seccomp filter that denies it, on a kernel with CONFIG_BPF_SYSCALL";
            line.missing(Need::Every, error.to_string(), remedy)
        }
    }
}

fn types() -> Finding {
    let line = Finding::new(Level::Kernel, "btf", "the security hooks, which read kernel structures");
    match Path::new("/sys/kernel/btf/vmlinux").exists() {
        true => line.ok("/sys/kernel/btf/vmlinux"),
        false => line.degraded("none", "take a kernel with CONFIG_DEBUG_INFO_BTF, for what is to come"),
    }
}

fn hierarchy() -> Finding {
    let line = Finding::new(Level::Kernel, "cgroup2", "telling agents apart");
    match Hierarchy::find() {
        Ok(hierarchy) if hierarchy.mount() == Path::new("/sys/fs/cgroup") => {
            line.ok("at /sys/fs/cgroup, unified")
        }
        Ok(hierarchy) => line.ok(format!("at {}, beside cgroup v1 (hybrid)", hierarchy.mount().display())),
        Err(error) => line.missing(Need::Every, error.to_string(), "`mount -t cgroup2 none /sys/fs/cgroup`"),
    }
}

fn controllers() -> Finding {
    let line = Finding::new(Level::Kernel, "net_cls, net_prio", "sockets that know their cgroup2");
    let (mounts, release) = (read("/proc/self/mountinfo"), release());
    match (confusing_controller(&mounts, &release), controller_mount(&mounts)) {
        (Some(error), _) => {
            line.missing(Need::Every, error.to_string(), "unmount it, or take Linux 5.15 or later")
        }
        (None, Some((controller, mount))) => {
            line.ok(format!("{controller} at {mount}: harmless since Linux 5.15"))
        }
        (None, None) => line.ok("not mounted"),
    }
}

fn bpffs() -> Finding {
    let line = Finding::new(Level::Kernel, "bpffs", "programs that outlive the daemon");
    match has_line(&read("/proc/filesystems"), "bpf") {
        true => line.ok("there is one"),
        false => line.missing(Need::Every, "none", "take a kernel with CONFIG_BPF_SYSCALL"),
    }
}

fn seccomp() -> Finding {
    let line = Finding::new(Level::Kernel, "seccomp", "packet, vsock and other sockets, io_uring, bpf(2)");
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    match ["errno", "kill_process"]
        .iter()
        .all(|action| actions.split_whitespace().any(|word| word == *action))
    {
        true => line.ok("filters can deny"),
        false => line.missing(Need::Every, "filters cannot deny", "take a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

/// Linux before 8520e224f547 kept one pointer for the cgroup v2 of a socket and for these.
fn confusing_controller(mountinfo: &str, release: &str) -> Option<KernelTooOld> {
    if number(release).is_some_and(|number| number >= NEEDED) {
        return None;
    }
    let (controller, mount) = controller_mount(mountinfo)?;
    Some(KernelTooOld::Confused { controller, mount, release: release.to_owned() })
}

fn controller_mount(mountinfo: &str) -> Option<(&'static str, String)> {
    let mounted = |line: &str| {
        let (left, right) = line.split_once(" - cgroup ")?;
        let options = right.rsplit(' ').next()?;
        let controller = ["net_cls", "net_prio"]
            .into_iter()
            .find(|controller| options.split(',').any(|word| word == *controller))?;
        Some((controller, left.split(' ').nth(4)?.to_owned()))
    };
    mountinfo.lines().find_map(mounted)
}

/// The first two numbers of a release.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn release() -> String {
    read("/proc/sys/kernel/osrelease").trim().to_owned()
}

fn has_line(text: &str, last_word: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().last() == Some(last_word))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "35 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        36 24 0:31 / /sys/fs/cgroup/net_cls,net_prio rw,nosuid shared:12 - cgroup cgroup rw,net_cls,net_prio\n";

    #[test]
    fn controllers_that_confuse_old_kernels_are_refused() {
        let error = confusing_controller(HYBRID, "5.10.0-30-amd64").expect("refused").to_string();
        assert!(error.contains("`net_cls` is mounted at `/sys/fs/cgroup/net_cls,net_prio`"), "{error}");
        assert!(error.contains("Linux 5.10.0-30-amd64"), "{error}");
        assert!(confusing_controller(HYBRID, "5.15.0").is_none());
        assert!(confusing_controller(HYBRID, "6.18.44-fc-v669").is_none());
        let v1 = "36 24 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        assert!(confusing_controller(v1, "4.19.0").is_none());
        assert!(confusing_controller(HYBRID, "gibberish").is_some(), "what cannot be told is refused");
    }
}
