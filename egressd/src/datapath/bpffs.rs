//! The folder of pins: what outlives the daemon.

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A bpffs of our own, so that no other tool's cleaning of `/sys/fs/bpf` opens the fence.
#[derive(Debug, Clone)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Mounts a bpffs at `root` unless one is there, readable by root only.
    ///
    /// # Errors
    /// The folder cannot be made, or the kernel has no bpffs.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        // As mountinfo will name it.
        let root = &root.canonicalize()?;
        if statfs(root)?.filesystem_type() != BPF_FS_MAGIC {
            mount(
                Some("bpf"),
                root,
                Some("bpf"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                Some("mode=0700"),
            )
            .map_err(|error| named(error, root))?;
        }
        let pins = Self { root: root.to_owned() };
        for folder in [pins.maps(), pins.programs(), pins.links(), pins.devices()] {
            match fs::create_dir(&folder) {
                Ok(()) => fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pins)
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The links of programs on devices, by the devices' names.
    #[must_use]
    pub fn devices(&self) -> PathBuf {
        self.root.join("devices")
    }

    /// Whether the pins outlive this process: they do where the first process sees them too. In a
    /// mount namespace of our own they would go with us, and the programs with them.
    #[must_use]
    pub fn outlive_us(&self) -> bool {
        let root = self.root.to_string_lossy();
        let is_ours = |line: &str| line.contains(" - bpf ") && line.split(' ').nth(4) == Some(&*root);
        fs::read_to_string("/proc/1/mountinfo").is_ok_and(|mounts| mounts.lines().any(is_ours))
    }

    /// Removes every pin: the kernel detaches the programs and frees the maps.
    ///
    /// # Errors
    /// The bpffs cannot be unmounted.
    pub fn remove(self) -> io::Result<()> {
        for folder in [self.devices(), self.links(), self.programs(), self.maps()] {
            for pin in fs::read_dir(&folder)?.flatten() {
                fs::remove_file(pin.path())?;
            }
        }
        umount2(&self.root, MntFlags::MNT_DETACH).map_err(|error| named(error, &self.root))?;
        fs::remove_dir(&self.root)
    }
}

fn named(error: Errno, path: &Path) -> io::Error {
    io::Error::other(format!("bpffs at `{}`: {}", path.display(), error.desc()))
}
