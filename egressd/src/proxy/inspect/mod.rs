//! Inspection: TLS is ended here, each request is judged, and TLS to the server begins anew.
//!
//! Only for flows that a rule with `inspect: true` permits, behind the same gate as every other: the server
//! name is judged first, and what is dialled is the address of the permit.
//!
//! Pure: `request`. Keys and certificates: `authority`; secrets: `credential`.

mod agent;
mod authority;
mod body;
mod credential;
mod link;
mod report;
mod request;
mod session;
mod stream;
mod upstream;

pub use authority::{Authority, AuthorityError};
pub use credential::{Credential, CredentialError, CredentialSource};
pub use upstream::{Trust, TrustError, host_authorities};

use super::{
    dial::dial_first,
    origin::{Caller, Sought},
    refuse::Refusal,
    wire::{AgentStream, UpstreamStream},
};
use crate::policy::{Denial, Destination, HostName, Inspection, Permit, Reason};
use agent::{Greeted, HTTP_1, HTTP_2, HandshakeError};
use body::Bounds;
use http::HeaderValue;
use link::{Link, Tasks, carry};
use request::Server;
use session::{Session, Upstream};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use stream::{Plain, Pulse};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use upstream::Client;

/// What all inspected flows share.
pub struct Inspector {
    authority: Authority,
    client: Client,
    credentials: HashMap<String, Credential>,
}

impl Inspector {
    /// # Errors
    /// The authority's keys could not be made.
    pub fn new(trust: Trust, credentials: Vec<Credential>) -> Result<Self, AuthorityError> {
        Ok(Self {
            authority: Authority::new(SystemTime::now())?,
            client: Client::new(trust)?,
            credentials: credentials.into_iter().map(|one| (one.name.clone(), one)).collect(),
        })
    }

    /// The certificate that agents have to believe, PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.pem()
    }

    async fn credential(&self, name: &str) -> Result<HeaderValue, String> {
        let credential =
            self.credentials.get(name).cloned().ok_or(format!("there is no credential `{name}`"))?;
        let value = spawn_blocking(move || credential.value()).await.map_err(|error| error.to_string())?;
        value.map_err(|error| error.to_string())
    }
}

/// Serves a flow that any of `permits` allows, all by one rule, until it ends. The hello of the agent has
/// been judged, and is still in its buffer.
pub async fn serve(
    caller: Caller,
    agent: AgentStream,
    sought: Sought,
    permits: &[Permit],
    inspection: Arc<Inspection>,
) {
    let (Some(permit), Some(inspector)) = (permits.first(), caller.gate.inspector()) else {
        return agent.0.reset();
    };
    let Destination::Name(name) = permit.destination().clone() else { return agent.0.reset() };
    let pulse = Pulse::start();
    let (tcp, replayed, share) = agent.0.into_parts();
    let stream = Plain::new(tcp, replayed.freeze(), Arc::clone(&pulse));
    let Some(_slot) = share.and_then(|share| share.inspection()) else {
        let refusal = Refusal::explained(Reason::QuotaExceeded, "connections that are inspected");
        report::flow_denial(&caller, &sought, permit, &refusal, refusal.detail.clone());
        return pulse.cut();
    };
    let opening = Opening { caller, sought, name, inspector, inspection, pulse };
    opening.open(stream, permits).await;
}

/// How long both handshakes together may take: each side may be at the other end of the world.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A flow until both sides speak TLS.
struct Opening {
    caller: Caller,
    sought: Sought,
    name: HostName,
    inspector: Arc<Inspector>,
    inspection: Arc<Inspection>,
    pulse: Arc<Pulse>,
}

impl Opening {
    async fn open(self, stream: Plain, permits: &[Permit]) {
        let end = Instant::now() + HANDSHAKE;
        let greeted = match timeout_at(end, Greeted::read(stream)).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return self.refused(permits, &error),
            Err(_elapsed) => return self.pulse.cut(),
        };
        let (tasks, _guard) = Tasks::guarded();
        let (permit, link) = self.link(permits, &greeted, end, tasks.clone()).await;
        let purse = self.caller.gate.purse(&self.caller.agent, &permit);
        let flow = match self.caller.gate.admit(&self.caller.agent, &permit, purse) {
            Ok(flow) => flow,
            Err(denial) => return self.deny(&permit, &denial.into()),
        };
        let protocol = link.protocol.unwrap_or_else(|| preferred(&greeted.protocols()));
        let key = match self.inspector.authority.certify(&self.name, SystemTime::now()) {
            Ok(key) => key,
            Err(error) => {
                return self.deny(&permit, &Refusal::explained(Reason::InspectionRefused, error));
            }
        };
        let agent = match timeout_at(end, greeted.accept(key, protocol)).await {
            Ok(Ok(agent)) => agent,
            Ok(Err(error)) => return self.refused(std::slice::from_ref(&permit), &error),
            Err(_elapsed) => return self.refused(std::slice::from_ref(&permit), &HandshakeError::Left),
        };
        let pulse = Arc::clone(&self.pulse);
        let session = Arc::new(self.session(permit, link.upstream));
        tokio::select! {
            biased;
            () = flow.cut() => pulse.cut(),
            () = carry(agent, protocol, session, link.connection, tasks) => {}
            () = pulse.activity.silence() => pulse.cut(),
        }
    }

    /// Dials, and speaks TLS to the server. What fails is for the requests to be told.
    async fn link(
        &self,
        permits: &[Permit],
        greeted: &Greeted,
        end: Instant,
        tasks: Tasks,
    ) -> (Permit, Link) {
        let first = permits[0].clone();
        let purse = match self.caller.gate.begin(&self.caller.agent, &first, 0) {
            Ok(purse) => purse,
            Err(denial) => {
                let refusal = Refusal::from(denial);
                self.deny(&first, &refusal);
                return (first, Link::nowhere(Upstream::Denied(refusal)));
            }
        };
        let (permit, stream) = match dial_first(permits).await {
            Ok((permit, UpstreamStream(wire))) => {
                let (tcp, replayed, _) = wire.into_parts();
                let plain = Plain::new(tcp, replayed.freeze(), Arc::clone(&self.pulse));
                (permit.clone(), plain.paid_by(purse))
            }
            Err(error) => {
                let why = error.to_string();
                self.caller.record_permit(&self.sought, &first, Some(why.clone()));
                return (first, Link::nowhere(Upstream::Unreachable(why)));
            }
        };
        self.caller.gate.resolve.connected(&self.caller.agent, &self.name);
        let connected = self.inspector.client.connect(&self.name, stream, greeted.protocols());
        let link = match timeout_at(end, connected).await {
            Ok(Ok(stream)) => Link::open(stream, tasks).await,
            Ok(Err(error)) => match error.reason() {
                Some(reason) => {
                    let refusal = Refusal::explained(reason, error);
                    self.deny(&permit, &refusal);
                    Link::nowhere(Upstream::Denied(refusal))
                }
                None => Link::nowhere(Upstream::Unreachable(error.to_string())),
            },
            Err(_elapsed) => Link::nowhere(Upstream::Unreachable(
                "its upstream did not end the handshake in time".to_owned(),
            )),
        };
        (permit, link)
    }

    fn session(self, permit: Permit, upstream: Upstream) -> Session {
        Session {
            server: Server { name: self.name, port: permit.port() },
            bounds: Bounds::new(self.inspection.max_body, self.inspection.max_bodies),
            sought: Sought { address: permit.address(), ..self.sought },
            caller: self.caller,
            inspector: self.inspector,
            inspection: self.inspection,
            permit,
            upstream,
        }
    }

    /// Records that the agent would not have us in the server's place.
    fn refused(&self, permits: &[Permit], error: &HandshakeError) {
        if let Some(permit) = permits.first() {
            self.deny(permit, &Refusal::explained(error.reason(), error));
        }
    }

    fn deny(&self, permit: &Permit, refusal: &Refusal) {
        let denial = Denial { rule: permit.source().cloned(), ..refusal.denial.clone() };
        let refusal = Refusal { denial, detail: refusal.detail.clone() };
        report::flow_denial(&self.caller, &self.sought, permit, &refusal, refusal.detail.clone());
    }
}

/// What is spoken to an agent whose server is out of reach.
fn preferred(offered: &[Vec<u8>]) -> &'static [u8] {
    if offered.iter().any(|protocol| protocol == HTTP_2) { HTTP_2 } else { HTTP_1 }
}
