//! The gate on loopback, with a fake kernel and a fake resolver.

pub(super) use super::bytes;

mod connect;
mod handshake;
mod http;
mod lab;
mod live;
mod properties;
mod socks;
mod tls;
