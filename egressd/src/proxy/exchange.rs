//! Carries one HTTP/1 request upstream and its response back.

use super::{
    framing::{Body, Framing, Trailers},
    head::HeadScan,
    purse::Purse,
    relay::Activity,
    request::Head,
    response::Response,
    wire::{AgentStream, Reader, UpstreamStream},
};
use std::io;
use tokio::{io::AsyncWriteExt, net::tcp::WriteHalf};

/// What can follow an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Another request.
    Persist,
    /// The end: one side asked for it, or the response ends with its connection.
    Close,
    /// The upstream left before it said anything.
    Silent,
    /// A message was cut short, so that both sides must see a reset.
    Broken,
}

/// Sends the head, of `octets` that are paid for, relays the body of the request and the response, both at
/// once: a server may answer before it has read everything.
pub async fn exchange(
    agent: &mut AgentStream,
    upstream: &mut UpstreamStream,
    head: &Head,
    octets: &[u8],
    purse: &Purse,
) -> After {
    let activity = Activity::start();
    upstream.0.count_as(&agent.0);
    let (from_agent, to_agent) = agent.0.split();
    let (from_upstream, to_upstream) = upstream.0.split();
    let upload = send(octets, head.framing, from_agent, to_upstream, &activity, purse);
    let download = receive(&head.method, from_upstream, to_agent, &activity);
    let silence = activity.silence();
    tokio::pin!(upload, download, silence);
    let mut sent = None;
    loop {
        tokio::select! {
            outcome = &mut upload, if sent.is_none() => match outcome {
                Err(Stop::Source) => return After::Broken,
                outcome => sent = Some(outcome.is_ok()),
            },
            received = &mut download => return match received {
                // With a part of the request unsent, nobody knows where the next one begins.
                Ok(Received::Persist) if sent == Some(true) && head.is_persistent => After::Persist,
                Ok(Received::Persist | Received::Close) => After::Close,
                Ok(Received::Nothing) => After::Silent,
                Err(_) => After::Broken,
            },
            () = &mut silence => return After::Broken,
        }
    }
}

/// Which side stopped a body half-way.
enum Stop {
    Source,
    Sink,
}

async fn send(
    head: &[u8],
    framing: Framing,
    mut from: Reader<'_>,
    mut to: WriteHalf<'_>,
    activity: &Activity,
    purse: &Purse,
) -> Result<(), Stop> {
    to.write_all(head).await.map_err(|_| Stop::Sink)?;
    carry(Body::new(framing, Trailers::Refuse), &mut from, &mut to, activity, Some(purse)).await
}

enum Received {
    Persist,
    Close,
    Nothing,
}

async fn receive(
    method: &str,
    mut from: Reader<'_>,
    mut to: WriteHalf<'_>,
    activity: &Activity,
) -> io::Result<Received> {
    loop {
        let Some(length) = head(&mut from).await? else { return Ok(Received::Nothing) };
        let response = Response::parse(&from.buffer()[..length], method).map_err(io::Error::other)?;
        to.write_all(&from.buffer()[..length]).await?;
        from.consume(length);
        activity.note();
        if response.is_interim {
            continue;
        }
        let body = Body::new(response.framing, Trailers::Pass);
        carry(body, &mut from, &mut to, activity, None)
            .await
            .map_err(|_| io::ErrorKind::ConnectionAborted)?;
        // Bytes behind the response answer no request.
        let is_over = response.is_persistent && from.buffer().is_empty();
        return Ok(if is_over { Received::Persist } else { Received::Close });
    }
}

/// Waits for a whole response head; None if the connection ends or fails before its first octet.
async fn head(from: &mut Reader<'_>) -> io::Result<Option<usize>> {
    let mut scan = HeadScan::default();
    loop {
        if let Some(length) = scan.end(from.buffer()).map_err(io::Error::other)? {
            return Ok(Some(length));
        }
        let began = !from.buffer().is_empty();
        match from.fill().await {
            Ok(0) | Err(_) if !began => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn carry(
    mut body: Body,
    from: &mut Reader<'_>,
    to: &mut WriteHalf<'_>,
    activity: &Activity,
    purse: Option<&Purse>,
) -> Result<(), Stop> {
    while !body.is_at_end() {
        let length = body.advance(from.buffer()).map_err(|_| Stop::Source)?;
        purse.map_or(Ok(()), |purse| purse.pay(length)).map_err(|_| Stop::Source)?;
        to.write_all(&from.buffer()[..length]).await.map_err(|_| Stop::Sink)?;
        from.consume(length);
        activity.note();
        if body.is_at_end() || !from.buffer().is_empty() {
            continue;
        }
        match from.fill().await {
            Ok(0) if body.ends_with_connection() => return Ok(()),
            Ok(0) | Err(_) => return Err(Stop::Source),
            Ok(_) => {}
        }
    }
    Ok(())
}
