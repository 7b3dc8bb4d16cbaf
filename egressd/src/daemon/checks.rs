//! What the daemon can show of itself.

use super::Daemon;
use crate::{
    control::protocol::Check,
    datapath::{Attached, HOOKS},
};

impl Daemon {
    pub(super) fn checks(&self) -> Vec<Check> {
        let checks = [
            self.proof.check(),
            self.proof.check_server_names(&self.fence),
            self.programs_are_attached(),
            self.security_hooks_are_pinned(),
            self.table_is_applied(),
            self.adopted_are_fenced(),
            self.log_is_written(),
            self.policy_files_are_in_force(),
        ];
        let others = [self.newest_revision_is_in_force(), self.monitors_are_answered()];
        checks.into_iter().chain(others.into_iter().flatten()).collect()
    }

    fn programs_are_attached(&self) -> Check {
        let (passed, detail) = match Attached::to(&self.root, &self.links(), &self.pins) {
            Ok(attached) => describe(&attached),
            Err(error) => (false, format!("failed to ask for attached programs: {error}")),
        };
        Check { name: "kernel programs".to_owned(), passed, detail }
    }

    /// Not every kernel has them: then the launcher denies what it can, and that leaves no record.
    fn security_hooks_are_pinned(&self) -> Check {
        let hooks = &self.security_hooks;
        let (missing, count) = (self.not_pinned(hooks.programs()), hooks.programs().len());
        let detail = match (missing.as_slice(), hooks.missing()) {
            ([], None) => format!("{count} hooks are attached and pinned"),
            ([], Some(why)) => format!(
                "{count} hooks are attached and pinned, not {why}; in their place seccomp, and from Linux 6.12 on Landlock, deny without records"
            ),
            (missing, _) => format!("not pinned: {}; restart egressd", missing.join(", ")),
        };
        Check { name: "security hooks".to_owned(), passed: missing.is_empty(), detail }
    }

    fn not_pinned(&self, hooks: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
        hooks.filter(|hook| !self.pins.links().join(hook).exists()).collect()
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

fn describe(Attached { missing, foreign, above }: &Attached) -> (bool, String) {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("not attached: {}; restart egressd", missing.join(", ")));
    }
    if !foreign.is_empty() {
        parts.push(format!("on our cgroup, and not ours: {}; detach them", foreign.join(", ")));
    }
    let passed = parts.is_empty();
    if passed {
        parts.push(format!("{} hooks are attached", HOOKS.len()));
    }
    if !above.is_empty() {
        parts.push(format!("above our cgroup run: {}", above.join(", ")));
    }
    (passed, parts.join("; "))
}
