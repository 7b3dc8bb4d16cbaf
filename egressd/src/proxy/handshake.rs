//! The part of a TLS handshake that stands in the clear, and in which a name could still change.
//!
//! A server may ask for a second ClientHello (HelloRetryRequest: RFC 8446, section 4.1.4), and acts on
//! the name in that one. So nothing of the agent follows its first hello before the upstream has answered;
//! and where it asked for a second one, that is held to the name of the first.

use super::{
    flows::LiveFlow,
    hello::{Hello, Misread},
    origin::{Caller, Sought},
    peek::{self, PATIENCE, Unread},
    purse::Purse,
    record::{ALERT, HANDSHAKE, NotARecord, Record},
    refuse::{self, Refusal, refuse},
    relay::{IDLE, relay},
    wire::{AgentStream, UpstreamStream},
};
use crate::policy::{Protocol, Reason};
use egress_common::hello::RETRY;
use std::io;
use tokio::time::{Instant, sleep};

/// Relays a flow that starts with `hello`, which still is at the front of what the agent sent, and is paid for.
pub async fn relay_tls(
    caller: &Caller,
    sought: &Sought,
    hello: &Hello,
    mut agent: AgentStream,
    mut upstream: UpstreamStream,
    flow: &LiveFlow,
) {
    upstream.0.count_as(&agent.0);
    let settled = tokio::select! {
        settled = settle(&mut agent, &mut upstream, hello, flow.purse()) => settled,
        () = flow.cut() => Err(Unsettled::Ended),
        () = sleep(IDLE) => Err(Unsettled::Ended),
    };
    match settled {
        Ok(()) => relay(agent, upstream, flow).await,
        Err(Unsettled::Ended) => {
            agent.0.reset();
            upstream.0.reset();
        }
        Err(Unsettled::Denied(refusal)) => {
            upstream.0.reset();
            refuse(caller, agent, sought, Protocol::Tls, refusal, Some(refuse::ALERT)).await;
        }
    }
}

/// Carries the handshake to where no hello can follow any more. What comes after is in the buffers.
///
/// # Errors
/// A second hello is not what the first one was, or one of the sockets is dead.
async fn settle(
    agent: &mut AgentStream,
    upstream: &mut UpstreamStream,
    hello: &Hello,
    purse: &Purse,
) -> Result<(), Unsettled> {
    let first = agent.0.buffer().get(..hello.length).ok_or(Unsettled::Ended)?;
    upstream.0.send(first).await?;
    agent.0.consume(hello.length);
    match wait_for_answer(agent, upstream).await? {
        Answer::Final => Ok(()),
        Answer::Retry => {
            let length = upstream.0.buffer().len();
            agent.0.send(upstream.0.buffer()).await?;
            upstream.0.consume(length);
            judge_second(agent, upstream, hello, purse).await
        }
    }
}

/// Why a flow does not go on.
#[derive(Debug)]
enum Unsettled {
    Denied(Refusal),
    /// One side is gone, or has to go.
    Ended,
}

impl From<io::Error> for Unsettled {
    fn from(_: io::Error) -> Self {
        Self::Ended
    }
}

impl From<Misread> for Unsettled {
    fn from(misread: Misread) -> Self {
        Self::Denied(misread.into())
    }
}

/// What an upstream says to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It asks for a second one.
    Retry,
    /// Anything else: it takes the hello, refuses it, or does not speak TLS.
    Final,
}

impl Answer {
    /// None as long as `bytes`, which is all that the upstream has sent, could become either.
    fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut hello = Vec::with_capacity(TOLD_BY);
        loop {
            let (record, at_hand) = match Record::begun(bytes) {
                Ok(begun) => begun?,
                Err(NotARecord) => return Some(Self::Final),
            };
            let is_whole = at_hand.len() == record;
            match bytes[0] {
                HANDSHAKE => {
                    let wanted = at_hand.len().min(TOLD_BY - hello.len());
                    hello.extend_from_slice(&at_hand[..wanted]);
                }
                // A warning, which some servers send ahead of their hello.
                ALERT if at_hand.first().is_none_or(|level| *level == WARNING) => {}
                _ => return Some(Self::Final),
            }
            if hello.first().is_some_and(|kind| *kind != SERVER_HELLO) {
                return Some(Self::Final);
            }
            if hello.len() == TOLD_BY {
                let is_retry = hello.ends_with(&RETRY);
                return Some(if is_retry { Self::Retry } else { Self::Final });
            }
            if !is_whole {
                return None;
            }
            bytes = &bytes[Record::HEADER + record..];
        }
    }
}

/// Waits until the upstream has answered. The agent is watched meanwhile, so that one that leaves is
/// noticed; of what it sends ahead (early data), one read is held here.
async fn wait_for_answer(agent: &mut AgentStream, upstream: &mut UpstreamStream) -> io::Result<Answer> {
    let mut listens = agent.0.buffer().is_empty();
    loop {
        if let Some(answer) = Answer::read(upstream.0.buffer()) {
            return Ok(answer);
        }
        if upstream.0.buffer().len() > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
        tokio::select! {
            read = upstream.0.fill() => if read? == 0 {
                // The relay meets the end again, and passes it on.
                return Ok(Answer::Final);
            },
            read = agent.0.fill(), if listens => listens = read? != 0 && agent.0.buffer().is_empty(),
        }
    }
}

/// Sends on what may stand before a second hello (change_cipher_spec, early data that the upstream skips,
/// an alert), and judges that. It stays in the buffer.
async fn judge_second(
    agent: &mut AgentStream,
    upstream: &mut UpstreamStream,
    first: &Hello,
    purse: &Purse,
) -> Result<(), Unsettled> {
    let end = Instant::now() + PATIENCE;
    let read = loop {
        let before = match Record::first(agent.0.buffer()) {
            _ if agent.0.buffer().first() == Some(&HANDSHAKE) => break peek::hello(agent, end).await,
            Ok(record) => record.map(|record| record.length()),
            Err(NotARecord) => {
                return Err(Misread::explained(
                    Reason::HelloMalformed,
                    "second hello is not in a valid record",
                )
                .into());
            }
        };
        match before {
            Some(length) => {
                purse.pay(length)?;
                upstream.0.send(&agent.0.buffer()[..length]).await?;
                agent.0.consume(length);
            }
            None => {
                if let Err(unread) = peek::more(agent, end, Reason::HelloMalformed).await {
                    break Err(unread);
                }
            }
        }
    };
    match read {
        Ok(second) => held_to(first, &second),
        Err(Unread::Misread(misread)) => Err(misread.into()),
        // The relay meets the end again, and passes it on.
        Err(Unread::Gone) => Ok(()),
    }
}

/// RFC 8446, section 4.1.2: the second hello differs in little, and never in its server name.
fn held_to(first: &Hello, second: &Hello) -> Result<(), Unsettled> {
    if second.name != first.name {
        let why = format!("the first ClientHello named {}, the second {}", first.name, second.name);
        return Err(Unsettled::Denied(Refusal::explained(Reason::ServerNameChanged, why)));
    }
    match second.has_ech && !first.has_ech {
        true => Err(Unsettled::Denied(Refusal::explained(
            Reason::EchNotAllowed,
            "only in the second ClientHello",
        ))),
        false => Ok(()),
    }
}

/// Octets of a ServerHello up to the end of its random: type, length, version, random.
const TOLD_BY: usize = 1 + 3 + 2 + RETRY.len();

const SERVER_HELLO: u8 = 2;
const WARNING: u8 = 1;

/// The most that an upstream may send without saying what its answer is: records in tiny pieces, and
/// warnings ahead of them.
const MAX_ANSWER: usize = 4 * 1024;
