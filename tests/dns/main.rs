//! The resolver gate on loopback: real sockets, an upstream that says what a test wants, and a
//! kernel that only remembers.
#![allow(clippy::unwrap_used)]

mod bounds;
mod canonical;
mod carried;
mod denied;
mod faults;
mod foreseen;
mod granted;
mod hostile;
mod hot;
mod kept;
mod kernel;
mod lab;
mod lent;
mod people;
mod program;
mod records;
mod signed;
mod streams;
mod upstream;
mod wire;
