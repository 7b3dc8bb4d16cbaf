//! The listener for monitors: `GET /metrics` over TCP, and nothing else.

use super::{accept::accepted, daemon::Daemon, protocol::Exposition};
use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use socket2::SockRef;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Tells whether whoever is at the first address may read what is told at the second. It may block; whom it cannot
/// tell it must not let in.
pub type MayRead = Arc<dyn Fn(SocketAddr, SocketAddr) -> bool + Send + Sync>;

/// Answers at `listener` until `shutdown` is cancelled. Whoever `may_read` does not let in is hung up on, without a
/// byte.
pub async fn serve_metrics(
    listener: TcpListener,
    daemon: Arc<dyn Daemon>,
    may_read: MayRead,
    shutdown: CancellationToken,
) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(daemon);
    let slots = Arc::new(Semaphore::new(MAX_SCRAPES));
    let mut scrapes = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = scrapes.join_next() => continue,
            stream = accepted("for metrics", |context| listener.poll_accept(context)) => stream,
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            hang_up(&stream);
            continue;
        };
        let (router, may_read) = (router.clone(), Arc::clone(&may_read));
        scrapes.spawn(async move {
            // Whoever takes longer is hung up on.
            let _ = timeout(PATIENCE, answer(stream, router, may_read)).await;
            drop(slot);
        });
    }
}

/// Connections at once: a monitor has one, and the next is a second attempt.
const MAX_SCRAPES: usize = 4;
/// From the first byte of a request to the last one of the answer; monitors wait for ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of the head of a request, the least that hyper knows; those of monitors have some 300.
const MAX_HEAD: usize = 8192;

async fn answer(stream: TcpStream, router: Router, may_read: MayRead) {
    if !is_let_in(&stream, may_read).await {
        return hang_up(&stream);
    }
    let service = hyper::service::service_fn(move |request| router.clone().call(request));
    let outcome = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

async fn is_let_in(stream: &TcpStream, may_read: MayRead) -> bool {
    let ends = || io::Result::Ok((stream.peer_addr()?, stream.local_addr()?));
    let Ok((peer, own)) = ends() else { return false };
    spawn_blocking(move || may_read(peer, own)).await.unwrap_or(false)
}

/// By a reset, as where nobody listens.
fn hang_up(stream: &TcpStream) {
    // What cannot be reset is closed.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn metrics(State(daemon): State<Arc<dyn Daemon>>) -> Response {
    let text = Exposition(&daemon.metrics()).to_string();
    ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], text).into_response()
}
