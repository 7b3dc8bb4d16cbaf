//! A socket below TLS: what was read from it comes again, its silence is noticed, and a cut resets it.

use crate::proxy::{purse::Purse, relay::Activity};
use bytes::{Buf, Bytes};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What both sockets of a flow share.
#[derive(Debug)]
pub struct Pulse {
    pub activity: Activity,
    is_cut: AtomicBool,
}

impl Pulse {
    #[must_use]
    pub fn start() -> Arc<Self> {
        Arc::new(Self { activity: Activity::start(), is_cut: AtomicBool::new(false) })
    }

    /// From here on, both sockets end with a reset.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }
}

/// One socket of a flow.
#[derive(Debug)]
pub struct Plain {
    tcp: TcpStream,
    /// What was read before, and is read again first.
    replayed: Bytes,
    pulse: Arc<Pulse>,
    /// Pays for what is written, towards the server.
    purse: Option<Purse>,
}

impl Plain {
    #[must_use]
    pub fn new(tcp: TcpStream, replayed: Bytes, pulse: Arc<Pulse>) -> Self {
        Self { tcp, replayed, pulse, purse: None }
    }

    /// The same, with `purse` to pay for what is written.
    #[must_use]
    pub fn paid_by(mut self, purse: Purse) -> Self {
        self.purse = Some(purse);
        self
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replayed.has_remaining() {
            let length = self.replayed.len().min(buffer.remaining());
            buffer.put_slice(&self.replayed.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let read = ready!(Pin::new(&mut self.tcp).poll_read(context, buffer));
        self.pulse.activity.note();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let paid = self.purse.as_ref().map_or(Ok(()), |purse| purse.pay(bytes.len()));
        if let Err(refused) = paid {
            self.pulse.cut();
            return Poll::Ready(Err(refused));
        }
        let written = Pin::new(&mut self.tcp).poll_write(context, bytes);
        let went = if let Poll::Ready(Ok(octets)) = &written { *octets } else { 0 };
        self.purse.iter().for_each(|purse| purse.give_back(bytes.len() - went));
        if written.is_ready() {
            self.pulse.activity.note();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if self.pulse.is_cut.load(Ordering::Relaxed) {
            // A socket on which this fails has no connection left to reset.
            let _ = self.tcp.set_zero_linger();
        }
    }
}
