//! Every type that crosses the control socket. All of it is version 1, under `/v1/`.
//!
//! Readers skip fields that they do not know; fields are only ever added within a version.

mod approvals;
mod budgets;
mod explain;
mod grants;
mod leaks;
mod metrics;
mod source;

use crate::audit::{Health, Line, Path, Time, Totals};
pub use approvals::{ApprovalRequest, Decide, Decided, Decision, NotRequestId, RequestId};
pub use budgets::{AgentBudgets, BudgetState, BudgetsRequest, Used};
pub use explain::{
    ExplainRequest, Explanation, Gate, GateState, InspectionBounds, KnownAddress, LeakCharge, LiveGrant,
    Resolution, ResolverAnswer, SmallestChange, Step, TlsBounds,
};
pub use grants::{AllowRequest, GrantsRequest, HumanGrant, RevokeRequest};
pub use leaks::{
    AgentLeaks, ApproveLeaks, DeniedZone, LeakBounds, LeakLevel, LeaksRequest, RaisedFlag, ZoneLeaks,
};
pub use metrics::{Exposition, Metric, MetricKind, Sample};
use serde::{Deserialize, Serialize};
pub use source::{PastRevision, PolicySource, RevisionOutcome, Rollback, SourceFailure};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// Version of the protocol: the first segment of every path.
pub const VERSION: u32 = 1;

/// Octets of a request at the most: as many as a policy file may have.
pub const MAX_REQUEST: usize = 1 << 20;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the package, as in `0.1.0`.
    pub version: String,
    pub pid: u32,
    /// Tells daemons on one host apart.
    pub instance: String,
    pub started: Time,
    /// What the daemon proved of itself. It is healthy when every one is passed.
    pub checks: Vec<Check>,
    /// None of a daemon that had one way.
    #[serde(default)]
    pub server_names: Option<ServerNames>,
    pub agents: usize,
    /// Those that are let out although their policies deny.
    #[serde(default)]
    pub observed: Vec<String>,
    /// The policy files in force.
    pub policies: Vec<PathBuf>,
    /// When they were read.
    pub policies_loaded: Time,
    /// The repository that they come from. None of files of this host.
    #[serde(default)]
    pub source: Option<PolicySource>,
    pub flows: Flows,
    pub log: LogStatus,
    /// Events that left no record of their own since the daemon started.
    pub lost: u64,
}

impl Status {
    /// Whether every check is passed.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// Something that must be true for the fence to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// As in `name gate`, `kernel programs`, `audit log`.
    pub name: String,
    pub passed: bool,
    /// What was seen, and what to do about it.
    pub detail: String,
}

/// Who reads the server names of TLS flows, where their rules leave it open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerNames {
    pub by: Path,
    /// Why it is not the kernel.
    pub why: Option<String>,
}

/// Flows since the daemon, or the agent, started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub allowed: u64,
    pub denied: u64,
    pub last_denied: Option<Time>,
}

impl From<Totals> for Flows {
    fn from(Totals { allowed, denied, last_denied }: Totals) -> Self {
        Self { allowed, denied, last_denied }
    }
}

/// How the audit log is doing. See [`Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    pub path: PathBuf,
    /// The number of the next line.
    pub next_seq: u64,
    pub written_octets: u64,
    pub waiting_octets: u64,
    pub failures: u64,
    pub dropped_lines: u64,
    pub last_error: Option<String>,
}

impl LogStatus {
    #[must_use]
    pub fn new(path: PathBuf, next_seq: u64, health: Health) -> Self {
        Self {
            path,
            next_seq,
            written_octets: health.written,
            waiting_octets: health.waiting,
            failures: health.failures,
            dropped_lines: health.dropped,
            last_error: health.last_error,
        }
    }
}

/// One element of `GET /v1/agents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub id: u32,
    pub name: String,
    pub started: Time,
    /// What its frames have to get past.
    #[serde(default)]
    pub boundary: Boundary,
    /// It is stopped where it is, because the daemon could not prove the fence.
    #[serde(default)]
    pub frozen: bool,
    pub cgroup: PathBuf,
    /// It is let out although its policy denies.
    #[serde(default)]
    pub observed: bool,
    /// Where its policy comes from: the agent's own name, `default`, a file, or `none`.
    pub policy: String,
    pub processes: u32,
    pub grants: usize,
    pub flows: Flows,
}

/// `POST /v1/agents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartAgent {
    /// Must be an agent name; None lets the daemon choose one.
    #[serde(default)]
    pub name: Option<String>,
    /// None: what the daemon's own policy files say for that name.
    #[serde(default)]
    pub policy: Option<PolicyText>,
    /// Whether the agent is to be given an HTTP proxy beside the transparent one.
    #[serde(default)]
    pub explicit_proxy: bool,
    #[serde(default)]
    pub boundary: Boundary,
    /// The user that it is to run as, by which policies may select it.
    #[serde(default)]
    pub uid: Option<u32>,
    /// By which policies may select it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it is let out although its policy denies, and that is recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observe: bool,
}

/// What stands between an agent and the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// The programs on its cgroup, and what its launcher took away from it.
    Cgroup,
    /// The same, in namespaces of its own behind a link whose other end judges every frame.
    #[default]
    Sealed,
    /// The programs on a cgroup that something else made, and nothing more.
    Adopted,
}

impl Boundary {
    /// The word of the command line and of columns.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Sealed => "sealed",
            Self::Adopted => "adopted",
        }
    }
}

/// `POST /v1/adopted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptAgent {
    /// Its folder, or its path in the hierarchy as `/proc/PID/cgroup` has it.
    pub cgroup: PathBuf,
    /// Must be an agent name; None: that of the cgroup.
    #[serde(default)]
    pub name: Option<String>,
    /// None: what the daemon's own policy files say for that name.
    #[serde(default)]
    pub policy: Option<PolicyText>,
    #[serde(default)]
    pub consents: Vec<Consent>,
    /// By which policies may select it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What an adoption may do about what it finds. Without, it is refused and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consent {
    /// Cut flows that were open before.
    KillSockets,
    /// Kill processes that hold what sends past the fence.
    KillProcesses,
    /// Adopt processes whose privileges reach around the fence.
    AllowPrivileges,
}

/// The answer to [`AdoptAgent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedAgent {
    pub id: u32,
    pub name: String,
    pub cgroup: PathBuf,
    /// What was cut or killed.
    pub dealt_with: Vec<Found>,
    /// What `egressctl run` would have seen to, in sentences.
    pub not_covered: Vec<String>,
}

/// Something in an adopted cgroup that was there before the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub pid: u32,
    /// What the process calls itself.
    pub command: String,
    pub what: String,
    /// Leave that it takes to go on.
    pub consent: Consent,
}

/// A policy that the asker read, so that the daemon opens no file on somebody's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyText {
    /// As its rules are to be named in records.
    pub file: String,
    pub text: String,
    /// Where its includes are looked for.
    pub base_dir: PathBuf,
}

/// The answer to [`StartAgent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedAgent {
    pub id: u32,
    pub name: String,
    /// The folder of its cgroup, ready for a process to be cloned into.
    pub cgroup: PathBuf,
    pub proxy_v4: Option<SocketAddr>,
    pub proxy_v6: Option<SocketAddr>,
    pub dns_v4: Option<SocketAddr>,
    pub dns_v6: Option<SocketAddr>,
    /// What the agent must not see: sockets, pins and logs of the daemon.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
    /// Folders of policies, which an agent of uid 0 must not write: the daemon obeys what it finds there.
    #[serde(default)]
    pub kept: Vec<PathBuf>,
    /// Variables of the asker's environment that it must not have.
    #[serde(default)]
    pub withheld: Vec<String>,
    /// Whether its policy lets it speak to Unix sockets of the host.
    #[serde(default)]
    pub host_sockets: bool,
    /// What it is to see as `/etc/resolv.conf`.
    #[serde(default)]
    pub resolv_conf: Option<PathBuf>,
    /// Whom it is to believe instead of the host's authorities; None where nothing of it is inspected.
    #[serde(default)]
    pub authorities: Option<PathBuf>,
    /// Of a sealed agent: the namespaces that it is to be in.
    #[serde(default)]
    pub seal: Option<Seal>,
    /// What the launcher can leave to the kernel programs.
    #[serde(default)]
    pub recorded: Recorded,
    /// The number of the next record, so that the asker can read what concerns this run.
    pub next_seq: u64,
}

/// The namespaces of a sealed agent, as files to be entered (setns(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub network: PathBuf,
    pub user: PathBuf,
    /// Words of the capabilities that its policy leaves it there.
    pub capabilities: Vec<String>,
}

/// What programs on the kernel's security hooks deny, with a record. What the launcher denies in
/// their place leaves none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recorded {
    /// Sockets of other families than Unix, IP and route netlink.
    pub sockets: bool,
    /// io_uring.
    pub rings: bool,
    /// bpf(2).
    pub bpf: bool,
    /// Abstract Unix sockets of processes outside.
    pub abstract_sockets: bool,
}

/// The answer to `POST /v1/reload`, once every policy was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadSummary {
    /// The policy files that were read.
    pub policies: Vec<PathBuf>,
    /// Names of the running agents whose policy is another than before.
    pub changed_agents: Vec<String>,
    /// What is allowed but looks like a mistake.
    pub warnings: Vec<String>,
}

/// The query of `GET /v1/records`. The answer is one [`Frame`] a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsRequest {
    pub agent: Option<String>,
    pub reason: Option<String>,
    pub process: Option<String>,
    pub since: Option<Time>,
    /// Only lines with greater numbers. Those that are no longer held are told as missed. A number
    /// that the daemon has not come to yet is of another numbering, and stands for none.
    pub after_seq: Option<u64>,
    /// At most so many of the lines that are there already, the last ones.
    pub last: Option<usize>,
    /// Allowed flows, too.
    #[serde(default)]
    pub all: bool,
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
}

/// One line of the stream of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly every frame is a line")]
pub enum Frame {
    Line(Line),
    /// Opens the stream.
    Feed {
        v: u32,
        feed: FeedState,
    },
    /// Lines that were there, and could not be sent.
    Missed {
        v: u32,
        missed: u64,
    },
    /// Nothing happened for a while, or nothing that was asked for.
    Heartbeat {
        v: u32,
        heartbeat: FeedState,
    },
}

/// Which lines the daemon holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedState {
    pub first_seq: u64,
    pub next_seq: u64,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    /// For people; may have several lines, as diagnostics of a policy have.
    pub message: String,
}

impl Refusal {
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl ToString) -> Self {
        Self { kind, message: message.to_string() }
    }
}

/// What sort of refusal: it decides the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request cannot be read, or asks for what cannot be (400).
    Invalid,
    /// The asker may not ask (403).
    Forbidden,
    /// There is no such agent or path (404).
    Unknown,
    /// A bound is reached; later it may work (503).
    Busy,
    /// The daemon tried and failed (500).
    Failed,
}
