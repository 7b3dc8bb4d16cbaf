//! One connection of an agent and the one to its server: each request is judged, and only then sent.

use super::{
    Inspector,
    body::{Bounded, Bounds, Excess, discard},
    report,
    request::{self, Server, judge, rewrite},
};
use crate::{
    policy::{Inspection, Permit, Reason},
    proxy::{
        origin::{Caller, Sought},
        refuse::{Refusal, denied_body, status_code, unreachable_body},
    },
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Version,
    header::{CONTENT_TYPE, EXPECT},
    request::Parts,
};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use std::sync::Arc;
use tokio::sync::Mutex;

/// What is answered with: what the server sends, or a word of our own.
pub type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// What the requests of one connection share.
pub struct Session {
    pub caller: Caller,
    pub inspector: Arc<Inspector>,
    pub inspection: Arc<Inspection>,
    pub sought: Sought,
    pub permit: Permit,
    pub server: Server,
    pub bounds: Arc<Bounds>,
    pub upstream: Upstream,
}

/// Where requests go.
pub enum Upstream {
    Http1(Mutex<http1::SendRequest<Bounded>>),
    Http2(http2::SendRequest<Bounded>),
    /// Nowhere: the server is denied. Each request is told why.
    Denied(Refusal),
    /// Nowhere: the server cannot be reached.
    Unreachable(String),
}

impl Session {
    /// Answers one request.
    ///
    /// # Errors
    /// The server has left, so that the connection of the agent ends as well.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
        let (mut head, body) = request.into_parts();
        let shown = report::shown(&head);
        match self.prepare(&mut head, &body).await {
            Ok(()) => self.forward(head, body, shown).await,
            Err(refusal) => {
                // An upstream that is denied has its record already.
                if !matches!(self.upstream, Upstream::Denied(_)) {
                    report::denial(&self, &refusal, &shown);
                }
                self.refuse(&head, body, &refusal).await
            }
        }
    }

    /// Judges a request, and makes of its head the one that is to be sent.
    async fn prepare(&self, head: &mut Parts, body: &Incoming) -> Result<(), Refusal> {
        if let Upstream::Denied(refusal) = &self.upstream {
            return Err(refusal.clone());
        }
        let target = judge(head, &self.server, &self.inspection)?;
        if self.bounds.exceeds(body.size_hint().lower()) {
            return Err(Refusal::explained(Reason::BodyTooLarge, "the body says that it is too large"));
        }
        let injected = self.injected().await?;
        rewrite(head, &target, &self.server, injected)
    }

    /// The header fields of the rule, with values that are read now.
    async fn injected(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let mut injected = Vec::new();
        for injection in &self.inspection.inject {
            let value = self.inspector.credential(&injection.credential).await;
            let value = value.map_err(|error| Refusal::explained(Reason::InspectionRefused, error))?;
            let name = HeaderName::from_bytes(injection.header.as_bytes())
                .map_err(|error| Refusal::explained(Reason::InspectionRefused, error))?;
            injected.push((name, value));
        }
        Ok(injected)
    }

    async fn forward(
        self: Arc<Self>,
        head: Parts,
        body: Incoming,
        shown: String,
    ) -> Result<Answer, hyper::Error> {
        let cut = Arc::new(std::sync::Mutex::new(None));
        let (session, told, detail) = (Arc::clone(&self), Arc::clone(&cut), shown.clone());
        let bounded = Bounded::new(body, Arc::clone(&self.bounds), move |excess| {
            let refusal = excessive(excess);
            report::denial(&session, &refusal, &detail);
            *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(refusal);
        });
        let sought = Sought { port: Some(self.server.port), ..self.sought.clone() };
        report::permit(&self, &sought, shown);
        match self.send(Request::from_parts(head, bounded)).await {
            Ok(answer) => Ok(received(answer)),
            Err(error) => {
                let refusal = cut.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                match (refusal, error) {
                    (Some(refusal), _) => Ok(self.denied(&refusal)),
                    (None, Lost::Gone(error)) if error.is_canceled() || error.is_closed() => Err(error),
                    (None, error) => Ok(unreachable(&error.to_string())),
                }
            }
        }
    }

    async fn send(&self, request: Request<Bounded>) -> Result<Response<Incoming>, Lost> {
        match &self.upstream {
            Upstream::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(Lost::Gone)?;
                sender.send_request(request).await.map_err(Lost::Gone)
            }
            Upstream::Http2(sender) => sender.clone().send_request(request).await.map_err(Lost::Gone),
            Upstream::Denied(refusal) => Err(Lost::Never(refusal.denial.to_string())),
            Upstream::Unreachable(why) => Err(Lost::Never(why.clone())),
        }
    }

    /// Answers a denied request, when its body is out of the way.
    async fn refuse(&self, head: &Parts, body: Incoming, refusal: &Refusal) -> Result<Answer, hyper::Error> {
        // Whoever waits for leave to send its body has sent nothing yet.
        let waits = head.version == Version::HTTP_11 && head.headers.contains_key(EXPECT);
        if !waits {
            discard(body).await;
        }
        Ok(self.denied(refusal))
    }

    fn denied(&self, refusal: &Refusal) -> Answer {
        let text = denied_body(&self.caller, &self.sought, self.permit.protocol(), refusal);
        let reason = HeaderValue::from_static(refusal.denial.reason.as_str());
        let mut answer = own(status_code(refusal.denial.reason), text);
        answer.headers_mut().insert("x-egressd-reason", reason);
        answer
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("its upstream gave no answer: {0}")]
    Gone(hyper::Error),
    #[error("{0}")]
    Never(String),
}

fn excessive(excess: Excess) -> Refusal {
    match excess {
        Excess::Octets => Refusal::explained(Reason::BodyTooLarge, "the body was cut at its bound"),
        Excess::Trailers => {
            Refusal::explained(Reason::RequestMalformed, "header fields behind the body are not judged")
        }
    }
}

/// What the server answered, without what was for us.
fn received(answer: Response<Incoming>) -> Answer {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return unreachable("its upstream answered what nobody had asked for");
    }
    let (mut head, body) = answer.into_parts();
    request::strip(&mut head.headers);
    // Each side has its own version, which hyper writes.
    head.version = Version::default();
    Response::from_parts(head, Either::Left(body))
}

fn unreachable(why: &str) -> Answer {
    own(StatusCode::BAD_GATEWAY, unreachable_body(why))
}

fn own(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from(text))));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
