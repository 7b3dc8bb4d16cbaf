//! The server-name gate: a flow carries bytes only after it has named a host that is granted.

pub mod authority;
pub mod fields;
pub mod framing;
pub mod head;
pub mod hello;
pub mod request;
pub mod response;

#[cfg(test)]
mod tests;
