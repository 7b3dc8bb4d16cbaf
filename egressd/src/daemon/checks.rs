//! What the daemon can show of itself.

use super::Daemon;
use crate::{control::protocol::Check, datapath::HOOKS};

impl Daemon {
    pub(super) fn checks(&self) -> Vec<Check> {
        vec![
            self.programs_are_pinned(),
            self.table_is_applied(),
            self.adopted_are_fenced(),
            self.log_is_written(),
        ]
    }

    fn programs_are_pinned(&self) -> Check {
        let missing: Vec<&str> = HOOKS
            .iter()
            .map(|(hook, _)| *hook)
            .filter(|hook| !self.pins.links().join(hook).exists())
            .collect();
        Check {
            name: "kernel programs".to_owned(),
            passed: missing.is_empty(),
            detail: match missing.is_empty() {
                true => format!("{} hooks are attached and pinned", HOOKS.len()),
                false => format!("not pinned: {}; restart egressd", missing.join(", ")),
            },
        }
    }

    fn table_is_applied(&self) -> Check {
        let (passed, detail) = match self.fence.table_is_applied() {
            Ok(()) => (true, "second deny is in force".to_owned()),
            Err(error) => (false, format!("{error}; reload egressd to apply it again")),
        };
        Check { name: "nft table".to_owned(), passed, detail }
    }

    fn log_is_written(&self) -> Check {
        let health = self.log_health.read();
        Check {
            name: "audit log".to_owned(),
            passed: health.waiting == 0 && health.last_error.is_none(),
            detail: health.last_error.unwrap_or_else(|| self.options.config.audit_log.display().to_string()),
        }
    }
}
