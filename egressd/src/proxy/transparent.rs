//! Flows that the kernel redirected to us: the agent believes that it talks to the real server.

use super::{
    dial::{Dialling, TIMEOUT},
    handshake::relay_tls,
    hello::{Hello, Misread},
    http::Session,
    inspect,
    judge::{judge_ech, judge_redirected},
    origin::{Caller, Sought},
    peek::{self, PATIENCE, Unread},
    record::HANDSHAKE,
    refuse::{ALERT, Refusal, refuse},
    wire::AgentStream,
};
use crate::policy::{Denial, Destination, OriginalDestination, Permit, Protocol, Reason};
use std::net::SocketAddr;
use tokio::time::Instant;

/// Serves one redirected connection until it ends.
pub async fn serve(caller: Caller, mut agent: AgentStream) {
    let end = Instant::now() + PATIENCE;
    let Some(OriginalDestination(original)) = caller.original else {
        let refusal = Denial::because(Reason::OriginalDestinationUnknown).into();
        return refuse(&caller, agent, &Sought::default(), Protocol::Tcp, refusal, None).await;
    };
    let first = peek::first_octet(&mut agent, end).await;
    if matches!(first, Ok(HANDSHAKE)) {
        return serve_tls(caller, agent, original, end).await;
    }
    let protocol = caller.expected(original);
    let denied = match first {
        Ok(_) if protocol == Protocol::Http => {
            // In a box, so that no flow of TLS takes the room that requests need. It denies CONNECT.
            let _none = Box::pin(Session::redirected(caller, agent, original).serve(end)).await;
            return;
        }
        Ok(_) => Misread::because(Reason::NotTls),
        Err(Unread::Misread(misread)) => misread,
        Err(Unread::Gone) => return,
    };
    refuse(&caller, agent, &Sought::address(original), protocol, denied.into(), None).await;
}

async fn serve_tls(caller: Caller, mut agent: AgentStream, original: SocketAddr, end: Instant) {
    let mut sought = Sought::address(original);
    let hello = match peek::hello(&mut agent, end).await {
        Ok(hello) => hello,
        Err(Unread::Gone) => return,
        Err(Unread::Misread(misread)) => {
            return refuse(&caller, agent, &sought, Protocol::Tls, misread.into(), Some(ALERT)).await;
        }
    };
    let name = Destination::Name(hello.name.clone());
    sought.destination = Some(name.clone());
    let permit = judge_redirected(&caller.agent, &name, original, Protocol::Tls, caller.now())
        .and_then(|permit| judge_ech(&caller.agent, &permit, &hello).map(|()| permit));
    match permit {
        Ok(permit) => match permit.inspection().cloned() {
            // In a box, as above.
            Some(inspection) => {
                Box::pin(inspect::serve(caller, agent, sought, &[permit], inspection)).await;
            }
            None => carry(caller, agent, sought, permit, hello).await,
        },
        Err(denial) => {
            refuse(&caller, agent, &sought, Protocol::Tls, denial.into(), Some(ALERT)).await;
        }
    }
}

/// The first byte goes upstream here, and only behind a permit.
async fn carry(caller: Caller, mut agent: AgentStream, sought: Sought, permit: Permit, mut hello: Hello) {
    let purse = match caller.gate.begin(&caller.agent, &permit, hello.length) {
        Ok(purse) => purse,
        Err(denial) => {
            return refuse(&caller, agent, &sought, Protocol::Tls, denial.into(), Some(ALERT)).await;
        }
    };
    let dialling = Dialling::begin(&permit);
    let flow = match caller.gate.admit(&caller.agent, &permit, purse) {
        Ok(flow) => flow,
        Err(denial) => {
            let refusal = Refusal::from(denial);
            return refuse(&caller, agent, &sought, Protocol::Tls, refusal, Some(ALERT)).await;
        }
    };
    let connected = async {
        let mut dialling = dialling?;
        // What of the hello does not go at once follows.
        hello.length -= dialling.pass_on(&mut agent, hello.length)?;
        dialling.connected(Instant::now() + TIMEOUT).await
    };
    let upstream = tokio::select! {
        upstream = connected => upstream,
        // Which is on record.
        () = flow.cut() => return agent.0.reset(),
    };
    match upstream {
        Ok(upstream) => {
            caller.record_permit(&sought, &permit, None);
            relay_tls(&caller, &sought, &hello, agent, upstream, &flow).await;
        }
        Err(error) => {
            flow.purse().give_back(hello.length);
            caller.record_permit(&sought, &permit, Some(error.to_string()));
            agent.0.reset();
        }
    }
}

impl Caller {
    /// What a flow to `original` has to speak: HTTP only where that alone is open, or where the
    /// agent turns out not to speak TLS.
    fn expected(&self, original: SocketAddr) -> Protocol {
        let flow = Destination::Address(original.ip());
        let now = self.now();
        let is_open = |protocol| {
            self.agent.has_grant(original.ip(), original.port(), protocol, now)
                || judge_redirected(&self.agent, &flow, original, protocol, now)
                    .is_ok_and(|permit| permit.observed().is_none())
        };
        if is_open(Protocol::Http) { Protocol::Http } else { Protocol::Tls }
    }
}
