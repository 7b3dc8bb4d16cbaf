//! A cgroup that stands still while it is looked at: what is not running makes and passes nothing.

use crate::datapath::cgroup::Cgroup;
use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

/// A cgroup whose processes stand still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    file: PathBuf,
    was_frozen: bool,
}

impl Frozen {
    /// Freezes every process of `cgroup` and below it (`cgroup.freeze`), and waits until they stand
    /// still. One that was frozen before stays so.
    ///
    /// # Errors
    /// The kernel refuses, or a process does not come to a stop within [`STANDSTILL`].
    pub fn freeze(cgroup: &Cgroup) -> io::Result<Self> {
        let frozen = Self { file: file(cgroup), was_frozen: Self::is_frozen(cgroup)? };
        fs::write(&frozen.file, "1")?;
        let deadline = Instant::now() + STANDSTILL;
        while !stands_still(cgroup)? {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("a process still ran after {STANDSTILL:?}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(frozen)
    }

    /// Whether somebody has frozen `cgroup`.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn is_frozen(cgroup: &Cgroup) -> io::Result<bool> {
        Ok(fs::read_to_string(file(cgroup))?.trim() == "1")
    }

    /// Lets run what a daemon froze that ended before it could let it run.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn thaw(cgroup: &Cgroup) -> io::Result<()> {
        fs::write(file(cgroup), "0")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.was_frozen
            && let Err(error) = fs::write(&self.file, "0")
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(file = %self.file.display(), %error, "failed to thaw");
        }
    }
}

/// How long processes may take to stop. What sleeps in the kernel without being interruptible, on a
/// disk that fails, takes as long as that.
const STANDSTILL: Duration = Duration::from_secs(5);

fn file(cgroup: &Cgroup) -> PathBuf {
    cgroup.path().join("cgroup.freeze")
}

fn stands_still(cgroup: &Cgroup) -> io::Result<bool> {
    let events = fs::read_to_string(cgroup.path().join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "frozen 1"))
}
