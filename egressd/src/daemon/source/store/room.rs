//! Room in a repository that was given more than it has room for.

use super::{MAX_STORE, Store, TIP};
use crate::policy::Revision;
use anyhow::{Result, ensure};
use std::{fs, path::Path};

/// Where commits are that the repository keeps.
const KEPT: &str = "refs/egressd/kept";

impl Store {
    /// Makes room where there is none: forgets all but `kept` with what they stand on. That is what was refused,
    /// which anybody may have pushed, and what is left of fetches that were cut.
    ///
    /// # Errors
    /// There is no room even so.
    pub(super) fn make_room(&self, kept: &[Revision]) -> Result<()> {
        if size(&self.git.store) <= self.bound {
            return Ok(());
        }
        for commit in kept {
            // One that is not here cannot be kept.
            self.git.run(&["update-ref", &format!("{KEPT}/{}", commit.as_str()), commit.as_str()])?;
        }
        self.git.ask(&["update-ref", "-d", TIP])?;
        self.git.ask(&["repack", "-a", "-d", "--quiet"])?;
        self.git.ask(&["prune", "--expire=now"])?;
        let size = size(&self.git.store);
        ensure!(
            size <= self.bound,
            "`{}` has {size} octets, at most {MAX_STORE} are kept: stop egressd, remove it, and start egressd again",
            self.git.store.display()
        );
        Ok(())
    }
}

/// Octets of all files below `folder`.
pub fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
