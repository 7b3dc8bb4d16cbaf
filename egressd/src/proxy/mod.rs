//! The server-name gate: a flow carries bytes only after it has named a host that is granted.
//!
//! Pure: `authority`, `fields`, `framing`, `head`, `hello`, `judge`, `record`, `request`, `response`, `server_name`.
//! The rest moves bytes. Nothing but `dial` connects, and it wants a permit. `inspect` ends TLS, for rules
//! that ask for it.

mod authority;
mod dial;
mod exchange;
mod explicit;
mod fields;
mod flows;
mod framing;
mod gate;
mod handshake;
mod head;
mod hello;
mod http;
pub mod inspect;
mod judge;
mod listen;
mod lookup;
mod origin;
mod peek;
mod pipes;
mod purse;
mod quic;
mod record;
mod refuse;
mod relay;
mod request;
mod response;
mod server_name;
mod share;
mod socks;
mod splice;
mod transparent;
mod wire;
mod workers;

pub use gate::Gate;
pub use listen::{Listeners, MAX_CONNECTIONS, serve};
pub use pipes::Bulk;
pub use quic::MAX_QUIC_FLOWS;
#[cfg(any(test, fuzzing))]
pub use quic::laws as quic_laws;
pub use workers::Workers;

#[cfg(any(test, fuzzing))]
#[path = "tests/bytes.rs"]
mod bytes;
#[cfg(any(test, fuzzing))]
pub mod laws;
#[cfg(test)]
mod tests;
