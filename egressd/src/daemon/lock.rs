//! What only one daemon at a time may hold.

use anyhow::{Context, Result};
use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// One daemon a run folder: a second one would take the agents of the first.
///
/// # Errors
/// Another daemon holds it, or the folder cannot be written.
pub async fn lock(run_dir: &Path) -> Result<File> {
    let path = run_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("failed to create `{}`", path.display()))?;
    let is_held = |error: &TryLockError| matches!(error, TryLockError::WouldBlock);
    match patiently(|| file.try_lock(), is_held).await {
        Ok(()) => Ok(file),
        Err(error) => {
            anyhow::bail!("another daemon holds `{}` ({error}): stop it, or use --run-dir", path.display())
        }
    }
}

/// Tries again for [`PATIENCE`] where what is to be taken is held.
///
/// A daemon that was killed while it started a program leaves a child that holds all that it held,
/// until the child becomes that program.
pub async fn patiently<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let end = Instant::now() + PATIENCE;
    loop {
        match take() {
            Err(error) if is_held(&error) && Instant::now() < end => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// A child becomes its program within milliseconds, on a busy machine within tens of them; a second
/// daemon is told soon enough.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_daemon_leaves_behind_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let left_behind = lock(folder.path()).await.unwrap();
        tokio::spawn(async move {
            sleep(PATIENCE / 2).await;
            drop(left_behind);
        });
        assert!(lock(folder.path()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn two_daemons_never_share_a_run_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = lock(folder.path()).await.unwrap();
        let error = lock(folder.path()).await.unwrap_err().to_string();
        assert!(error.starts_with("another daemon holds"), "{error}");
    }
}
