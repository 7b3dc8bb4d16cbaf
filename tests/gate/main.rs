//! The kernel's half of the server-name gate, by real sockets through the loaded programs, without a daemon.
//! What counts is what the server got.
//!
//! `harness` sends and looks; the others are scenarios.

#[allow(dead_code, reason = "the proxy's half is for other tests")]
#[path = "../hellos/mod.rs"]
mod cases;
mod harness;
mod hellos;
mod server;
#[allow(dead_code, reason = "scripts look at more of it")]
mod world;

mod around;
mod corpus;
mod life;
mod long;
mod names;
mod retry;
