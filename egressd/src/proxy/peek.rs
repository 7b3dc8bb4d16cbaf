//! Reads what a flow must show before it is judged, in bounded time and memory.

use super::{
    head::HeadScan,
    hello::{Hello, HelloReader, Misread},
    request::Request,
    wire::AgentStream,
};
use crate::policy::Reason;
use std::{io, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How long a flow may take, in all, to show a whole ClientHello or request head. A total, not a
/// pause: one octet a second must not hold a connection open.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a flow showed nothing to judge.
#[derive(Debug)]
pub enum Unread {
    Misread(Misread),
    /// The agent left before it sent anything. Nothing was denied.
    Gone,
}

/// Waits for the first octet.
pub async fn first_octet(agent: &mut AgentStream, end: Instant) -> Result<u8, Unread> {
    loop {
        if let Some(first) = agent.0.buffer().first() {
            return Ok(*first);
        }
        more(agent, end, Reason::NotTls).await?;
    }
}

/// Reads a ClientHello. Its bytes stay in the buffer, to be replayed as they came.
pub async fn hello(agent: &mut AgentStream, end: Instant) -> Result<Hello, Unread> {
    let mut reader = HelloReader::new();
    loop {
        if let Some(hello) = reader.read(agent.0.buffer()).map_err(Unread::Misread)? {
            return Ok(hello);
        }
        more(agent, end, Reason::HelloMalformed).await?;
    }
}

/// Reads the head of a request and takes it out of the buffer.
pub async fn request(agent: &mut AgentStream, end: Instant) -> Result<Request, Unread> {
    let malformed =
        |error: &dyn std::fmt::Display| Unread::Misread(Misread::explained(Reason::RequestMalformed, error));
    let mut scan = HeadScan::default();
    loop {
        if let Some(length) = scan.end(agent.0.buffer()).map_err(|error| malformed(&error))? {
            let request = Request::parse(&agent.0.buffer()[..length]).map_err(|error| malformed(&error))?;
            agent.0.consume(length);
            return Ok(request);
        }
        more(agent, end, Reason::RequestMalformed).await?;
    }
}

/// Reads more before `end`; `cut_short` is the reason if the agent stops half-way.
pub async fn more(agent: &mut AgentStream, end: Instant, cut_short: Reason) -> Result<(), Unread> {
    let began = !agent.0.buffer().is_empty();
    let gone = || match began {
        true => Unread::Misread(Misread::explained(cut_short, "agent closed half-way")),
        false => Unread::Gone,
    };
    match timeout_at(end, agent.0.fill()).await {
        Err(_elapsed) => Err(Unread::Misread(Misread::because(Reason::HelloTimeout))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::QuotaExceeded => {
            Err(Unread::Misread(Misread::explained(Reason::QuotaExceeded, "buffers at the proxy")))
        }
        Ok(Ok(0) | Err(_)) => Err(gone()),
        Ok(Ok(_)) => Ok(()),
    }
}
