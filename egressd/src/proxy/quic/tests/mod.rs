//! QUIC at the gate: what its reader makes of crafted Initials, and real clients on loopback.

mod client;
mod conversation;
mod flows;
mod real;
