//! What the policy decides.

#![allow(clippy::unwrap_used, reason = "tests")]

mod agents;
mod approvals;
mod case;
mod cases;
mod laws;
mod loans;
mod reasons;
