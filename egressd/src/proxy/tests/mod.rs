//! The gate on loopback, with a fake kernel and a fake resolver.

pub(super) use super::bytes;

mod connect;
mod http;
pub mod lab;
mod live;
mod properties;
mod tls;
