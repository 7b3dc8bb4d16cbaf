//! Echoes on TCP and UDP, at the raw ports of every place.

use crate::{lab::Namespace, places::PLACES};
use std::{
    future::pending,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::mpsc,
    thread::JoinHandle,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    runtime,
    sync::oneshot,
};

/// Ports that echo: one for a database, one for whatever else.
pub const PORTS: [u16; 2] = [5432, 9000];

/// Echoes until it is dropped.
pub struct Sinks {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sinks {
    /// Returns when every socket is bound.
    pub fn start(inet: &Namespace) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = inet.spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(async {
                for port in PORTS {
                    open(port).await;
                }
                ready.send(()).expect("the lab waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv().expect("sinks can be bound");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn open(port: u16) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = TcpListener::bind(any).await.expect("a sink can be bound");
    tokio::spawn(accept(listener));
    // One socket for each address, or answers would come from another one.
    for address in PLACES.iter().flat_map(|place| [IpAddr::V4(place.v4), IpAddr::V6(place.v6)]) {
        let socket = UdpSocket::bind((address, port)).await.expect("a sink can be bound");
        tokio::spawn(echo_datagrams(socket));
    }
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            Err(_) => return pending().await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut buffer = [0; 4096];
    loop {
        // Errors are those of earlier answers, such as a port that is closed.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], peer).await;
        }
    }
}
