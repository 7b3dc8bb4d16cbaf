//! The gate on loopback, with a fake kernel and a fake resolver.

pub(super) use super::bytes;

mod budgets;
mod bulk;
mod connect;
mod handshake;
mod http;
mod inspect;
mod inspect_lab;
pub mod lab;
mod live;
mod properties;
mod retry;
mod socks;
mod tls;
