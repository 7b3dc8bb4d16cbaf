//! Tunnels that an agent asks us for with CONNECT.

use super::{
    authority::Authority,
    dial::{DialError, dial_first},
    handshake::relay_tls,
    hello::Hello,
    judge::judge_ech,
    lookup::permits,
    origin::{Caller, Sought},
    peek::{self, PATIENCE, Unread},
    refuse::{ALERT, Refusal, bad_gateway, part, refuse, response},
    relay::relay,
    wire::{AgentStream, UpstreamStream},
};
use crate::policy::{Destination, Permit, Protocol, Reason};
use tokio::time::Instant;

/// Serves `CONNECT authority` until the tunnel ends.
pub async fn tunnel(caller: Caller, agent: AgentStream, authority: Authority) {
    let protocols: &[Protocol] = match &authority.destination {
        Destination::Name(_) => &[Protocol::Tls, Protocol::Tcp],
        // An address proves no server name.
        Destination::Address(_) => &[Protocol::Tcp],
    };
    // Request::parse lets no CONNECT without a port through; port 0 no rule covers.
    let port = authority.port.unwrap_or_default();
    let sought = Sought { destination: Some(authority.destination.clone()), address: None, port: Some(port) };
    let tunnel = Tunnel { caller, agent, sought };
    match permits(&tunnel.caller, &authority.destination, port, protocols).await {
        Err(denial) => tunnel.deny(protocols[0], denial.into()).await,
        Ok(permits) if permits.iter().any(|permit| permit.protocol() == Protocol::Tls) => {
            tunnel.serve_tls(&authority.destination, &permits).await;
        }
        Ok(permits) => tunnel.serve_any(&permits).await,
    }
}

struct Tunnel {
    caller: Caller,
    agent: AgentStream,
    sought: Sought,
}

impl Tunnel {
    /// The ClientHello inside must name the host of the CONNECT, before anything is dialled.
    async fn serve_tls(mut self, destination: &Destination, permits: &[Permit]) {
        if self.agent.0.send(ESTABLISHED).await.is_err() {
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
                let why = format!("CONNECT named {destination}, the ClientHello {}", hello.name);
                Refusal::explained(Reason::ServerNameNotGranted, why)
            }
            Err(Unread::Misread(misread)) => misread.into(),
            Err(Unread::Gone) => return,
        };
        let last = (refusal.denial.reason != Reason::NotTls).then_some(ALERT);
        self.cut(refusal, last).await;
    }

    async fn carry_tls(self, permits: &[Permit], hello: &Hello) {
        match dial_first(permits).await {
            Ok((permit, upstream)) => self.carry(permit, upstream, Some(hello)).await,
            Err(error) => {
                self.record_failure(permits, &error);
                self.agent.0.reset();
            }
        }
    }

    async fn serve_any(mut self, permits: &[Permit]) {
        match dial_first(permits).await {
            Ok((permit, upstream)) => {
                if self.agent.0.send(ESTABLISHED).await.is_ok() {
                    self.carry(permit, upstream, None).await;
                }
            }
            Err(error) => {
                self.record_failure(permits, &error);
                part(self.agent, &bad_gateway(&error.to_string())).await;
            }
        }
    }

    async fn carry(self, permit: &Permit, upstream: UpstreamStream, hello: Option<&Hello>) {
        match self.caller.gate.admit(&self.caller.agent, permit) {
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

    /// Denies before the tunnel stands: in HTTP.
    async fn deny(self, protocol: Protocol, refusal: Refusal) {
        let last = response(&self.caller, &self.sought, protocol, &refusal.denial);
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

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
