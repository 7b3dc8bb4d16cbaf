//! Flows whose server name the kernel programs read.

use crate::{event::Event, flow::Address};

/// A TCP flow of an agent's own socket, as its packets name it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamedFlowKey {
    pub agent: u32,
    pub source_port: u16,
    pub port: u16,
    pub source: Address,
    pub address: Address,
}

/// A flow that has named its server, from then until the kernel is done with it. One that is not here
/// may send nothing but segments without payload; a reload removes those that its policy denies.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NamedFlow {
    pub rule: u32,
    /// Octets of `name` that count, at most 253.
    pub length: u32,
    /// Of the socket, for SOCK_DESTROY.
    pub cookie: u64,
    /// In lower case, NUL-padded.
    pub name: [u8; 256],
}

/// How far a socket has come whose flow must name its server.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// Nothing has to be named.
    None = 0,
    /// No payload may leave.
    New = 1,
    /// The name is granted; the first packet must show the same hello.
    Named = 2,
    /// The hello is leaving, and nothing else until the server answers.
    Said = 3,
    /// The server asked for a second hello (RFC 8446, section 4.1.4), which must name the same server.
    Retried = 4,
    /// A plain socket.
    Open = 5,
    /// For ever.
    Denied = 6,
}

/// The most sockets of one agent that have connected and said no name yet. Clients say it at once; those that
/// connect ahead keep a handful.
pub const MAX_SILENT_PER_AGENT: u32 = 256;

/// What the programs report of a server name: an [`Event`], and the name. A reason of 0 allows. It comes
/// through the same ring as events do, and is told from them by its length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NameEvent {
    pub event: Event,
    /// Of the socket, for SOCK_DESTROY.
    pub cookie: u64,
    pub source: Address,
    pub source_port: u16,
    pub zero: u16,
    /// How many flows this stands for.
    pub flows: u32,
    /// Octets of `name` that count, at most 255; 0 where none was read.
    pub length: u32,
    /// [`GateState`] in which the flow was.
    pub state: u32,
    /// As it was sent, in lower case.
    pub name: [u8; 256],
}

const _: () = assert!(size_of::<NamedFlowKey>() == 40);
const _: () = assert!(size_of::<NamedFlow>() == 272);
const _: () = assert!(size_of::<NameEvent>() == 64 + 40 + 256);

#[cfg(feature = "user")]
unsafe impl aya::Pod for NamedFlowKey {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NamedFlow {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for NameEvent {}
