//! DNS over TCP (RFC 7766): messages behind their length, pipelined, answered in any order.

use super::{
    gate::Judgement,
    report::Asker,
    serve::{Desk, REST},
};
use crate::policy::Transport;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

/// The most TCP connections that one agent may hold at its resolver, 4 MiB of messages at the worst.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a connection may rest, and how long one message may take in either direction
/// (RFC 7766, section 6.2.3, recommends a few seconds).
pub const IDLE: Duration = Duration::from_secs(10);

/// Replies that wait for an agent that does not read; beyond, its queries are not read either.
const MAX_REPLIES: usize = 16;

/// The connections that the listeners of one agent share.
#[must_use]
pub fn connections() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// Accepts connections until it is dropped, and drops them with itself.
pub async fn serve(desk: Desk, listener: TcpListener, connections: Arc<Semaphore>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "failed to accept a dns connection");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let asker = desk.asker(Transport::Tcp, peer);
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            desk.gate.exceeded(&asker, "dns connections at one time");
            continue;
        };
        let desk = desk.clone();
        open.spawn(async move {
            converse(&desk, &asker, stream).await;
            drop(place);
        });
    }
}

/// Serves one connection until the agent closes it or rests too long.
async fn converse(desk: &Desk, asker: &Asker, stream: TcpStream) {
    let (queries, answers) = stream.into_split();
    let (replies, outbox) = mpsc::channel(MAX_REPLIES);
    let reading = read_all(desk, asker, queries, replies);
    if let (Err(error), _) | (_, Err(error)) = tokio::join!(reading, write_all(answers, outbox)) {
        debug!(%error, peer = %asker.peer, "dns connection ended");
    }
}

async fn read_all(
    desk: &Desk,
    asker: &Asker,
    mut queries: OwnedReadHalf,
    replies: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut lookups = JoinSet::new();
    while let Some(message) = read(&mut queries).await? {
        while lookups.try_join_next().is_some() {}
        let sent = match desk.gate.judge(asker, &message) {
            Judgement::Silence => Ok(()),
            Judgement::Reply(reply) => replies.send(reply).await,
            Judgement::LookUp(lookup) => {
                let (gate, asker, replies) = (Arc::clone(&desk.gate), asker.clone(), replies.clone());
                lookups.spawn(async move {
                    let reply = gate.answer(&asker, lookup).await.reply;
                    // The agent left before its answer came.
                    let _ = replies.send(reply).await;
                });
                Ok(())
            }
        };
        if sent.is_err() {
            break;
        }
    }
    drop(replies);
    while lookups.join_next().await.is_some() {}
    Ok(())
}

/// The next message, or None when the agent closed its side between two.
async fn read(queries: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let message = async {
        let length = match queries.read_u16().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut message = vec![0; usize::from(length)];
        queries.read_exact(&mut message).await?;
        Ok(Some(message))
    };
    timeout(IDLE, message).await?
}

/// Length and message in one write, for some agents read them in one (RFC 7766, section 8).
async fn write_all(mut answers: OwnedWriteHalf, mut outbox: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(reply) = outbox.recv().await {
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), &reply[..]].concat();
        timeout(IDLE, answers.write_all(&framed)).await??;
    }
    Ok(())
}
