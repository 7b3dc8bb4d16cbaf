//! The resolver gate on loopback: real sockets, an upstream that says what a test wants, and a
//! kernel that only remembers.
#![allow(clippy::unwrap_used)]

mod bounds;
mod denied;
mod faults;
mod granted;
mod hot;
mod kept;
mod kernel;
mod lab;
mod records;
mod upstream;
mod wire;
