//! The resolver gate on loopback: real sockets, an upstream that says what a test wants, and a
//! kernel that only remembers.
#![allow(clippy::unwrap_used)]

mod bounds;
mod denied;
mod granted;
mod kernel;
mod lab;
mod upstream;
mod wire;
