//! The folders of the daemon: its own, and out of the sight of agents.

use crate::config::DaemonConfig;
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// What agents must not see: the usual folders of every daemon, and this one's own. Of a log
/// elsewhere only the file, because its folder may be anybody's.
pub fn hidden(config: &DaemonConfig) -> Vec<PathBuf> {
    let usual = DaemonConfig::default();
    let log_folder = usual.audit_log.parent().map(Path::to_owned);
    let mut hidden: Vec<PathBuf> = [Some(usual.run_dir), log_folder].into_iter().flatten().collect();
    for path in [&config.run_dir, &config.audit_log, &config.state_dir] {
        if !hidden.iter().any(|folder| path.starts_with(folder)) {
            hidden.push(path.clone());
        }
    }
    hidden
}

/// Only root may look into it, and only a folder of root's is taken.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    let named = || format!("failed to make `{}` a folder of ours", folder.display());
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).with_context(named)?;
    let owner = fs::metadata(folder).with_context(named)?.uid();
    anyhow::ensure!(
        owner == 0,
        "`{}` belongs to user {owner}: give egressd a folder of root's",
        folder.display()
    );
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).with_context(named)
}
