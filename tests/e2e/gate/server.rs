//! Servers on the internet whose answers to a hello are made up, and that keep every octet they are sent.

use crate::lab::Lab;
use socket2::{Domain, Socket, Type};
use std::{
    future::pending,
    net::{Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
};

/// What a server does of itself. Each has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Answers the first record, or whatever octets come first, by what begins as a ServerHello does, and echoes all others.
    Answers,
    /// Never says a word.
    Silent,
    /// Asks for a second hello (RFC 8446, section 4.1.4), and then goes on as [`Self::Answers`].
    Retries,
    /// As [`Self::Answers`], with room for little at a time, so that a hello leaves in several goes.
    Narrow,
}

impl Manner {
    pub const fn port(self) -> u16 {
        match self {
            Self::Answers => 4430,
            Self::Silent => 4431,
            Self::Retries => 4432,
            Self::Narrow => 4433,
        }
    }
}

/// Serves at every address of the internet until it is dropped.
pub struct Server {
    heard: Arc<Mutex<Vec<u8>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Returns when it listens.
    pub fn start(lab: &Lab, manner: Manner) -> Self {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, manner.port()));
        let listener = lab.on_inet(|| listen(any, manner).expect("the port is free"));
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let heard = Arc::clone(&heard);
            move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime can be built").block_on(async {
                    tokio::select! {
                        () = accept(listener, manner, &heard) => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { heard, stop: Some(stop), thread: Some(thread) }
    }

    /// All that it was sent so far, one connection's octets among those of others.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listen(address: SocketAddr, manner: Manner) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if manner == Manner::Narrow {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(listener: std::net::TcpListener, manner: Manner, heard: &Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, manner, Arc::clone(heard)))),
            Err(_) => return pending().await,
        }
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, heard: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    let answers: &[&[u8]] = match manner {
        Manner::Answers | Manner::Narrow => &[SERVER_HELLO],
        Manner::Silent => &[],
        Manner::Retries => &[HELLO_RETRY_REQUEST, SERVER_HELLO],
    };
    let mut answers = answers.iter();
    let (mut buffer, mut said) = ([0; 16384], Vec::new());
    loop {
        let length = match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => length,
        };
        heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
        said.extend_from_slice(&buffer[..length]);
        if answers.len() > 0 && !is_whole(&said) {
            continue;
        }
        said.clear();
        match answers.next() {
            Some(answer) => stream.write_all(answer).await?,
            None if manner == Manner::Silent => {}
            None => stream.write_all(&buffer[..length]).await?,
        }
    }
}

/// Whether octets end no sooner than their record does; what is no handshake's has none.
fn is_whole(said: &[u8]) -> bool {
    match said {
        [22, _, _, high, low, carried @ ..] => {
            carried.len() >= usize::from(u16::from_be_bytes([*high, *low]))
        }
        [22, ..] => false,
        _ => true,
    }
}

/// RFC 8446, section 4.1.3: a record with a ServerHello that chose TLS 1.3 and X25519.
const SERVER_HELLO: &[u8] = &hello::<40, { HEAD + 40 }>(*b"a server's random of 32 octets..", &KEY_SHARE);

/// The same with the random that makes it a HelloRetryRequest, and a key share that only names a group.
const HELLO_RETRY_REQUEST: &[u8] = &hello::<6, { HEAD + 6 }>(
    [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ],
    &[0, 51, 0, 2, 0, 24],
);

const KEY_SHARE: [u8; 40] = {
    let mut extension = [7; 40];
    let head = [0, 51, 0, 36, 0, 29, 0, 32];
    let mut at = 0;
    while at < head.len() {
        extension[at] = head[at];
        at += 1;
    }
    extension
};

/// Octets of [`hello`] before its key share: the record's head, the message's, and what is in it.
const HEAD: usize = 5 + 4 + 2 + 32 + 1 + 2 + 1 + 2 + 6;

const fn hello<const SHARE: usize, const SIZE: usize>(random: [u8; 32], share: &[u8; SHARE]) -> [u8; SIZE] {
    let extensions = 6 + SHARE;
    let body = 2 + 32 + 1 + 2 + 1 + 2 + extensions;
    let mut record = [0; SIZE];
    let head = [22, 3, 3, 0, (body + 4) as u8, 2, 0, 0, body as u8, 3, 3];
    let tail = [0, 0x13, 0x01, 0, 0, extensions as u8, 0, 43, 0, 2, 3, 4];
    assert!(SIZE == HEAD + SHARE);
    let mut at = 0;
    while at < SIZE {
        record[at] = match at {
            0..11 => head[at],
            11..43 => random[at - 11],
            43..HEAD => tail[at - 43],
            _ => share[at - HEAD],
        };
        at += 1;
    }
    record
}
