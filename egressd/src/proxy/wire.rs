//! The two sockets of a relayed flow, in types that cannot be swapped.

use bytes::{Buf, BytesMut};
use std::io;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// The socket towards the agent.
#[derive(Debug)]
pub struct AgentStream(pub Wire);

/// The socket towards the real server. Only [`super::dial`] makes one.
#[derive(Debug)]
pub struct UpstreamStream(pub(super) Wire);

/// A socket, and what was read from it but not yet used.
#[derive(Debug)]
pub struct Wire {
    tcp: TcpStream,
    buffer: BytesMut,
}

impl Wire {
    /// # Errors
    /// The socket is dead already.
    pub fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, buffer: BytesMut::new() })
    }

    /// What is at hand.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads more into the buffer; 0 is the end. The caller bounds how much it lets pile up.
    /// Cancelling it loses nothing.
    pub async fn fill(&mut self) -> io::Result<usize> {
        fill(&self.tcp, &mut self.buffer).await
    }

    pub fn consume(&mut self, octets: usize) {
        self.buffer.advance(octets.min(self.buffer.len()));
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp.write_all(bytes).await
    }

    /// Tells the other side that nothing more will come.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.tcp.shutdown().await
    }

    /// Both directions at once.
    pub fn split(&mut self) -> (Reader<'_>, WriteHalf<'_>) {
        let (half, writer) = self.tcp.split();
        (Reader { half, buffer: &mut self.buffer }, writer)
    }

    /// Ends the connection with a reset: whoever waits on the other side knows at once.
    pub fn reset(self) {
        // A socket on which this fails has no connection left to reset.
        let _ = self.tcp.set_zero_linger();
    }
}

/// The reading half of a [`Wire`].
#[derive(Debug)]
pub struct Reader<'a> {
    half: ReadHalf<'a>,
    buffer: &'a mut BytesMut,
}

impl Reader<'_> {
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        self.buffer
    }

    /// See [`Wire::fill`].
    pub async fn fill(&mut self) -> io::Result<usize> {
        fill(self.half.as_ref(), self.buffer).await
    }

    pub fn consume(&mut self, octets: usize) {
        self.buffer.advance(octets.min(self.buffer.len()));
    }
}

/// Octets that are read at once: enough for bulk.
pub const READ_SIZE: usize = 64 * 1024;

/// Memory is taken only when bytes are there to be read, so that idle flows hold none.
async fn fill(source: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
    loop {
        source.readable().await?;
        buffer.reserve(READ_SIZE);
        match source.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            settled => return settled,
        }
    }
}
