//! A daemon that fences nothing: what the control socket and `egressctl` are tested against.

use egressd::{
    audit::{self, Feed, RecordedOperator, Recovered, Time},
    config::Wish,
    control::{
        Asked, BoxFuture, Daemon, Known, explain,
        protocol::{
            AdoptAgent, AdoptedAgent, AgentBudgets, AgentLeaks, AgentStatus, AllowRequest, ApprovalRequest,
            ApproveLeaks, Boundary, BudgetState, BudgetsRequest, Check, Consent, Decide, Decided, Decision,
            DeniedZone, ExplainRequest, Explanation, Flows, Found, GrantsRequest, HumanGrant, LeakLevel,
            LeaksRequest, LogStatus, Metric, MetricKind, PastRevision, PolicySource, RaisedFlag, Refusal,
            RefusalKind, ReloadSummary, RequestId, RevisionOutcome, RevokeRequest, Rollback, Sample,
            ServerNames, StartAgent, StartedAgent, Status, Used, ZoneLeaks,
        },
    },
    policy::{
        NameTerms, Occasion, Operator, Pattern, Policy, Protocol, Rule, RuleId, Source, Subject, TlsTerms,
    },
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A server with a [`Fake`] behind it, which ends with this value.
pub struct Server {
    pub feed: Arc<Feed>,
    shutdown: CancellationToken,
    runtime: Runtime,
    serving: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(socket: &Path) -> Self {
        Self::start_with(socket, Recovered::default(), |_| false)
    }

    pub fn start_with(
        socket: &Path,
        recovered: Recovered,
        is_agent: impl Fn(u32) -> bool + Send + Sync + 'static,
    ) -> Self {
        let feed = Feed::new(recovered);
        let shutdown = CancellationToken::new();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let daemon = Arc::new(Fake { feed: Arc::clone(&feed) });
        let listener = runtime.block_on(async { egressd::control::bind(socket) }).unwrap();
        let serve = egressd::control::serve(listener, daemon, Arc::new(is_agent), shutdown.clone());
        let serving = Some(runtime.spawn(serve));
        Self { feed, shutdown, runtime, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.feed.close();
        self.shutdown.cancel();
        if let Some(serving) = self.serving.take() {
            self.runtime.block_on(serving).unwrap();
        }
    }
}

/// What a server asks.
#[allow(dead_code, reason = "the tests of egressctl use the whole server")]
pub fn daemon() -> Arc<dyn Daemon> {
    Arc::new(Fake { feed: Feed::new(Recovered::default()) })
}

struct Fake {
    feed: Arc<Feed>,
}

impl Daemon for Fake {
    fn status(&self) -> Status {
        Status {
            version: "0.1.0".to_owned(),
            pid: 4242,
            instance: "test".to_owned(),
            started: time(),
            checks: vec![
                Check { name: "kernel programs".to_owned(), passed: true, detail: "7 attached".to_owned() },
                Check { name: "audit log".to_owned(), passed: true, detail: "is written".to_owned() },
            ],
            agents: 1,
            observed: Vec::new(),
            policies: vec!["/etc/egressd/policy.d/build.yaml".into()],
            policies_loaded: time(),
            source: Some(source()),
            flows: self.feed.totals().into(),
            server_names: Some(ServerNames { by: audit::Path::Kernel, why: None }),
            log: LogStatus::new("/var/log/audit.jsonl".into(), self.feed.next_seq(), Default::default()),
            lost: 0,
        }
    }

    fn agents(&self) -> Vec<AgentStatus> {
        let started = AgentStatus {
            id: 1,
            name: "build".to_owned(),
            started: time(),
            boundary: Boundary::Cgroup,
            frozen: false,
            cgroup: "/sys/fs/cgroup/egressd/build".into(),
            observed: false,
            policy: "default".to_owned(),
            processes: 3,
            grants: 12,
            flows: Flows { allowed: 5, denied: 2, last_denied: None },
        };
        let adopted = AgentStatus {
            id: 2,
            name: "job".to_owned(),
            boundary: Boundary::Adopted,
            cgroup: "/sys/fs/cgroup/job".into(),
            ..started.clone()
        };
        vec![started, adopted]
    }

    fn start_agent(&self, request: StartAgent) -> BoxFuture<'_, Result<StartedAgent, Refusal>> {
        Box::pin(async move {
            if request.policy.is_some_and(|policy| policy.text.contains("broken")) {
                let message = "error: unknown key `broken`\n --> p.yaml:1\n  | broken\n  | ^^^^^^";
                return Err(Refusal::new(RefusalKind::Invalid, message));
            }
            Ok(StartedAgent {
                recorded: Default::default(),
                hidden: Vec::new(),
                kept: Vec::new(),
                withheld: Vec::new(),
                id: 1,
                name: request.name.unwrap_or_else(|| "run-1".to_owned()),
                cgroup: "/sys/fs/cgroup/egressd/build".into(),
                proxy_v4: None,
                proxy_v6: None,
                dns_v4: None,
                dns_v6: None,
                next_seq: self.feed.next_seq(),
                host_sockets: false,
                resolv_conf: None,
                authorities: None,
                seal: None,
            })
        })
    }

    fn stop_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            match id {
                1 => Ok(()),
                _ => Err(Refusal::new(RefusalKind::Unknown, format!("there is no agent {id}"))),
            }
        })
    }

    fn adopt_agent(&self, request: AdoptAgent) -> BoxFuture<'_, Result<AdoptedAgent, Refusal>> {
        Box::pin(async move {
            let found = Found {
                pid: 4243,
                command: "curl\u{1b}[2J".to_owned(),
                what: "descriptor 5, tcp 10.0.0.1:4000 to 192.0.2.1:443, established".to_owned(),
                consent: Consent::KillSockets,
            };
            if !request.consents.contains(&found.consent) {
                let message =
                    "`/sys/fs/cgroup/job` was left as it is, because of what is in it\n  process 4243";
                return Err(Refusal::new(RefusalKind::Invalid, message));
            }
            Ok(AdoptedAgent {
                id: 2,
                name: request.name.unwrap_or_else(|| "job".to_owned()),
                cgroup: request.cgroup,
                dealt_with: vec![found],
                not_covered: vec!["it may use io_uring".to_owned()],
            })
        })
    }

    fn release_agent(&self, id: u32) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            match id {
                2 => Ok(()),
                _ => Err(Refusal::new(RefusalKind::Unknown, format!("there is no agent {id}"))),
            }
        })
    }

    fn reload(&self, _: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        Box::pin(async {
            Ok(ReloadSummary {
                policies: vec!["/etc/egressd/policy.d/build.yaml".into()],
                changed_agents: vec!["build".to_owned()],
                warnings: vec!["no policy is called `default`".to_owned()],
            })
        })
    }

    fn history(&self) -> Result<Vec<PastRevision>, Refusal> {
        let entered = PastRevision {
            time: time(),
            commit: "a".repeat(40),
            outcome: RevisionOutcome::Entered,
            why: None,
            subject: "allow the mirror".to_owned(),
            author: "Ada".to_owned(),
            signer: Some("ada@example.com".to_owned()),
            in_force: true,
        };
        let refused = PastRevision {
            commit: "b".repeat(40),
            outcome: RevisionOutcome::Refused,
            why: Some("is not signed\u{1b}[2J".to_owned()),
            subject: String::new(),
            author: String::new(),
            signer: None,
            in_force: false,
            ..entered.clone()
        };
        let older = PastRevision { commit: "c".repeat(40), why: Some("older".to_owned()), ..refused.clone() };
        Ok(vec![refused, entered, older])
    }

    fn roll_back(
        &self,
        operator: Operator,
        request: Rollback,
    ) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        Box::pin(async move {
            match request.revision.as_deref() {
                None | Some("aaaa") => self.reload(operator).await,
                Some(_) => Err(Refusal::new(RefusalKind::Invalid, "no revision that was in force")),
            }
        })
    }

    fn follow(&self, operator: Operator) -> BoxFuture<'_, Result<ReloadSummary, Refusal>> {
        self.reload(operator)
    }

    fn explain(&self, request: ExplainRequest) -> Result<Explanation, Refusal> {
        let asked = Asked::of(&request).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
        let birth = Occasion { time: Time::now().timestamp(), age: Duration::ZERO };
        Ok(explain(
            &policy(),
            birth,
            request.agent.as_deref().unwrap_or("default"),
            &Known::default(),
            &asked,
        ))
    }

    fn budgets(&self, request: BudgetsRequest) -> Result<Vec<AgentBudgets>, Refusal> {
        let all = [budgets_of_build(), AgentBudgets { agent: "job".to_owned(), budgets: Vec::new() }];
        let is_asked_for =
            |held: &AgentBudgets| request.agent.as_ref().is_none_or(|agent| *agent == held.agent);
        let found: Vec<AgentBudgets> = all.into_iter().filter(is_asked_for).collect();
        match found.is_empty() {
            true => Err(Refusal::new(RefusalKind::Unknown, "no agent of that name")),
            false => Ok(found),
        }
    }

    fn leaks(&self, request: LeaksRequest) -> Result<Vec<AgentLeaks>, Refusal> {
        let all = [leaks_of_build(), quiet_leaks("job")];
        let is_asked_for =
            |leaks: &AgentLeaks| request.agent.as_ref().is_none_or(|agent| *agent == leaks.agent);
        let found: Vec<AgentLeaks> = all.into_iter().filter(is_asked_for).collect();
        match found.is_empty() {
            true => Err(Refusal::new(RefusalKind::Unknown, "no agent of that name")),
            false => Ok(found),
        }
    }

    fn approve_leaks(&self, request: ApproveLeaks) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            match (request.agent.as_str(), request.zone.as_deref()) {
                ("build", None | Some("cdn.example")) => Ok(()),
                _ => Err(Refusal::new(RefusalKind::Unknown, "no agent or zone of that name")),
            }
        })
    }

    fn allow(&self, operator: Operator, request: AllowRequest) -> BoxFuture<'_, Result<HumanGrant, Refusal>> {
        Box::pin(async move { granted(operator, request) })
    }

    fn grants(&self, request: GrantsRequest) -> Result<Vec<HumanGrant>, Refusal> {
        match request.agent.as_deref() {
            None | Some("build") => Ok(vec![grant()]),
            Some("job") => Ok(Vec::new()),
            Some(agent) => Err(no_agent(agent)),
        }
    }

    fn revoke(
        &self,
        _operator: Operator,
        request: RevokeRequest,
    ) -> BoxFuture<'_, Result<Vec<HumanGrant>, Refusal>> {
        Box::pin(async move {
            match (request.id, request.agent.as_deref()) {
                (Some(7), None) | (None, Some("build")) => Ok(vec![grant()]),
                (None, Some("job")) => Ok(Vec::new()),
                (Some(id), _) => Err(Refusal::new(RefusalKind::Unknown, format!("there is no grant {id}"))),
                (None, agent) => Err(no_agent(agent.unwrap_or_default())),
            }
        })
    }

    fn approvals(&self) -> Vec<ApprovalRequest> {
        vec![ApprovalRequest {
            id: RequestId { number: 3, mark: "kxwb".to_owned() },
            agent: "build".to_owned(),
            group: "example.com".to_owned(),
            programs: vec!["curl".to_owned(), "git".to_owned()],
            rules: vec!["build.yaml:6".to_owned()],
            destinations: vec!["api.example.com".to_owned(), "cdn.example.com:443\u{1b}[2J".to_owned()],
            asked: 4,
            waiting: 1,
            first: time(),
            last: time(),
        }]
    }

    fn decide(&self, _operator: Operator, decide: Decide) -> BoxFuture<'_, Result<Decided, Refusal>> {
        Box::pin(async move {
            let rules = vec!["- host: api.example.com".to_owned()];
            let id = decide.id;
            // Of what was listed first, a part is left.
            let left = (id.mark == "frst").then(|| RequestId { number: 3, mark: "kxwb".to_owned() });
            match (id.number, decide.decision) {
                (3, Decision::Approve { .. }) => Ok(Decided { id, grants: vec![grant()], rules, left }),
                (3, Decision::Deny { .. }) => {
                    Ok(Decided { id, grants: Vec::new(), rules: Vec::new(), left: None })
                }
                (_, _) => Err(Refusal::new(RefusalKind::Unknown, format!("there is no request {id}"))),
            }
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let labels = [("agent", "build"), ("rule", "a\"b\u{1b}[2J.yaml:6")];
        let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
        vec![Metric {
            name: "egressd_budget_used_bytes".to_owned(),
            kind: MetricKind::Gauge,
            help: "Bytes that are used up of a budget.".to_owned(),
            samples: vec![Sample { labels: labels.into(), value: 1500.0 }],
        }]
    }

    fn feed(&self) -> Arc<Feed> {
        Arc::clone(&self.feed)
    }
}

/// The grant of a wish, by whoever asks; `build` is the only agent that has any.
fn granted(operator: Operator, request: AllowRequest) -> Result<HumanGrant, Refusal> {
    let AllowRequest { agent, destination, protocol, lasts, uses, bytes, private, reason } = request;
    if let Some(agent) = agent.filter(|agent| agent != "build") {
        return Err(no_agent(&agent));
    }
    let wish = Wish { destination, protocol, lasts, uses, bytes, private, reason };
    let rule = wish.compile(time().timestamp()).map_err(|error| Refusal::new(RefusalKind::Invalid, error))?;
    Ok(HumanGrant {
        destination: rule.subject.to_string(),
        ports: rule.ports.clone(),
        protocol: rule.protocol.map(|protocol| protocol.to_string()).unwrap_or_default(),
        until: rule.term.until.map(Time::from).unwrap_or(time()),
        uses: rule.budget.max_connections,
        bytes: rule.budget.max_bytes,
        uses_left: rule.budget.max_connections,
        bytes_left: rule.budget.max_bytes,
        reason: rule.reason.clone(),
        by: RecordedOperator::of(&operator),
        notes: vec!["`ok.test` is allowed already by build.yaml:5\u{1b}[2J, which comes first".to_owned()],
        ..grant()
    })
}

fn grant() -> HumanGrant {
    HumanGrant {
        id: 7,
        agent: "build".to_owned(),
        destination: "api.example.com".to_owned(),
        ports: vec![443],
        protocol: "tls".to_owned(),
        since: time(),
        until: "2126-11-21T11:15:14.123Z".parse().unwrap(),
        uses: Some(3),
        bytes: Some(10_000_000),
        uses_left: Some(1),
        bytes_left: Some(10_000_000),
        reason: Some("a look at #12\u{1b}[2J".to_owned()),
        by: RecordedOperator {
            uid: 0,
            login_uid: Some(1000),
            pid: 42,
            command: "egressctl allow api.example.com".to_owned(),
        },
        notes: Vec::new(),
    }
}

fn no_agent(agent: &str) -> Refusal {
    Refusal::new(RefusalKind::Unknown, format!("there is no agent `{agent}`"))
}

fn source() -> PolicySource {
    PolicySource {
        git: "https://git.example/policies.git".to_owned(),
        reference: "refs/heads/main".to_owned(),
        path: "policies".to_owned(),
        signed: true,
        revision: Some("a".repeat(40)),
        since: Some(time()),
        pinned: false,
        waiting: None,
        checked: Some(time()),
        failure: None,
    }
}

/// The agent's bytes half used up, a rule with everything, and one that ends.
fn budgets_of_build() -> AgentBudgets {
    let unbounded = Used::of(0, None);
    let rule = |line: u32, subject: &str| BudgetState {
        rule: Some(format!("build.yaml:{line}")),
        subject: Some(subject.to_owned()),
        bytes: unbounded,
        connections: unbounded,
        rate: None,
        ends_in: None,
        refuses: None,
    };
    let own = BudgetState {
        rule: None,
        subject: None,
        bytes: Used::of(52_400_000, Some(100_000_000)),
        ..rule(0, "")
    };
    let full = BudgetState {
        bytes: Used::of(9_999_000, Some(10_000_000)),
        connections: Used::of(100, Some(100)),
        rate: Some("10/s".to_owned()),
        ..rule(7, "api.example")
    };
    let short =
        BudgetState { bytes: Used::of(1_200, None), ends_in: Some(3_000), ..rule(9, "*.cdn.example") };
    AgentBudgets { agent: "build".to_owned(), budgets: vec![own, full, short] }
}

/// One zone half used up and frozen, one barely used, and a denied tunnel.
fn leaks_of_build() -> AgentLeaks {
    let flag = RaisedFlag {
        id: "E3".to_owned(),
        flag: "encoded-names".to_owned(),
        action: "freeze".to_owned(),
        at: time(),
        evidence: "5 names in 41 s, such as `nbswy3dp`\u{1b}[2J".to_owned(),
        explanation: "Five names in an hour look encoded.".to_owned(),
    };
    let frozen = ZoneLeaks {
        zone: "cdn.example".to_owned(),
        level: level(4096, 8192),
        names_this_hour: 5,
        names_today: 40,
        known_names: 36,
        frozen: true,
        rate_limited: false,
        refused: 3,
        flags: vec![flag],
    };
    let quiet = ZoneLeaks {
        zone: "s3.example.com".to_owned(),
        level: level(101, 8192),
        names_this_hour: 0,
        names_today: 1,
        known_names: 1,
        frozen: false,
        refused: 0,
        flags: Vec::new(),
        ..frozen.clone()
    };
    AgentLeaks {
        agent: "build".to_owned(),
        quarantined: true,
        total: level(4197, 16384),
        accounts: vec![frozen, quiet],
        denied: vec![DeniedZone { zone: "evil.test".to_owned(), names: 12, flagged: true }],
    }
}

fn quiet_leaks(agent: &str) -> AgentLeaks {
    AgentLeaks {
        agent: agent.to_owned(),
        quarantined: false,
        total: level(0, 16384),
        accounts: Vec::new(),
        denied: Vec::new(),
    }
}

fn level(used_bits: u32, capacity_bits: u32) -> LeakLevel {
    LeakLevel { used_bits, capacity_bits, hourly_bits: capacity_bits / 8 }
}

/// Allows `ok.test` at 443.
pub fn policy() -> Policy {
    let rule = Rule {
        id: RuleId(1),
        source: Source { file: "build.yaml".into(), line: 5 },
        subject: Subject::Host(Pattern::parse("ok.test").unwrap()),
        ports: vec![443],
        protocol: Some(Protocol::Tls),
        private: false,
        reason: None,
        names: NameTerms::default(),
        tls: TlsTerms::default(),
        term: Default::default(),
        budget: Default::default(),
        mode: Default::default(),
        risk: None,
    };
    Policy::new(vec![rule], Vec::new())
}

fn time() -> Time {
    "2026-11-21T10:15:14.123Z".parse().unwrap()
}
