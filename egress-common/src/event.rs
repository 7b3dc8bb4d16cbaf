//! What a program reports of a denial.

use crate::flow::Address;

/// One denial, or what would have been one, as the kernel saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Nanoseconds on `CLOCK_BOOTTIME`.
    pub time: u64,
    pub agent: u32,
    /// Thread group id; of the socket's creator where the packet itself has no process.
    pub pid: u32,
    /// A [`crate::DropReason`].
    pub reason: u32,
    /// The deny rule, or 0.
    pub rule: u32,
    pub port: u16,
    /// IANA protocol number, or 0 where the packet was not read; of another family's sockets, that
    /// family's own number.
    pub protocol: u8,
    /// A [`Hook`].
    pub hook: u8,
    /// The `AF_` number of the socket.
    pub family: u16,
    /// 1 if the flow was let out all the same, to be observed.
    pub observed: u16,
    /// On the wire; for a device, a [`crate::Device`]; for an abstract Unix socket, the first octets
    /// of its name.
    pub address: Address,
    pub command: [u8; 16],
}

/// A TCP flow that is cut: an [`Event`], and which socket it is. It comes through the same ring, and is told
/// from others by its length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CutEvent {
    pub event: Event,
    /// Of the socket, for SOCK_DESTROY.
    pub cookie: u64,
    pub source: Address,
    pub source_port: u16,
    pub zero: [u16; 3],
}

/// Which program denied.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    SocketCreate = 1,
    SetSocketOption = 2,
    Connect = 3,
    SendMessage = 4,
    Egress = 5,
    Ingress = 6,
    Frame = 7,
    /// The programs that read server names.
    ServerName = 8,
    Device = 16,
    IoUring = 17,
    Bpf = 18,
}

impl Hook {
    /// The hook with this code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::SocketCreate),
            2 => Some(Self::SetSocketOption),
            3 => Some(Self::Connect),
            4 => Some(Self::SendMessage),
            5 => Some(Self::Egress),
            6 => Some(Self::Ingress),
            7 => Some(Self::Frame),
            8 => Some(Self::ServerName),
            16 => Some(Self::Device),
            17 => Some(Self::IoUring),
            18 => Some(Self::Bpf),
            _ => None,
        }
    }
}

const _: () = assert!(size_of::<Event>() == 64);
const _: () = assert!(size_of::<CutEvent>() == 96);

#[cfg(feature = "user")]
unsafe impl aya::Pod for Event {}
#[cfg(feature = "user")]
unsafe impl aya::Pod for CutEvent {}
