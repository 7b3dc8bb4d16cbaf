//! Cells for sealed agents. One is kept ready: making it takes longer than starting a program.

use super::Daemon;
use crate::{datapath::Cell, policy::Policy};
use anyhow::{Context, Result};
use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
};

impl Daemon {
    /// The cell that is ready, or a new one. Nothing passes its link yet.
    fn take_cell(&self) -> Result<Cell> {
        let ready = self.spare_cell.lock().unwrap_or_else(PoisonError::into_inner).take();
        ready.map_or_else(|| self.make_cell(), Ok)
    }

    /// The same, for an agent that may make raw frames if `policy` says so.
    pub(super) fn take_cell_for(&self, policy: &Policy) -> Result<Cell> {
        let cell = self.take_cell()?;
        if policy.capabilities().is_empty() {
            return Ok(cell);
        }
        match cell.complete_checksums() {
            Ok(()) => Ok(cell),
            Err(error) => {
                self.fence.demolish(&cell);
                Err(error.into())
            }
        }
    }

    /// Makes a cell ready for the next agent, unless one is.
    pub(super) fn keep_spare_cell(self: Arc<Self>) {
        // Nobody waits for it.
        tokio::task::spawn_blocking(move || {
            let mut spare = self.spare_cell.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.is_none() {
                match self.make_cell() {
                    Ok(cell) => *spare = Some(cell),
                    Err(error) => tracing::warn!("no cell is ready for the next agent: {error:#}"),
                }
            }
        });
    }

    /// Removes a cell whose agent ended, and lets nobody wait for it.
    pub(super) fn give_back(&self, cell: Cell) {
        let fence = Arc::clone(&self.fence);
        tokio::task::spawn_blocking(move || {
            fence.demolish(&cell);
            if let Err(error) = fence.restore_forwarding() {
                tracing::warn!(%error, "failed to put forwarding back");
            }
        });
    }

    /// Where the cells of this daemon are kept.
    pub(super) fn cells_folder(&self) -> PathBuf {
        self.options.config.run_dir.join("cells")
    }

    /// What agents see as `/etc/resolv.conf`. In a cell the resolver listens there; elsewhere
    /// whatever server is asked, the question is redirected to it.
    pub(super) fn resolv_conf(&self) -> PathBuf {
        self.options.config.run_dir.join("resolv.conf")
    }

    pub(super) fn write_resolv_conf(&self) -> Result<()> {
        let path = self.resolv_conf();
        let text = "# The resolver of this agent answers what its policy allows.\nnameserver 127.0.0.1\n";
        std::fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))
    }

    fn make_cell(&self) -> Result<Cell> {
        let cell = Cell::create(&self.cells_folder(), &self.options.instance)?;
        match self.fence.guard(&cell) {
            Ok(()) => Ok(cell),
            Err(error) => {
                self.fence.demolish(&cell);
                Err(error.into())
            }
        }
    }
}
