//! HTTP on both sides of a flow: hyper speaks it, within bounds.

use super::{
    agent::{HTTP_1, HTTP_2},
    body::Bounded,
    session::{Session, Upstream},
    stream::Plain,
};
use crate::proxy::head::MAX_HEAD;
use hyper::{client, rt::Executor, server, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Mutex;
use tokio_rustls::{client::TlsStream as ToServer, server::TlsStream as ToAgent};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The way to the server, before the session has it.
pub struct Link {
    pub upstream: Upstream,
    /// What the server speaks, so that the agent does as well: no request is translated from one version
    /// into the other. None: there is no server.
    pub protocol: Option<&'static [u8]>,
    pub connection: Connection,
}

/// The connection to the server, to be polled for as long as the way is used; ends with it.
pub type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Link {
    /// Begins HTTP with a server that has proved its name.
    pub async fn open(stream: ToServer<Plain>, tasks: Tasks) -> Self {
        let is_http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        let begun = if is_http_2 { Self::http_2(stream, tasks).await } else { Self::http_1(stream).await };
        begun.unwrap_or_else(|error| {
            Self::nowhere(Upstream::Unreachable(format!("its upstream does not speak HTTP: {error}")))
        })
    }

    /// A way on which requests are only told why it leads nowhere.
    #[must_use]
    pub fn nowhere(why: Upstream) -> Self {
        Self { upstream: why, connection: Box::pin(pending()), protocol: None }
    }

    async fn http_1(stream: ToServer<Plain>) -> hyper::Result<Self> {
        let mut builder = client::conn::http1::Builder::new();
        let (sender, connection) =
            builder.max_buf_size(MAX_HEAD).handshake::<_, Bounded>(TokioIo::new(stream)).await?;
        // How it ends is seen by the requests that it ends.
        let connection: Connection = Box::pin(async move { drop(connection.await) });
        Ok(Self { upstream: Upstream::Http1(Mutex::new(sender)), connection, protocol: Some(HTTP_1) })
    }

    async fn http_2(stream: ToServer<Plain>, tasks: Tasks) -> hyper::Result<Self> {
        let (sender, connection) = client::conn::http2::Builder::new(tasks)
            .max_header_list_size(MAX_FIELDS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .handshake::<_, Bounded>(TokioIo::new(stream))
            .await?;
        let connection: Connection = Box::pin(async move { drop(connection.await) });
        Ok(Self { upstream: Upstream::Http2(sender), connection, protocol: Some(HTTP_2) })
    }
}

/// Answers the requests of `agent` until either side is done. When the server leaves, so do we, once what
/// it answered is delivered.
pub async fn carry(
    agent: ToAgent<Plain>,
    protocol: &[u8],
    session: Arc<Session>,
    mut connection: Connection,
    tasks: Tasks,
) {
    let service = service_fn(move |request| Arc::clone(&session).answer(request));
    let agent = TokioIo::new(agent);
    // How it ends is the agent's own affair.
    if protocol == HTTP_2 {
        let mut served = pin!(to_http_2(tasks).serve_connection(agent, service));
        tokio::select! {
            _ = served.as_mut() => return,
            () = &mut connection => served.as_mut().graceful_shutdown(),
        }
        let _ = served.await;
    } else {
        let mut served = pin!(to_http_1().serve_connection(agent, service));
        tokio::select! {
            _ = served.as_mut() => return,
            () = &mut connection => served.as_mut().graceful_shutdown(),
        }
        let _ = served.await;
    }
}

/// What hyper starts for a connection ends with it, also with one that is cut.
#[derive(Debug, Clone)]
pub struct Tasks(CancellationToken);

impl Tasks {
    /// They end when the guard is dropped.
    #[must_use]
    pub fn guarded() -> (Self, DropGuard) {
        let token = CancellationToken::new();
        (Self(token.clone()), token.drop_guard())
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }
}

fn to_http_1() -> server::conn::http1::Builder {
    let mut builder = server::conn::http1::Builder::new();
    builder
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .auto_date_header(false);
    builder
}

fn to_http_2(tasks: Tasks) -> server::conn::http2::Builder<Tasks> {
    let mut builder = server::conn::http2::Builder::new(tasks);
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_ASKED)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .auto_date_header(false);
    builder
}

/// The largest list of header fields: as [`MAX_HEAD`].
const MAX_FIELDS: u32 = 64 * 1024;
/// The same of a request. In memory a field takes some hundred octets more, and requests wait where a server takes few
/// at a time.
const MAX_ASKED: u32 = 16 * 1024;

/// Requests that an agent has at once on one connection; others wait.
const MAX_STREAMS: u32 = 32;

/// What one request may have on its way that nobody has read yet.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The same of all requests of a connection: with [`SEND_BUFFER`] for each that is slow, what an agent can
/// have us hold.
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// What is held of one response that the agent does not read, beyond its window.
const SEND_BUFFER: usize = 16 * 1024;

/// How long the head of a request may take, from the end of the last answer: as long as servers keep idle
/// connections.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);
