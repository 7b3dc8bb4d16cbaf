//! The asking side of the control socket, for programs that are not asynchronous.

use super::protocol::{
    AdoptAgent, AdoptedAgent, AgentBudgets, AgentLeaks, AgentStatus, AllowRequest, ApprovalRequest,
    ApproveLeaks, BudgetsRequest, Decide, Decided, ExplainRequest, Explanation, Frame, GrantsRequest,
    HumanGrant, LeaksRequest, MAX_REQUEST, Metric, PastRevision, RecordsRequest, Refusal, ReloadSummary,
    RevokeRequest, Rollback, StartAgent, StartedAgent, Status, VERSION,
};
use crate::audit::{Unread, read_line};
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Write,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

/// Asks the daemon at one socket; a connection a request. Not to be used within a runtime.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// # Errors
    /// The kernel gives no event queue.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { socket: socket.into(), runtime: runtime.map_err(ClientError::Runtime)? })
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// # Errors
    /// As every request: nobody answers, or not as a daemon would.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "status", &())
    }

    /// # Errors
    /// See [`Client::status`].
    pub fn agents(&self) -> Result<Vec<AgentStatus>, ClientError> {
        self.ask(Method::GET, "agents", &())
    }

    /// # Errors
    /// Also when the daemon refuses: the policy has mistakes, the name is taken, ...
    pub fn start_agent(&self, request: &StartAgent) -> Result<StartedAgent, ClientError> {
        self.ask(Method::POST, "agents", request)
    }

    /// # Errors
    /// Also when there is no such agent.
    pub fn stop_agent(&self, id: u32) -> Result<(), ClientError> {
        self.ask(Method::DELETE, &format!("agents/{id}"), &())
    }

    /// # Errors
    /// Also when the daemon refuses: something in the cgroup needs a consent, ...
    pub fn adopt_agent(&self, request: &AdoptAgent) -> Result<AdoptedAgent, ClientError> {
        self.ask(Method::POST, "adopted", request)
    }

    /// # Errors
    /// Also when there is no such agent, or it was not adopted.
    pub fn release_agent(&self, id: u32) -> Result<(), ClientError> {
        self.ask(Method::DELETE, &format!("adopted/{id}"), &())
    }

    /// # Errors
    /// Also when a policy has mistakes; then every policy stays as it was.
    pub fn reload(&self) -> Result<ReloadSummary, ClientError> {
        self.ask(Method::POST, "reload", &())
    }

    /// # Errors
    /// Also when policies do not come from git.
    pub fn history(&self) -> Result<Vec<PastRevision>, ClientError> {
        self.ask(Method::GET, "source/history", &())
    }

    /// # Errors
    /// Also when there is no such revision, or it may not be put in force; then policies stay as they were.
    pub fn roll_back(&self, request: &Rollback) -> Result<ReloadSummary, ClientError> {
        self.ask(Method::POST, "source/rollback", request)
    }

    /// # Errors
    /// Also when the newest revision may not be put in force; then policies stay as they were.
    pub fn follow(&self) -> Result<ReloadSummary, ClientError> {
        self.ask(Method::POST, "source/follow", &())
    }

    /// # Errors
    /// Also when the host cannot be read.
    pub fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        let ExplainRequest { host, port, protocol, agent } = request;
        let query = Query::new()
            .add("host", Some(host))
            .add("port", port.as_ref())
            .add("protocol", protocol.as_ref())
            .add("agent", agent.as_ref());
        self.ask(Method::GET, &query.after("explain"), &())
    }

    /// # Errors
    /// Also when there is no such agent.
    pub fn budgets(&self, request: &BudgetsRequest) -> Result<Vec<AgentBudgets>, ClientError> {
        let query = Query::new().add("agent", request.agent.as_ref());
        self.ask(Method::GET, &query.after("budgets"), &())
    }

    /// # Errors
    /// Also when there is no such agent.
    pub fn leaks(&self, request: &LeaksRequest) -> Result<Vec<AgentLeaks>, ClientError> {
        let query = Query::new().add("agent", request.agent.as_ref());
        self.ask(Method::GET, &query.after("leaks"), &())
    }

    /// # Errors
    /// Also when there is no such agent, or the zone is no name.
    pub fn approve_leaks(&self, request: &ApproveLeaks) -> Result<(), ClientError> {
        self.ask(Method::POST, "leaks/approve", request)
    }

    /// # Errors
    /// Also when the daemon refuses: a rule denies the destination, there is no such agent, ...
    pub fn allow(&self, request: &AllowRequest) -> Result<HumanGrant, ClientError> {
        self.ask(Method::POST, "grants", request)
    }

    /// # Errors
    /// Also when there is no such agent.
    pub fn grants(&self, request: &GrantsRequest) -> Result<Vec<HumanGrant>, ClientError> {
        let query = Query::new().add("agent", request.agent.as_ref());
        self.ask(Method::GET, &query.after("grants"), &())
    }

    /// # Errors
    /// Also when there is no such agent or grant.
    pub fn revoke(&self, request: &RevokeRequest) -> Result<Vec<HumanGrant>, ClientError> {
        self.ask(Method::POST, "grants/revoke", request)
    }

    /// # Errors
    /// See [`Client::status`].
    pub fn approvals(&self) -> Result<Vec<ApprovalRequest>, ClientError> {
        self.ask(Method::GET, "approvals", &())
    }

    /// # Errors
    /// Also when there is no such request, or a rule denies what it is about.
    pub fn decide(&self, decide: &Decide) -> Result<Decided, ClientError> {
        self.ask(Method::POST, "approvals", decide)
    }

    /// # Errors
    /// See [`Client::status`].
    pub fn metrics(&self) -> Result<Vec<Metric>, ClientError> {
        self.ask(Method::GET, "metrics", &())
    }

    /// Opens a stream of records.
    ///
    /// # Errors
    /// See [`Client::status`].
    pub fn records(&self, request: &RecordsRequest) -> Result<Records<'_>, ClientError> {
        let RecordsRequest { agent, reason, process, since, after_seq, last, all, follow } = request;
        let query = Query::new()
            .add("agent", agent.as_ref())
            .add("reason", reason.as_ref())
            .add("process", process.as_ref())
            .add("since", since.as_ref())
            .add("after_seq", after_seq.as_ref())
            .add("last", last.as_ref())
            .add("all", Some(all))
            .add("follow", Some(follow));
        let response = self.wait(self.send(Method::GET, query.after("records"), Bytes::new()))?;
        if response.status() == StatusCode::OK {
            return Ok(Records { client: self, body: response.into_body(), unread: BytesMut::new() });
        }
        self.wait(async { Err(refusal(response).await) })
    }

    fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Encode)?;
        if body.len() > MAX_REQUEST {
            // The daemon would hang up half way, and leave us a broken pipe for an answer.
            return Err(ClientError::RequestTooLarge(body.len()));
        }
        self.wait(async {
            let response = self.send(method, path.to_owned(), body.into()).await?;
            match response.status() {
                StatusCode::OK => read_json(response).await,
                StatusCode::NO_CONTENT => serde_json::from_str("null").map_err(ClientError::Decode),
                _ => Err(refusal(response).await),
            }
        })
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let uid = stream.peer_cred().map_err(|source| self.unreachable(source))?.uid();
        if uid != 0 && uid != nix::unistd::Uid::effective().as_raw() {
            return Err(ClientError::Impostor { socket: self.socket.clone(), uid });
        }
        let (mut sender, connection) = http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
        // Ends with the sender and the body; its error reaches us through them.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/v{VERSION}/{path}"))
            .header("host", "egressd")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        Ok(sender.send_request(request).await?)
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let bounded = async { timeout(ANSWER_TIMEOUT, work).await };
        self.runtime.block_on(bounded).unwrap_or(Err(ClientError::Silent))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NoDaemon { socket }
        } else if kind == io::ErrorKind::PermissionDenied {
            ClientError::NotPermitted { socket }
        } else {
            ClientError::Connect { socket, source }
        }
    }
}

/// A stream of records as it comes. Dropping it hangs up.
#[derive(Debug)]
pub struct Records<'a> {
    client: &'a Client,
    body: Incoming,
    unread: BytesMut,
}

impl Records<'_> {
    /// Waits for the next frame; None at the end of the stream.
    ///
    /// # Errors
    /// The daemon went away, fell silent, or sent what is no frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') {
                let line = self.unread.split_to(end + 1);
                match serde_json::from_slice(&line) {
                    // A later daemon may send kinds and words that are not known here.
                    Err(_) if matches!(read_line(&line), Err(Unread::Unknown { .. })) => continue,
                    outcome => return outcome.map(Some).map_err(ClientError::Decode),
                }
            }
            if self.unread.len() > MAX_FRAME {
                return Err(ClientError::TooLarge);
            }
            match self.client.wait(async { Ok(self.body.frame().await.transpose()?) })? {
                Some(frame) => self.unread.extend(frame.into_data().ok()),
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(ClientError::CutOff),
            }
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no daemon answers at `{}`: start one with `egressd`, or use `egressctl run`, which starts its own",
        socket.display()
    )]
    NoDaemon { socket: PathBuf },
    #[error("`{}` may be used by root only: try again with `sudo`", socket.display())]
    NotPermitted { socket: PathBuf },
    #[error("`{}` is served by user {uid}, who is not to be believed: remove it", socket.display())]
    Impostor { socket: PathBuf, uid: u32 },
    #[error("failed to connect to `{}`: {source}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the daemon gave no answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the daemon ended in the middle of a line")]
    CutOff,
    #[error("the daemon sent a line of more than {MAX_FRAME} octets")]
    TooLarge,
    #[error("the request has {0} octets, {MAX_REQUEST} are allowed: is the policy file that large?")]
    RequestTooLarge(usize),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("failed to talk to the daemon: {0}")]
    Talk(#[from] hyper::Error),
    #[error("failed to build the request: {0}")]
    Build(#[from] http::Error),
    #[error("failed to encode the request: {0}")]
    Encode(serde_json::Error),
    #[error("failed to read the daemon's answer: {0}: egressctl and egressd differ in version?")]
    Decode(serde_json::Error),
    #[error("failed to read the daemon's answer: {0}")]
    Read(Box<dyn std::error::Error + Send + Sync>),
    #[error("failed to start the client: {0}")]
    Runtime(io::Error),
}

impl ClientError {
    /// Whether another daemon may answer later, as after a restart.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Silent | Self::CutOff | Self::Talk(_) | Self::Connect { .. } => {
                true
            }
            Self::NotPermitted { .. }
            | Self::Impostor { .. }
            | Self::TooLarge
            | Self::RequestTooLarge(_)
            | Self::Refused(_)
            | Self::Build(_)
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::Read(_)
            | Self::Runtime(_) => false,
        }
    }
}

/// Time for an answer, and between two frames of a stream; many heartbeats. A start or reload may
/// have to ask the package tools for their configuration.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets of an answer: thousands of agents.
const MAX_ANSWER: usize = 16 << 20;
/// Octets of one line of a stream; records are cut to some 2 KiB.
const MAX_FRAME: usize = 64 << 10;

async fn read_json<A: DeserializeOwned>(response: Response<Incoming>) -> Result<A, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(ClientError::Read)?;
    serde_json::from_reader(body.aggregate().reader()).map_err(ClientError::Decode)
}

async fn refusal(response: Response<Incoming>) -> ClientError {
    match read_json::<Refusal>(response).await {
        Ok(refusal) => ClientError::Refused(refusal),
        Err(error) => error,
    }
}

/// A path's query, percent-encoded (RFC 3986, section 2.3).
struct Query(String);

impl Query {
    fn new() -> Self {
        Self(String::new())
    }

    fn add(mut self, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(key);
            self.0.push('=');
            for octet in value.to_string().bytes() {
                if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
                    self.0.push(char::from(octet));
                } else {
                    // Writing to a String does not fail.
                    let _ = write!(self.0, "%{octet:02X}");
                }
            }
        }
        self
    }

    fn after(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}
