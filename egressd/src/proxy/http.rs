//! HTTP/1 in plain text: every request is judged on its own, and only then sent.

use super::{
    authority::Authority,
    dial::{DialError, dial, dial_first},
    exchange::{After, exchange},
    flows::still_allowed,
    judge::judge_redirected,
    lookup::permits,
    origin::{Caller, Sought},
    peek::{self, PATIENCE, Unread},
    purse::Purse,
    refuse::{Refusal, bad_gateway, part, refuse, response},
    request::{DEFAULT_PORT, Head, Request},
    wire::{AgentStream, UpstreamStream},
};
use crate::policy::{Denial, Destination, Permit, Protocol, Reason};
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// One connection of an agent, with the upstream of its last request.
pub struct Session {
    caller: Caller,
    agent: AgentStream,
    /// Where the kernel redirected it from; None if the agent asked us as its proxy.
    original: Option<SocketAddr>,
    upstream: Option<Held>,
}

impl Session {
    /// A connection that the kernel redirected.
    #[must_use]
    pub fn redirected(caller: Caller, agent: AgentStream, original: SocketAddr) -> Self {
        Self { caller, agent, original: Some(original), upstream: None }
    }

    /// A connection to us as a proxy.
    #[must_use]
    pub fn proxied(caller: Caller, agent: AgentStream) -> Self {
        Self { caller, agent, original: None, upstream: None }
    }

    /// Serves requests, one after the other, until one is denied or a side is done, or one that is made to
    /// us as a proxy asks for a tunnel. The first head must be there by `end`.
    pub async fn serve(mut self, mut end: Instant) -> Option<Asked> {
        let ending = loop {
            let head = match peek::request(&mut self.agent, end).await {
                Ok(Request::Plain(head)) => head,
                Ok(Request::Connect(authority)) if self.original.is_none() => {
                    return Some(Asked { caller: self.caller, agent: self.agent, authority });
                }
                Ok(Request::Connect(_)) => break self.malformed("CONNECT is for proxies"),
                Err(Unread::Misread(misread)) => break Ending::Denied(self.nowhere(), misread.into()),
                Err(Unread::Gone) => return None,
            };
            if let Err(ending) = self.answer(&head).await {
                break ending;
            }
            if let Err(ending) = self.pause().await {
                break ending;
            }
            end = Instant::now() + PATIENCE;
        };
        self.end(ending).await;
        None
    }

    async fn answer(&mut self, head: &Head) -> Result<(), Ending> {
        let sought = self.sought(head)?;
        let Held { permit, mut stream, is_used, begun } = self.route(&sought, head).await?;
        let (gate, agent) = (&self.caller.gate, &self.caller.agent);
        let purse = begun.unwrap_or_else(|| gate.purse(agent, &permit));
        let flow = match gate.admit(agent, &permit, purse) {
            Ok(flow) => flow,
            Err(denial) => return Err(Ending::Denied(sought, denial.into())),
        };
        let octets = head.to_bytes(permit.port());
        if let Err(denial) = flow.purse().advance(octets.len()) {
            return Err(Ending::Denied(sought, denial.into()));
        }
        self.caller.record_permit(&sought, &permit, None);
        let after = tokio::select! {
            after = exchange(&mut self.agent, &mut stream, head, &octets, flow.purse()) => after,
            () = flow.cut() => After::Broken,
        };
        match after {
            After::Persist => {
                self.upstream = Some(Held { permit, stream, is_used: true, begun: None });
                Ok(())
            }
            After::Close => Err(Ending::Finished),
            // As a server does that closes an idle connection: the agent's library asks again.
            After::Silent if is_used => Err(Ending::Broken),
            After::Silent => Err(Ending::Unreachable("its upstream gave no answer".to_owned())),
            After::Broken => {
                stream.0.reset();
                Err(Ending::Broken)
            }
        }
    }

    /// Where a request wants to go, as far as its form is right for the kind of connection.
    fn sought(&self, head: &Head) -> Result<Sought, Ending> {
        let destination = Some(head.destination().clone());
        match self.original {
            None if !head.is_absolute => Err(self.malformed("a request to a proxy has an absolute URI")),
            None => {
                let port = head.authority.port.unwrap_or(DEFAULT_PORT);
                Ok(Sought { destination, address: None, port: Some(port) })
            }
            Some(original) if head.authority.port.is_some_and(|port| port != original.port()) => {
                Err(self.malformed("the Host field names another port"))
            }
            Some(original) => Ok(Sought { destination, ..Sought::address(original) }),
        }
    }

    /// An upstream for the request, judged: the one at hand if it serves, else another.
    async fn route(&mut self, sought: &Sought, head: &Head) -> Result<Held, Ending> {
        let denied = |denial: Denial| Ending::Denied(sought.clone(), denial.into());
        let held = self.upstream.take();
        let (destination, now) = (head.destination(), self.caller.now());
        if let Some(held) = held {
            let is_same = held.permit.destination() == destination && Some(held.permit.port()) == sought.port;
            if is_same {
                still_allowed(&self.caller.agent, &held.permit, now).map_err(denied)?;
                return Ok(held);
            }
            if let Some(original) = self.original {
                let permit = self.judge(destination, original).map_err(denied)?;
                // Another destination is another flow, whatever carries it.
                let begun = Some(self.begin(&permit).map_err(denied)?);
                return Ok(Held { permit, begun, ..held });
            }
        }
        match self.original {
            Some(original) => {
                let permit = self.judge(destination, original).map_err(denied)?;
                let begun = Some(self.begin(&permit).map_err(denied)?);
                match dial(&permit).await {
                    Ok(stream) => Ok(Held { permit, stream, is_used: false, begun }),
                    Err(error) => Err(self.unreachable(sought, &permit, &error)),
                }
            }
            None => self.dial_proxied(sought, destination).await,
        }
    }

    async fn dial_proxied(&self, sought: &Sought, destination: &Destination) -> Result<Held, Ending> {
        let port = sought.port.unwrap_or(DEFAULT_PORT);
        // A rule that allows any bytes allows HTTP.
        let permits = permits(&self.caller, destination, port, &[Protocol::Http, Protocol::Tcp])
            .await
            .map_err(|denial| Ending::Denied(sought.clone(), denial.into()))?;
        let begun = permits.first().map(|permit| self.begin(permit)).transpose();
        let begun = begun.map_err(|denial| Ending::Denied(sought.clone(), denial.into()))?;
        match dial_first(&permits).await {
            Ok((permit, stream)) => Ok(Held { permit: permit.clone(), stream, is_used: false, begun }),
            Err(error) => match permits.first() {
                Some(permit) => Err(self.unreachable(sought, permit, &error)),
                None => Err(Ending::Broken),
            },
        }
    }

    fn begin(&self, permit: &Permit) -> Result<Purse, Denial> {
        self.caller.gate.begin(&self.caller.agent, permit, 0)
    }

    fn judge(&self, destination: &Destination, original: SocketAddr) -> Result<Permit, Denial> {
        judge_redirected(&self.caller.agent, destination, original, Protocol::Http, self.caller.now())
    }

    /// Waits for the next request. An upstream that ends meanwhile is not used again.
    async fn pause(&mut self) -> Result<(), Ending> {
        let end = Instant::now() + KEEP_ALIVE;
        loop {
            let Some(held) = &mut self.upstream else {
                return peek::first_octet(&mut self.agent, end).await.map(drop).map_err(|_| Ending::Finished);
            };
            tokio::select! {
                biased;
                // The end, or bytes that answer nothing: in either case it has nothing to say.
                _ = held.stream.0.fill() => self.upstream = None,
                first = peek::first_octet(&mut self.agent, end) => {
                    return first.map(drop).map_err(|_| Ending::Finished);
                }
            }
            if self.original.is_some() {
                return Err(Ending::Finished);
            }
        }
    }

    async fn end(self, ending: Ending) {
        match ending {
            Ending::Denied(sought, refusal) => {
                let last = response(&self.caller, &sought, Protocol::Http, &refusal.denial);
                refuse(&self.caller, self.agent, &sought, Protocol::Http, refusal, Some(&last)).await;
            }
            Ending::Unreachable(why) => part(self.agent, &bad_gateway(&why)).await,
            Ending::Finished => part(self.agent, b"").await,
            Ending::Broken => self.agent.0.reset(),
        }
    }

    fn malformed(&self, why: &str) -> Ending {
        Ending::Denied(self.nowhere(), Refusal::explained(Reason::RequestMalformed, why))
    }

    fn unreachable(&self, sought: &Sought, permit: &Permit, error: &DialError) -> Ending {
        self.caller.record_permit(sought, permit, Some(error.to_string()));
        Ending::Unreachable(error.to_string())
    }

    /// What is sought when the request does not say.
    fn nowhere(&self) -> Sought {
        self.original.map(Sought::address).unwrap_or_default()
    }
}

/// A connection whose agent has asked for a tunnel with CONNECT.
pub struct Asked {
    pub caller: Caller,
    pub agent: AgentStream,
    pub authority: Authority,
}

/// How long a connection may wait for its next request: longer than what servers allow.
pub const KEEP_ALIVE: Duration = Duration::from_secs(120);

struct Held {
    permit: Permit,
    stream: UpstreamStream,
    /// Whether it has answered before.
    is_used: bool,
    /// What has paid for its beginning, until its first request.
    begun: Option<Purse>,
}

enum Ending {
    Denied(Sought, Refusal),
    Unreachable(String),
    Finished,
    Broken,
}
