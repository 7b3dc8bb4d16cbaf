//! The server-name gate for QUIC: a flow carries datagrams only after its Initial named a host that is
//! granted for that very address.
//!
//! Pure: `connection`, `conversation`, `frames`, `held`, `keys`, `packet`, `parting`, `stream`,
//! `varint`. The rest moves datagrams.

mod connection;
mod conversation;
mod flow;
mod frames;
mod held;
mod keys;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod listen;
mod open;
mod packet;
mod parting;
mod stream;
mod varint;

#[cfg(test)]
mod tests;

pub use listen::{MAX_QUIC_FLOWS, serve};
