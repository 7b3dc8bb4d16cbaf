//! What monitors are answered, and strangers are not.

use crate::fake;
use egressd::control::serve_metrics;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

#[test]
fn a_monitor_reads_figures_as_text() {
    let listener = Listener::start(true);
    let answer = listener.ask("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    assert_eq!(
        body,
        "# HELP egressd_budget_used_bytes Bytes that are used up of a budget.\n\
         # TYPE egressd_budget_used_bytes gauge\n\
         egressd_budget_used_bytes{agent=\"build\",rule=\"a\\\"b\\\\u{1b}[2J.yaml:6\"} 1500\n"
    );
    let head = listener.ask("HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn there_is_one_path_and_nothing_to_be_done_there() {
    let listener = Listener::start(true);
    for (request, code) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("GET /v1/status HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("GET /metrics/ HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx", 405),
        ("DELETE /metrics HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n", 404),
        ("nonsense\r\n\r\n", 400),
    ] {
        let answer = listener.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {answer}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(64 << 10));
    let answer = listener.try_ask(&long).unwrap_or_default();
    assert!(!answer.contains(" 200 "), "{answer}");
}

#[test]
fn a_connection_has_one_request() {
    let listener = Listener::start(true);
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = listener.try_ask(&request.repeat(2)).unwrap_or_default();
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
}

#[test]
fn a_stranger_is_hung_up_on_without_a_byte() {
    let listener = Listener::start(false);
    match listener.try_ask("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n") {
        Ok(answer) => assert_eq!(answer, ""),
        Err(error) => assert!(is_reset(error.kind()), "{error}"),
    }
}

#[test]
fn those_who_say_nothing_keep_others_out_only_until_they_go() {
    let listener = Listener::start(true);
    let mut silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(listener.address).unwrap()).collect();
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let answers = |listener: &Listener| listener.try_ask(request).is_ok_and(|text| text.contains(" 200 "));
    for _ in 0..8 {
        assert!(!answers(&listener), "four at once");
    }
    silent.clear();
    while !answers(&listener) {}
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A listener with a daemon behind it, which ends with this value.
struct Listener {
    address: SocketAddr,
    shutdown: CancellationToken,
    _runtime: Runtime,
}

impl Listener {
    fn start(lets_all_read: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let may_read = Arc::new(move |_, _| lets_all_read);
        runtime.spawn(serve_metrics(listener, fake::daemon(), may_read, shutdown.clone()));
        Self { address, shutdown, _runtime: runtime }
    }

    fn ask(&self, request: &str) -> String {
        self.try_ask(request).unwrap()
    }

    fn try_ask(&self, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
