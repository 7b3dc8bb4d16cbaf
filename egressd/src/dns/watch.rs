//! Who hears of what names let out, and remembers it beyond this process.

use super::ledger::{Alert, Ledger};
use crate::policy::{Agent, AgentName};

/// What the resolver tells of its ledgers. Implemented by the daemon.
pub trait Watch: Send + Sync {
    /// The ledger that `agent` goes on with: what was remembered of it, or an empty one. Where what was
    /// remembered cannot be read, one that is full.
    fn open(&self, agent: &Agent) -> Ledger;

    /// Remembers `ledger` of `agent`, which has just been charged, and returns whether it could. What it was
    /// charged for leaves only after this: else the next process would let it out once more.
    #[must_use]
    fn charged(&self, agent: &AgentName, ledger: &Ledger) -> bool;

    /// Hears of a flag.
    fn raised(&self, agent: &Agent, alert: Alert);

    /// Closes the wildcards of `agent`, and cuts what they opened. `ledger` refuses them already.
    fn quarantine(&self, agent: &Agent, ledger: &Ledger);
}
