//! The Unix socket through which `egressctl` asks the daemon, and the listener that monitors ask.
//!
//! HTTP/1.1 with JSON, so that `curl --unix-socket` will do in an emergency. [`protocol`] holds
//! every type on the wire; [`Daemon`] is what the server asks, and [`Client`] what the CLI asks.

mod accept;
mod change;
mod client;
mod daemon;
mod explain;
mod gates;
mod known;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod peer;
pub mod protocol;
mod routes;
mod scrape;
mod server;
mod stream;

pub use crate::policy::{Asked, AskedError};
pub use client::{Client, ClientError, Records};
pub use daemon::{BoxFuture, Daemon};
pub use explain::explain;
pub use known::Known;
pub use scrape::{MayRead, serve_metrics};
pub use server::{BindError, bind, serve};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/egressd/control.sock";
