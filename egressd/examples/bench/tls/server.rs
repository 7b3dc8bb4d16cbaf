//! The server of what is no real TLS: it answers a ClientHello, and then takes or gives octets.

use super::hello;
use clap::Parser;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
};

/// Answers until it is killed
#[derive(Debug, Clone, Parser)]
pub struct Server {
    #[arg(long)]
    listen: SocketAddr,
}

impl Server {
    pub fn run(&self) {
        let runtime =
            runtime::Builder::new_current_thread().enable_io().build().expect("a runtime can be built");
        runtime.block_on(async {
            let listener = self.listener().expect("the address is free");
            loop {
                // One that is gone again is none.
                if let Ok((stream, _)) = listener.accept().await {
                    drop(tokio::spawn(serve(stream)));
                }
            }
        });
    }

    fn listener(&self) -> io::Result<TcpListener> {
        let socket = if self.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.listen)?;
        socket.listen(BACKLOG)
    }
}

/// What a client says behind its ClientHello, if anything: that it is going to send, or to receive.
pub const UP: u8 = b'u';
pub const DOWN: u8 = b'd';

/// Octets of one read or write of much.
pub const CHUNK: usize = 128 << 10;

const BACKLOG: u32 = 16384;

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 2048];
    let mut filled = 0;
    while hello::length(&buffer[..filled]).is_none_or(|length| filled < length) {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            count => filled += count,
        }
    }
    stream.write_all(&hello::server()).await?;
    match stream.read(&mut buffer[..1]).await? {
        0 => Ok(()),
        _ if buffer[0] == UP => take(stream).await,
        _ => give(stream).await,
    }
}

async fn take(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk).await? > 0 {}
    Ok(())
}

async fn give(mut stream: TcpStream) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}
