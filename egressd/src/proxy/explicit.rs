//! Tunnels that an agent asks us for, with CONNECT or over SOCKS.

use super::{
    authority::Authority,
    dial::{DialError, dial_first},
    handshake::relay_tls,
    hello::Hello,
    http::Session,
    inspect,
    judge::judge_ech,
    lookup::permits,
    origin::{Caller, Sought},
    peek::{self, PATIENCE, Unread},
    purse::Purse,
    refuse::{ALERT, Refusal, bad_gateway, part, refuse, response},
    relay::relay,
    socks,
    wire::{AgentStream, UpstreamStream},
};
use crate::policy::{Denial, Destination, Permit, Protocol, Reason};
use std::net::SocketAddr;
use tokio::time::Instant;

/// In which protocol a tunnel was asked for, and so is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// `CONNECT host:port` of HTTP/1.
    Connect,
    /// The request of SOCKS5.
    Socks,
}

/// Serves a tunnel to `authority` until it ends.
pub async fn tunnel(caller: Caller, agent: AgentStream, authority: Authority, manner: Manner) {
    let protocols: &[Protocol] = match (&authority.destination, manner) {
        (Destination::Name(_), Manner::Connect) => &[Protocol::Tls, Protocol::Tcp],
        // Who uses CONNECT asks for plain HTTP without a tunnel; over SOCKS there is no other way.
        (Destination::Name(_), Manner::Socks) => &[Protocol::Tls, Protocol::Http, Protocol::Tcp],
        // An address proves no server name.
        (Destination::Address(_), Manner::Connect | Manner::Socks) => &[Protocol::Tcp],
    };
    // No request without a port gets here; port 0 no rule covers.
    let port = authority.port.unwrap_or_default();
    let sought = Sought { destination: Some(authority.destination.clone()), address: None, port: Some(port) };
    let tunnel = Tunnel { caller, agent, sought, manner };
    match permits(&tunnel.caller, &authority.destination, port, protocols).await {
        Err(denial) => tunnel.deny(protocols[0], denial.into()).await,
        // They are all for one protocol.
        Ok(permits) => match permits.first().map(Permit::protocol) {
            Some(Protocol::Tls) => tunnel.serve_tls(&authority.destination, &permits).await,
            Some(Protocol::Http) => tunnel.serve_http(&permits).await,
            Some(Protocol::Tcp | Protocol::Udp | Protocol::Quic) | None => tunnel.serve_any(&permits).await,
        },
    }
}

struct Tunnel {
    caller: Caller,
    agent: AgentStream,
    sought: Sought,
    manner: Manner,
}

impl Tunnel {
    /// The ClientHello inside must name the host of the CONNECT, before anything is dialled.
    async fn serve_tls(mut self, destination: &Destination, permits: &[Permit]) {
        if self.agent.0.send(self.manner.established()).await.is_err() {
            return;
        }
        let end = Instant::now() + PATIENCE;
        match peek::first_octet(&mut self.agent, end).await {
            Ok(_) => {}
            Err(Unread::Gone) => return,
            Err(Unread::Misread(misread)) => return self.cut(misread.into(), None).await,
        }
        let refusal = match peek::hello(&mut self.agent, end).await {
            Ok(hello) if *destination == Destination::Name(hello.name.clone()) => {
                let agent = &self.caller.agent;
                match permits.iter().try_for_each(|permit| judge_ech(agent, permit, &hello)) {
                    Ok(()) => return self.carry_tls(permits, &hello).await,
                    Err(denial) => denial.into(),
                }
            }
            Ok(hello) => {
                let why = format!("{} named {destination}, the ClientHello {}", self.manner, hello.name);
                Refusal::explained(Reason::ServerNameNotGranted, why)
            }
            Err(Unread::Misread(misread)) => misread.into(),
            Err(Unread::Gone) => return,
        };
        let last = (refusal.denial.reason != Reason::NotTls).then_some(ALERT);
        self.cut(refusal, last).await;
    }

    async fn carry_tls(self, permits: &[Permit], hello: &Hello) {
        if let Some(inspection) = permits.first().and_then(Permit::inspection).cloned() {
            // In a box, so that no tunnel takes the room that inspection needs.
            return Box::pin(inspect::serve(self.caller, self.agent, self.sought, permits, inspection)).await;
        }
        let purse = match self.begin(permits, hello.length) {
            Ok(purse) => purse,
            Err(denial) => return self.cut(denial.into(), Some(ALERT)).await,
        };
        match dial_first(permits).await {
            Ok((permit, upstream)) => self.carry(permit, upstream, Some(hello), purse).await,
            Err(error) => {
                purse.give_back(hello.length);
                self.record_failure(permits, &error);
                self.agent.0.reset();
            }
        }
    }

    /// Each request inside is judged, as if the kernel had redirected it from the first address.
    async fn serve_http(mut self, permits: &[Permit]) {
        let address =
            permits.iter().find_map(|permit| Some(SocketAddr::new(permit.address()?, permit.port())));
        let Some(address) = address else {
            return self.deny(Protocol::Http, Denial::because(Reason::UpstreamFailed).into()).await;
        };
        if self.agent.0.send(self.manner.established()).await.is_ok() {
            let session = Session::redirected(self.caller, self.agent, address);
            // There is no tunnel inside a tunnel: that is denied there. In a box: see transparent.rs.
            let _none = Box::pin(session.serve(Instant::now() + PATIENCE)).await;
        }
    }

    async fn serve_any(mut self, permits: &[Permit]) {
        let purse = match self.begin(permits, 0) {
            Ok(purse) => purse,
            Err(denial) => return self.deny(Protocol::Tcp, denial.into()).await,
        };
        match dial_first(permits).await {
            Ok((permit, upstream)) => {
                if self.agent.0.send(self.manner.established()).await.is_ok() {
                    self.carry(permit, upstream, None, purse).await;
                }
            }
            Err(error) => {
                self.record_failure(permits, &error);
                part(self.agent, &self.manner.unreachable(&error)).await;
            }
        }
    }

    /// What pays for a flow by one of `permits`, which are for one name.
    fn begin(&self, permits: &[Permit], octets: usize) -> Result<Purse, Denial> {
        let permit = permits.first().ok_or(Denial::because(Reason::UpstreamFailed))?;
        self.caller.gate.begin(&self.caller.agent, permit, octets)
    }

    async fn carry(self, permit: &Permit, upstream: UpstreamStream, hello: Option<&Hello>, purse: Purse) {
        match self.caller.gate.admit(&self.caller.agent, permit, purse) {
            Ok(flow) => {
                self.caller.record_permit(&self.sought, permit, None);
                match hello {
                    Some(hello) => {
                        relay_tls(&self.caller, &self.sought, hello, self.agent, upstream, &flow).await;
                    }
                    None => relay(self.agent, upstream, &flow).await,
                }
            }
            Err(denial) => self.cut(denial.into(), hello.map(|_| ALERT)).await,
        }
    }

    /// Denies before the tunnel stands, in the protocol in which it was asked for.
    async fn deny(self, protocol: Protocol, refusal: Refusal) {
        let last = match self.manner {
            Manner::Connect => response(&self.caller, &self.sought, protocol, &refusal.denial),
            Manner::Socks => socks::denied(refusal.denial.reason).to_vec(),
        };
        refuse(&self.caller, self.agent, &self.sought, protocol, refusal, Some(&last)).await;
    }

    /// Denies inside the tunnel.
    async fn cut(self, refusal: Refusal, last: Option<&[u8]>) {
        refuse(&self.caller, self.agent, &self.sought, Protocol::Tls, refusal, last).await;
    }

    fn record_failure(&self, permits: &[Permit], error: &DialError) {
        if let Some(permit) = permits.first() {
            self.caller.record_permit(&self.sought, permit, Some(error.to_string()));
        }
    }
}

impl Manner {
    fn established(self) -> &'static [u8] {
        match self {
            Self::Connect => b"HTTP/1.1 200 Connection Established\r\n\r\n",
            Self::Socks => &socks::SUCCEEDED,
        }
    }

    fn unreachable(self, error: &DialError) -> Vec<u8> {
        match self {
            Self::Connect => bad_gateway(&error.to_string()),
            Self::Socks => socks::unreachable(error).to_vec(),
        }
    }
}

impl std::fmt::Display for Manner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::Socks => "SOCKS",
        })
    }
}
