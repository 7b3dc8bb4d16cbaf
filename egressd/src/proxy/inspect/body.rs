//! The body of a request, within its bounds.

use crate::proxy::refuse::{MAX_DISCARDED, PARTING};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::time::timeout;

/// What bodies may be, and what went upstream of them.
#[derive(Debug)]
pub struct Bounds {
    /// Of one body.
    pub body: u64,
    /// Of all bodies of the connection.
    pub connection: u64,
    sent: AtomicU64,
}

impl Bounds {
    /// None: no bound.
    #[must_use]
    pub fn new(body: Option<u64>, connection: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            body: body.unwrap_or(u64::MAX),
            connection: connection.unwrap_or(u64::MAX),
            sent: AtomicU64::new(0),
        })
    }

    /// Whether a body that says that it has at least `octets` cannot fit.
    #[must_use]
    pub fn exceeds(&self, octets: u64) -> bool {
        octets > self.body || octets > self.connection.saturating_sub(self.sent.load(Ordering::Relaxed))
    }

    /// Takes `octets` more, if they fit.
    fn take(&self, octets: u64) -> bool {
        let take = |sent: u64| sent.checked_add(octets).filter(|sum| *sum <= self.connection);
        self.sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A body that ends with an error where it exceeds its bounds: nothing beyond them is sent, and what was is
/// no whole request to the server.
pub struct Bounded {
    body: Incoming,
    bounds: Arc<Bounds>,
    /// Of this body.
    seen: u64,
    /// Told once, when the body is cut.
    on_excess: Option<Box<dyn FnOnce(Excess) + Send + Sync>>,
}

impl Bounded {
    #[must_use]
    pub fn new(
        body: Incoming,
        bounds: Arc<Bounds>,
        on_excess: impl FnOnce(Excess) + Send + Sync + 'static,
    ) -> Self {
        Self { body, bounds, seen: 0, on_excess: Some(Box::new(on_excess)) }
    }

    fn cut(&mut self, excess: Excess) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(tell) = self.on_excess.take() {
            tell(excess);
        }
        Poll::Ready(Some(Err(BodyError::Excess(excess))))
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Agent(error)))),
            None => return Poll::Ready(None),
        };
        // Fields behind a body were judged by nobody.
        let Some(data) = frame.data_ref() else { return self.cut(Excess::Trailers) };
        let octets = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.seen = self.seen.saturating_add(octets);
        if self.seen > self.bounds.body || !self.bounds.take(octets) {
            return self.cut(Excess::Octets);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a body has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    Octets,
    Trailers,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body has more than may be sent: {0:?}")]
    Excess(Excess),
    #[error("failed to read the body: {0}")]
    Agent(hyper::Error),
}

/// Reads a body that nobody wants: libraries send all of it before they look for the answer. At most
/// [`MAX_DISCARDED`] octets, for at most [`PARTING`].
pub async fn discard(mut body: Incoming) {
    let drain = async {
        let mut discarded = 0;
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > MAX_DISCARDED {
                break;
            }
        }
    };
    // Whatever the outcome, the answer follows.
    let _ = timeout(PARTING, drain).await;
}
