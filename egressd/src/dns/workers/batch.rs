//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2).

use socket2::SockAddr;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};

/// The most messages that are taken from one socket in a turn. More of them cost less each, but let
/// whoever comes meanwhile wait longer: 32 take some 100 us.
pub const MAX_MESSAGES: usize = 32;

/// The longest query that is read. What is longer is cut to its header, and so is malformed.
pub const MAX_QUERY: usize = 4096;

/// The longest reply that is written here; see [`crate::dns::answer::MAX_UDP`].
pub const MAX_REPLY: usize = 1232;

/// The buffers of one thread: what came in one turn, and what goes back.
pub struct Batch {
    received: Datagrams<{ stride(MAX_QUERY) }>,
    replies: Datagrams<{ stride(MAX_REPLY) }>,
}

impl Batch {
    #[must_use]
    pub fn new() -> Self {
        Self { received: Datagrams::new(MAX_QUERY), replies: Datagrams::new(MAX_REPLY) }
    }

    /// Takes what waits at `socket`, at most `count` messages, without waiting, and returns how many came.
    ///
    /// # Errors
    /// Nothing waits, or the kernel says what went wrong before.
    pub fn receive(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        self.received.receive(socket, count)
    }

    /// Message `index` of those that came, and who sent it.
    #[must_use]
    pub fn message(&self, index: usize) -> (&[u8], Option<SocketAddr>) {
        (self.received.octets(index), self.received.peer(index))
    }

    /// Has `write` read message `index`, and write reply `place` to whoever sent it; `write` says how much
    /// it wrote. Whether it did.
    pub fn reply(
        &mut self,
        index: usize,
        place: usize,
        write: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(length) = write(self.received.octets(index), self.replies.buffer(place)) else {
            return false;
        };
        self.replies.address(place, length, &self.received, index);
        true
    }

    /// Sends the first `count` replies. One that cannot be sent is lost, as datagrams may be; the others
    /// are sent all the same.
    pub fn send(&mut self, socket: &UdpSocket, count: usize) {
        let mut sent = 0;
        while sent < count {
            sent += match self.replies.send(socket, sent, count) {
                Ok(messages) => messages.max(1),
                Err(error) => {
                    tracing::debug!(%error, "failed to send a dns answer");
                    1
                }
            };
        }
    }
}

/// Messages, each with its buffer of `STRIDE` octets and its address. The headers point into the boxes
/// beside them, which stay where they are.
struct Datagrams<const STRIDE: usize> {
    headers: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    addresses: Box<[libc::sockaddr_storage]>,
    buffers: Box<[[u8; STRIDE]]>,
    capacity: usize,
    /// How many of them the last call filled.
    used: usize,
}

impl<const STRIDE: usize> Datagrams<STRIDE> {
    /// Room for [`MAX_MESSAGES`] messages of `capacity` octets.
    fn new(capacity: usize) -> Self {
        // SAFETY: all three are plain C structures, for which zeros are valid.
        let (header, part, address) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let mut new = Self {
            headers: vec![header; MAX_MESSAGES].into(),
            parts: vec![part; MAX_MESSAGES].into(),
            addresses: vec![address; MAX_MESSAGES].into(),
            buffers: vec![[0; STRIDE]; MAX_MESSAGES].into(),
            capacity: capacity.min(STRIDE),
            used: 0,
        };
        for index in 0..MAX_MESSAGES {
            new.parts[index] =
                libc::iovec { iov_base: new.buffers[index].as_mut_ptr().cast(), iov_len: new.capacity };
            let header = &mut new.headers[index].msg_hdr;
            header.msg_iov = &raw mut new.parts[index];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut new.addresses[index]).cast();
            header.msg_namelen = ADDRESS_LENGTH;
        }
        new
    }

    fn receive(&mut self, socket: &UdpSocket, count: usize) -> io::Result<usize> {
        let count = u32::try_from(count.min(MAX_MESSAGES)).unwrap_or(0);
        for header in &mut self.headers[..self.used] {
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
        }
        self.used = 0;
        // SAFETY: `headers` holds `count` messages, whose pointers lead into boxes of this value.
        let received = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        self.used = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.used)
    }

    /// What was received as number `index`.
    fn octets(&self, index: usize) -> &[u8] {
        let Some((header, buffer)) = self.headers.get(index).zip(self.buffers.get(index)) else { return &[] };
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let length = if is_cut { HEADER } else { header.msg_len as usize };
        buffer.get(..length.min(self.capacity)).unwrap_or_default()
    }

    fn peer(&self, index: usize) -> Option<SocketAddr> {
        let (header, address) = self.headers.get(index).zip(self.addresses.get(index))?;
        let length = header.msg_hdr.msg_namelen;
        // SAFETY: the storage is as large as it must be, and the kernel wrote an address of this length there.
        let address = unsafe {
            SockAddr::try_init(|storage, size| {
                storage.cast::<libc::sockaddr_storage>().write(*address);
                *size = length;
                Ok(())
            })
        };
        address.ok()?.1.as_socket()
    }

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        self.buffers.get_mut(index).map_or(&mut [], |buffer| &mut buffer[..])
    }

    /// Addresses message `index` of `length` octets to the sender of `other`.
    fn address<const OTHER: usize>(
        &mut self,
        index: usize,
        length: usize,
        from: &Datagrams<OTHER>,
        other: usize,
    ) {
        self.parts[index].iov_len = length.min(self.capacity);
        let to = &from.headers[other].msg_hdr;
        // The kernel only reads it.
        self.headers[index].msg_hdr.msg_name = (&raw const from.addresses[other]).cast_mut().cast();
        self.headers[index].msg_hdr.msg_namelen = to.msg_namelen;
    }

    fn send(&mut self, socket: &UdpSocket, first: usize, end: usize) -> io::Result<usize> {
        let Some(messages) = self.headers.get_mut(first..end) else { return Ok(0) };
        let count = u32::try_from(messages.len()).unwrap_or(0);
        // SAFETY: `messages` holds `count` messages, whose pointers lead into boxes of this value and of
        // the one that it was addressed from, which lives beside it in a `Batch`.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Buffers begin a cache line further each: at a power of two apart they would share the same few.
const fn stride(capacity: usize) -> usize {
    capacity.next_multiple_of(1024) + 64
}

const HEADER: usize = crate::dns::query::HEADER;
const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_reply_that_cannot_be_sent_leaves_the_others_alone() {
        let (server, mut batch) = (bind("127.0.0.1:0"), Batch::new());
        let clients = [bind("127.0.0.1:0"), bind("127.0.0.1:0"), bind("127.0.0.1:0")];
        for client in &clients {
            client.send_to(b"ask", server.local_addr().unwrap()).unwrap();
        }
        assert_eq!(batch.receive(&server, MAX_MESSAGES).unwrap(), 3);
        for index in 0..3 {
            assert!(batch.reply(index, index, echo));
        }
        // SAFETY: an address of IPv4 was received there.
        let address = unsafe { &mut *(&raw mut batch.received.addresses[1]).cast::<libc::sockaddr_in>() };
        // The kernel sends nothing to port 0.
        address.sin_port = 0;
        batch.send(&server, 3);
        for client in [&clients[0], &clients[2]] {
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 3);
        }
        clients[1].set_nonblocking(true).unwrap();
        assert!(clients[1].recv(&mut [0; 8]).is_err());
    }

    #[test]
    fn addresses_of_both_families_are_told_whichever_came_before() {
        let mut batch = Batch::new();
        for address in ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0", "[::1]:0"] {
            let (server, client) = (bind(address), bind(address));
            client.send_to(b"ask", server.local_addr().unwrap()).unwrap();
            assert_eq!(batch.receive(&server, MAX_MESSAGES).unwrap(), 1);
            assert_eq!(batch.message(0), (&b"ask"[..], Some(client.local_addr().unwrap())));
            assert!(batch.reply(0, 0, echo));
            batch.send(&server, 1);
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 3);
        }
    }

    #[test]
    fn no_more_is_taken_than_there_is_room_for() {
        let (server, client, mut batch) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"), Batch::new());
        for number in 0..MAX_MESSAGES + 8 {
            let message: &[u8] = if number == 2 { &[7; MAX_QUERY + 1] } else { b"ask" };
            client.send_to(message, server.local_addr().unwrap()).unwrap();
        }
        assert_eq!(batch.receive(&server, 3).unwrap(), 3);
        assert_eq!((batch.message(1).0, batch.message(2).0), (&b"ask"[..], &[7; HEADER][..]));
        assert_eq!(batch.receive(&server, usize::MAX).unwrap(), MAX_MESSAGES);
        assert_eq!(batch.receive(&server, usize::MAX).unwrap(), 5);
        assert_eq!(batch.receive(&server, 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    fn bind(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn echo(message: &[u8], out: &mut [u8]) -> Option<usize> {
        out.get_mut(..message.len())?.copy_from_slice(message);
        Some(message.len())
    }
}
