//! The listening side of the control socket.

use super::{
    accept::accepted,
    daemon::Daemon,
    peer::{IsAgent, Stranger, admit},
    protocol::{Refusal, RefusalKind},
    routes::router,
};
use crate::{audit::encode_line, policy::Operator};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net as std_unix,
    },
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Listens at `path`, mode 0600. A socket that a dead daemon left behind is replaced.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// A living daemon answers there, or the socket cannot be made.
pub fn bind(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Bind { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NoSocket(path.to_owned()));
        }
        Ok(_) if std_unix::UnixStream::connect(path).is_ok() => return Err(BindError::Busy(path.to_owned())),
        Ok(_) | Err(_) => {}
    }
    // Nobody can connect before the mode is set, for the name is not there before.
    let unready = path.with_extension(format!("{}", std::process::id()));
    remove_if_there(&unready).map_err(failed)?;
    let listener = std_unix::UnixListener::bind(&unready).map_err(failed)?;
    fs::set_permissions(&unready, Permissions::from_mode(0o600)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    fs::rename(&unready, path).map_err(failed)?;
    UnixListener::from_std(listener).map_err(failed)
}

/// Answers at `listener` until `shutdown` is cancelled; then lets what was asked be answered, for
/// at most [`GRACE`]. Followers of records end when the daemon closes its feed.
///
/// `is_agent` tells whether a process belongs to an agent, and says so of any that it cannot read.
pub async fn serve(
    listener: UnixListener,
    daemon: Arc<dyn Daemon>,
    is_agent: IsAgent,
    shutdown: CancellationToken,
) {
    let router = router(daemon);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            stream = accepted("for control", |context| listener.poll_accept(context)) => stream,
        };
        match admit(&stream, &is_agent) {
            Ok(operator) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    connections.spawn(converse(stream, operator, router.clone(), slot, shutdown.clone()));
                }
                Err(_) => {
                    refuse(&mut connections, stream, &refusals, RefusalKind::Busy, &"too many connections")
                }
            },
            Err(stranger) => {
                report(&stranger);
                refuse(&mut connections, stream, &refusals, RefusalKind::Forbidden, &stranger);
            }
        }
    }
    drop(listener);
    // Those that take longer are aborted with the set.
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(GRACE, all_ended).await;
}

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("another daemon answers at `{0}`: stop it, or give this one another socket")]
    Busy(PathBuf),
    #[error("`{0}` is there and is no socket: remove it, or give the daemon another socket")]
    NoSocket(PathBuf),
    #[error("failed to listen at `{path}`: {source}")]
    Bind { path: PathBuf, source: io::Error },
}

/// Operators and their followers at once; an agent never holds one.
const MAX_CONNECTIONS: usize = 64;
/// Strangers that are told why at once; the others are just hung up on.
const MAX_REFUSALS: usize = 16;
/// Time for a peer to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for answers that are under way when the daemon ends.
const GRACE: Duration = Duration::from_secs(2);
/// Time that a stranger is given to take its refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

async fn converse(
    stream: UnixStream,
    operator: Operator,
    router: axum::Router,
    _slot: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) {
    let service = hyper::service::service_fn(move |mut request: http::Request<_>| {
        request.extensions_mut().insert(operator.clone());
        router.clone().call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "control connection ended early");
    }
}

fn report(stranger: &Stranger) {
    match stranger {
        Stranger::Agent(_) => tracing::warn!(%stranger, "denied a peer of the control socket"),
        Stranger::User(_) | Stranger::Unseen | Stranger::Unreadable(_) => {
            tracing::info!(%stranger, "denied a peer of the control socket");
        }
    }
}

/// Tells the peer why, without reading a byte of what it says as HTTP.
fn refuse(
    connections: &mut JoinSet<()>,
    stream: UnixStream,
    refusals: &Arc<Semaphore>,
    kind: RefusalKind,
    why: &dyn std::fmt::Display,
) {
    let Ok(slot) = Arc::clone(refusals).try_acquire_owned() else { return };
    let body = encode_line(&Refusal::new(kind, why));
    let status = if kind == RefusalKind::Busy { "503 Service Unavailable" } else { "403 Forbidden" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    connections.spawn(async move {
        let _ = timeout(REFUSAL_TIMEOUT, hang_up(stream, [head.into_bytes(), body].concat())).await;
        drop(slot);
    });
}

/// Answers the first bytes that the peer sends, whatever they are: an answer to nothing confuses
/// clients. Then waits for it to close: closing with its request unread would reset the
/// connection, perhaps before it has read the answer.
async fn hang_up(mut stream: UnixStream, answer: Vec<u8>) -> io::Result<()> {
    let mut unread = [0; 4096];
    if stream.read(&mut unread).await? == 0 {
        return Ok(());
    }
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
