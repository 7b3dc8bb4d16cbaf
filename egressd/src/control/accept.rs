//! Waiting for whoever connects next.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::Duration,
};

/// Whoever `poll_accept` lets in next, however often it fails before; `what` for is told then.
pub async fn accepted<S, A>(
    what: &str,
    mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, A)>>,
) -> S {
    loop {
        match poll_fn(&mut poll_accept).await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::error!(%error, "failed to accept a connection {what}");
                // Most likely out of descriptors, which trying again at once does not change.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
