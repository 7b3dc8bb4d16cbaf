//! The gate on loopback, with a fake kernel and a fake resolver.

pub mod bytes;
