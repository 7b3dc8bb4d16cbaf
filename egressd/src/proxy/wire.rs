//! The two sockets of a relayed flow, in types that cannot be swapped.

use super::share::{Lease, Loan, Share};
use bytes::{Buf, BytesMut};
use std::{
    future::poll_fn,
    io::{self, Read},
    net::TcpStream as StdStream,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
    bytes: Bytes,
}

impl Wire {
    /// A socket to an agent, whose buffers count towards the agent's share. It must not block.
    ///
    /// What has come by then is read at once: most agents say something as soon as they are connected, and to
    /// be woken for that takes longer than to look.
    ///
    /// # Errors
    /// The socket is dead already.
    pub fn of_agent(tcp: StdStream, share: Arc<Share>) -> io::Result<Self> {
        let mut bytes = Bytes { share: Some(share), ..Bytes::default() };
        bytes.read_at_hand(&tcp)?;
        Ok(Self { tcp: TcpStream::from_std(tcp)?, bytes })
    }

    /// A socket to an upstream. Until it is told whose it is, it reads no more than [`FIRST_READ`].
    #[must_use]
    pub fn to_upstream(tcp: TcpStream) -> Self {
        Self { tcp, bytes: Bytes::default() }
    }

    /// Counts the buffers of this socket towards the share of whoever `other` belongs to.
    pub fn count_as(&mut self, other: &Self) {
        self.bytes.share.clone_from(&other.bytes.share);
    }

    /// What is at hand.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.bytes.buffer
    }

    /// Reads more into the buffer; 0 is the end. The caller bounds how much it lets pile up.
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// The socket is dead; `QuotaExceeded` if its agent has no room for a larger buffer.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.split().0.fill().await
    }

    pub fn consume(&mut self, octets: usize) {
        self.bytes.consume(octets);
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
        (Reader { half, bytes: &mut self.bytes }, writer)
    }

    /// The socket, what was read from it but not yet used, and whose share it counts towards.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, BytesMut, Option<Arc<Share>>) {
        (self.tcp, self.bytes.buffer, self.bytes.share)
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
    bytes: &'a mut Bytes,
}

impl Reader<'_> {
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.bytes.buffer
    }

    /// See [`Wire::fill`].
    pub async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    pub fn consume(&mut self, octets: usize) {
        self.bytes.consume(octets);
    }

    /// Waits until there may be something to read, without taking memory.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.half.as_ref().poll_read_ready(context)).await
    }

    /// The socket, to be read past the buffer, which must be empty.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        self.half.as_ref()
    }

    /// A pipe out of the share of the agent.
    #[must_use]
    pub fn pipe(&self) -> Option<Loan> {
        self.bytes.share.as_ref()?.pipe()
    }

    /// Memory is taken only when bytes are there to be read, so that idle flows hold none.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.bytes.free_if_empty();
        ready!(self.half.as_ref().poll_read_ready(context))?;
        self.bytes.make_room()?;
        // Nothing is lost with it: such a read either ends at once or has read nothing.
        let read = pin!(self.half.read_buf(&mut self.bytes.buffer)).poll(context);
        self.bytes.note_read();
        read
    }
}

/// The most that the first read takes. It is larger than most ClientHellos and heads, and small enough
/// that every flow of an agent may have it; what is read beyond counts towards the agent's share.
pub const FIRST_READ: usize = 8 * 1024;

/// The most that is read at once: enough for bulk.
pub const READ_SIZE: usize = 64 * 1024;

/// What was read, and the room that it takes.
#[derive(Debug, Default)]
struct Bytes {
    buffer: BytesMut,
    share: Option<Arc<Share>>,
    lease: Option<Lease>,
    /// The last read filled its buffer, so that a larger one will do good.
    was_filled: bool,
}

impl Bytes {
    fn consume(&mut self, octets: usize) {
        self.buffer.advance(octets.min(self.buffer.len()));
    }

    /// The first read. An end is met again by whoever reads on.
    ///
    /// # Errors
    /// The socket is dead.
    fn read_at_hand(&mut self, mut tcp: &StdStream) -> io::Result<()> {
        let mut buffer = BytesMut::zeroed(FIRST_READ);
        match tcp.read(&mut buffer) {
            Ok(octets) => buffer.truncate(octets),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        self.buffer = buffer;
        self.note_read();
        Ok(())
    }

    fn free_if_empty(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = BytesMut::new();
            self.lease = None;
        }
    }

    fn note_read(&mut self) {
        self.was_filled = !self.buffer.is_empty() && self.buffer.len() == self.buffer.capacity();
        self.free_if_empty();
    }

    /// Has room for at least one octet.
    ///
    /// # Errors
    /// What piles up is more than the agent has room for.
    fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            // Without room for a large read, a small one does.
            self.lease = if self.was_filled { self.lease(READ_SIZE) } else { None };
            self.buffer = BytesMut::with_capacity(self.lease.as_ref().map_or(FIRST_READ, Lease::octets));
        } else if self.buffer.len() == self.buffer.capacity() {
            let lease = self.lease(self.buffer.len() * 2).ok_or(io::ErrorKind::QuotaExceeded)?;
            let mut larger = BytesMut::with_capacity(lease.octets());
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
            self.lease = Some(lease);
        }
        Ok(())
    }

    fn lease(&self, octets: usize) -> Option<Lease> {
        self.share.as_ref()?.buffer(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{pipes::Pipes, share::MAX_BUFFERED};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_agent_without_room_reads_in_small_pieces_and_piles_nothing_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let share = Share::new(1, Pipes::new());
        let tcp = listener.accept().await.unwrap().0.into_std().unwrap();
        let mut wire = Wire::of_agent(tcp, Arc::clone(&share)).unwrap();
        sender.write_all(&[7; 4 * FIRST_READ]).await.unwrap();

        let all = share.buffer(MAX_BUFFERED).unwrap();
        assert_eq!(wire.fill().await.unwrap(), FIRST_READ);
        assert_eq!(wire.fill().await.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
        wire.consume(FIRST_READ);
        assert_eq!(wire.fill().await.unwrap(), FIRST_READ);
        drop(all);
        assert_eq!(wire.fill().await.unwrap(), FIRST_READ);
        wire.consume(usize::MAX);
        assert_eq!(wire.fill().await.unwrap(), FIRST_READ);
        assert_eq!(wire.buffer(), [7; FIRST_READ]);
    }

    #[tokio::test]
    async fn what_an_agent_said_before_it_was_taken_in_is_at_hand() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        sender.write_all(b"hello").await.unwrap();
        let tcp = listener.accept().await.unwrap().0.into_std().unwrap();
        let mut wire = Wire::of_agent(tcp, Share::new(1, Pipes::new())).unwrap();
        assert_eq!(wire.buffer(), b"hello");
        sender.write_all(b" again").await.unwrap();
        assert_eq!(wire.fill().await.unwrap(), 6);
        assert_eq!(wire.buffer(), b"hello again");
        drop(sender);
        assert_eq!(wire.fill().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_waits_holds_no_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let share = Share::new(1, Pipes::new());
        let tcp = listener.accept().await.unwrap().0.into_std().unwrap();
        let mut wire = Wire::of_agent(tcp, Arc::clone(&share)).unwrap();
        for length in [10, FIRST_READ, 3 * FIRST_READ] {
            sender.write_all(&vec![7; length]).await.unwrap();
            let mut received = 0;
            while received < length {
                received += wire.fill().await.unwrap();
                wire.consume(usize::MAX);
            }
            let waits = poll_fn(|context| Poll::Ready(pin!(wire.fill()).poll(context).is_pending()));
            assert!(waits.await);
            assert_eq!(wire.bytes.buffer.capacity(), 0);
            assert!(share.buffer(MAX_BUFFERED).is_some());
        }
    }
}
