//! Lookups that wait until somebody has approved their name.

use super::report::{Asker, Refusal};
use crate::policy::{AgentId, Approvals, Denial, Destination, HostName, Question, Reason};
use std::sync::{Arc, OnceLock};

/// Whoever is asked, if anybody is.
#[derive(Default)]
pub struct People(OnceLock<Arc<dyn Approvals>>);

impl People {
    /// Asks `approvals` from now on; the first that are given.
    pub fn are(&self, approvals: Arc<dyn Approvals>) {
        // Somebody else's were first.
        let _ = self.0.set(approvals);
    }

    /// Whether somebody is asked about what is denied so.
    #[must_use]
    pub fn are_asked_about(&self, denial: &Denial) -> bool {
        denial.reason == Reason::ApprovalRequired && self.0.get().is_some()
    }

    /// Whether they have said no to `name`, and not long ago.
    #[must_use]
    pub fn remember_no(&self, agent: AgentId, name: &HostName) -> bool {
        let destination = Destination::Name(name.clone());
        self.0.get().is_some_and(|approvals| approvals.remember_no(agent, &destination))
    }

    /// Waits until somebody decides about `name`. Not a byte of it leaves before.
    ///
    /// # Errors
    /// Nobody approved it.
    pub async fn approve(&self, asker: &Asker, name: &HostName) -> Result<(), Refusal> {
        let Some(approvals) = self.0.get() else {
            return Err(Denial::because(Reason::ApprovalRequired).into());
        };
        let (destination, process) = (Destination::Name(name.clone()), asker.process());
        let question = Question { destination, port: None, protocol: None, process };
        Ok(approvals.ask(&asker.agent, question).await?)
    }
}
