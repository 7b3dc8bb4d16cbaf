//! The control socket from both ends: the real server and client, with a fake daemon behind.
#![allow(clippy::unwrap_used)]

mod events;
mod fake;
mod scrape;

use egressd::{
    audit::{Line, RING, Recovered},
    control::{
        Client, ClientError,
        protocol::{
            AllowRequest, ApproveLeaks, Boundary, BudgetsRequest, Decide, Decision, ExplainRequest, Frame,
            GrantsRequest, LeaksRequest, PolicyText, RecordsRequest, RefusalKind, RevokeRequest, StartAgent,
        },
    },
};
use events::{alert, change, denial};
use fake::Server;
use std::{
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
};

#[test]
fn every_request_is_answered_in_kind() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let client = Client::new(&socket).unwrap();
    assert!(client.status().unwrap().is_healthy());
    assert_eq!(client.agents().unwrap()[0].name, "build");
    assert_eq!(client.reload().unwrap().changed_agents, ["build"]);
    assert_eq!(client.metrics().unwrap()[0].samples[0].value, 1500.0);
    assert_eq!(client.start_agent(&start("rules: []")).unwrap().name, "build");
    client.stop_agent(1).unwrap();
    let asked = ExplainRequest { host: "evil.test:443".to_owned(), ..ExplainRequest::default() };
    assert_eq!(client.explain(&asked).unwrap().reason.as_deref(), Some("host-not-allowed"));
    assert_eq!(client.leaks(&LeaksRequest::default()).unwrap().len(), 2);
    let of_build = LeaksRequest { agent: Some("build".to_owned()) };
    assert_eq!(client.leaks(&of_build).unwrap()[0].accounts[0].level.used_bits, 4096);
    assert_eq!(client.budgets(&BudgetsRequest::default()).unwrap().len(), 2);
    let of_nobody = BudgetsRequest { agent: Some("nobody".to_owned()) };
    refused(client.budgets(&of_nobody), RefusalKind::Unknown);
    client.approve_leaks(&ApproveLeaks { agent: "build".to_owned(), zone: None }).unwrap();
}

#[test]
fn a_grant_is_made_on_the_word_of_the_process_that_asked() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let client = Client::new(&socket).unwrap();
    let wish = AllowRequest {
        destination: "*.api.example.com".to_owned(),
        lasts: "90s".to_owned(),
        bytes: Some("10MB".to_owned()),
        ..AllowRequest::default()
    };
    let grant = client.allow(&wish).unwrap();
    assert_eq!((grant.destination.as_str(), grant.bytes), ("*.api.example.com", Some(10_000_000)));
    assert_eq!(grant.until.timestamp().duration_since(grant.since.timestamp()).as_secs(), 90);
    assert_eq!((grant.by.uid, grant.by.pid), (0, std::process::id()));
    assert!(grant.by.command.contains("control"), "{}", grant.by.command);
    assert_eq!(client.grants(&GrantsRequest::default()).unwrap().len(), 1);
    let of_job = GrantsRequest { agent: Some("job".to_owned()) };
    assert_eq!(client.grants(&of_job).unwrap(), []);
    let seventh = RevokeRequest { id: Some(7), ..RevokeRequest::default() };
    assert_eq!(client.revoke(&seventh).unwrap().len(), 1);
    let unknown = RevokeRequest { id: Some(8), ..RevokeRequest::default() };
    assert_eq!(refused(client.revoke(&unknown), RefusalKind::Unknown), "there is no grant 8");
    assert_eq!(client.approvals().unwrap()[0].group, "example.com");
    let decision = Decision::Deny { remember: None };
    let id = "3-kxwb".parse().unwrap();
    assert_eq!(client.decide(&Decide { id, decision, reason: None }).unwrap().grants, []);
    let wide = AllowRequest { destination: "*.com".to_owned(), ..wish };
    assert!(refused(client.allow(&wide), RefusalKind::Invalid).contains("too wide"));
}

#[test]
fn a_change_is_shown_beside_denials_to_whoever_asks_for_its_agent() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test"), change(2)]);
    let client = Client::new(&socket).unwrap();
    let shown = |agent: &str, reason: Option<&str>| {
        let (agent, reason) = (Some(agent.to_owned()), reason.map(str::to_owned));
        let mut records = client.records(&RecordsRequest { agent, reason, ..Default::default() }).unwrap();
        std::iter::from_fn(|| records.next_frame().unwrap()).count() - 1
    };
    assert_eq!((shown("build", None), shown("other", None), shown("build", Some("not-tls"))), (2, 0, 0));
}

#[test]
fn a_refusal_keeps_its_kind_and_its_lines() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let client = Client::new(&socket).unwrap();
    assert!(refused(client.start_agent(&start("broken: 1")), RefusalKind::Invalid).contains("\n  | ^^^^^^"));
    assert_eq!(refused(client.stop_agent(7), RefusalKind::Unknown), "there is no agent 7");
    let asked = ExplainRequest { host: "a b&c=d%".to_owned(), ..ExplainRequest::default() };
    refused(client.explain(&asked), RefusalKind::Invalid);
    refused(client.leaks(&LeaksRequest { agent: Some("nobody".to_owned()) }), RefusalKind::Unknown);
    let approve = ApproveLeaks { agent: "nobody".to_owned(), zone: Some("cdn.example".to_owned()) };
    refused(client.approve_leaks(&approve), RefusalKind::Unknown);
    let too_large = client.start_agent(&start(&"x".repeat(2 << 20)));
    assert!(matches!(too_large, Err(ClientError::RequestTooLarge(_))));
}

#[test]
fn a_follower_reads_what_is_there_what_comes_and_then_the_end() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test"), denial(2, "b.test"), denial(3, "c.test")]);
    let client = Client::new(&socket).unwrap();
    let request = RecordsRequest { last: Some(2), follow: true, ..RecordsRequest::default() };
    let mut records = client.records(&request).unwrap();
    assert!(matches!(records.next_frame().unwrap(), Some(Frame::Feed { feed, .. }) if feed.next_seq == 4));
    assert_eq!([seq(records.next_frame().unwrap()), seq(records.next_frame().unwrap())], [2, 3]);
    server.feed.publish(&[denial(4, "d.test")]);
    assert_eq!(seq(records.next_frame().unwrap()), 4);
    drop(server);
    assert!(matches!(records.next_frame(), Ok(None)));
}

#[test]
fn a_reader_that_comes_back_is_told_what_it_missed() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    let lines: Vec<_> = (1..=RING as u64 + 100).map(|seq| denial(seq, "a.test")).collect();
    server.feed.publish(&lines);
    let client = Client::new(&socket).unwrap();
    let mut records = client.records(&after(60)).unwrap();
    records.next_frame().unwrap();
    assert!(matches!(records.next_frame().unwrap(), Some(Frame::Missed { missed: 40, .. })));
    assert_eq!(seq(records.next_frame().unwrap()), 101);
}

#[test]
fn a_reader_that_remembers_another_numbering_reads_from_the_start() {
    let (_folder, socket) = socket();
    let server = Server::start_with(&socket, Recovered::default(), |_| false);
    server.feed.publish(&[denial(1, "a.test")]);
    let client = Client::new(&socket).unwrap();
    let mut records = client.records(&after(900)).unwrap();
    records.next_frame().unwrap();
    assert_eq!(seq(records.next_frame().unwrap()), 1);
}

#[test]
fn filters_are_applied_by_the_daemon() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test")]);
    let client = Client::new(&socket).unwrap();
    let shown = |request: &RecordsRequest| {
        let mut records = client.records(request).unwrap();
        std::iter::from_fn(|| records.next_frame().unwrap()).count() - 1
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(&RecordsRequest { agent: some("build"), ..RecordsRequest::default() }), 1);
    assert_eq!(shown(&RecordsRequest { agent: some("other"), ..RecordsRequest::default() }), 0);
    assert_eq!(shown(&RecordsRequest { reason: some("not-tls"), ..RecordsRequest::default() }), 0);
    assert_eq!(shown(&RecordsRequest { process: some("curl"), ..RecordsRequest::default() }), 1);
    assert_eq!(shown(&RecordsRequest { process: some("42"), ..RecordsRequest::default() }), 1);
    assert_eq!(shown(&RecordsRequest { process: some("a.test"), ..RecordsRequest::default() }), 1);
    assert_eq!(shown(&RecordsRequest { process: some("wget"), ..RecordsRequest::default() }), 0);
    let since = "2999-01-01T00:00:00Z".parse().ok();
    assert_eq!(shown(&RecordsRequest { since, ..RecordsRequest::default() }), 0);
    // An alert has neither a reason nor a process.
    server.feed.publish(&[alert(2)]);
    assert_eq!(shown(&RecordsRequest { agent: some("build"), ..RecordsRequest::default() }), 2);
    assert_eq!(shown(&RecordsRequest { agent: some("other"), ..RecordsRequest::default() }), 0);
    assert_eq!(shown(&RecordsRequest { since, ..RecordsRequest::default() }), 0);
    assert_eq!(shown(&RecordsRequest { reason: some("host-not-allowed"), ..RecordsRequest::default() }), 1);
    assert_eq!(shown(&RecordsRequest { process: some("curl"), ..RecordsRequest::default() }), 1);
}

#[test]
fn an_agent_may_not_use_the_socket() {
    let (_folder, socket) = socket();
    let _server = Server::start_with(&socket, Recovered::default(), |pid| pid == std::process::id());
    let client = Client::new(&socket).unwrap();
    assert!(refused(client.status(), RefusalKind::Forbidden).contains("belongs to an agent"));
}

#[test]
fn the_socket_is_for_root_alone_and_replaces_one_that_nobody_answers_at() {
    let (_folder, socket) = socket();
    drop(UnixListener::bind(&socket).unwrap());
    let _server = Server::start(&socket);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let second = runtime.block_on(async { egressd::control::bind(&socket) });
    assert!(second.unwrap_err().to_string().contains("another daemon answers"));
}

#[test]
fn the_bound_on_connections_is_told_to_the_one_that_is_too_many() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let clients: Vec<_> = (0..64).map(|_| Client::new(&socket).unwrap()).collect();
    let request = RecordsRequest { follow: true, ..RecordsRequest::default() };
    let held: Vec<_> = clients.iter().map(|client| client.records(&request).unwrap()).collect();
    let client = Client::new(&socket).unwrap();
    assert_eq!(refused(client.status(), RefusalKind::Busy), "too many connections");
    drop(held);
}

#[test]
fn no_daemon_is_an_error_that_says_what_to_do() {
    let (_folder, socket) = socket();
    let error = Client::new(&socket).unwrap().status().unwrap_err();
    assert!(error.may_pass());
    assert!(error.to_string().contains("start one with `egressd`, or use `egressctl run`"), "{error}");
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    (folder, socket)
}

fn start(text: &str) -> StartAgent {
    let policy = PolicyText { file: "p.yaml".to_owned(), text: text.to_owned(), base_dir: "/".into() };
    StartAgent {
        name: Some("build".to_owned()),
        policy: Some(policy),
        explicit_proxy: false,
        boundary: Boundary::Cgroup,
        uid: None,
        labels: Default::default(),
        observe: false,
    }
}

fn after(seq: u64) -> RecordsRequest {
    RecordsRequest { after_seq: Some(seq), ..RecordsRequest::default() }
}

fn seq(frame: Option<Frame>) -> u64 {
    match frame {
        Some(Frame::Line(Line::Record(record))) => record.seq,
        other => panic!("no record: {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ClientError>, kind: RefusalKind) -> String {
    match outcome {
        Err(ClientError::Refused(refusal)) if refusal.kind == kind => refusal.message,
        other => panic!("no refusal of kind {kind:?}: {other:?}"),
    }
}
