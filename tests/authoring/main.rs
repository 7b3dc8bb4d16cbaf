//! Policies that come from other tools, and go to them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod export;
mod import;
mod world;
