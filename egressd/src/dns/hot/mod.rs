//! The answers of one agent that may be told again as they are.
//!
//! An answer gets here after policy and grants let it out, and stays until its TTL ends, or until the
//! agent's policy is replaced or its grants are taken back ([`crate::policy::Agent::generation`]).

mod answer;
mod plain;

pub use answer::{Basis, Kept};
