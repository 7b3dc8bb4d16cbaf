//! All resolvers together: one question, and the first answer that can be used.

use super::{
    LookupError,
    health::{Health, Plan},
    server::{Line, Seal},
};
use crate::policy::Moment;
use futures_util::{Stream, stream};
use hickory_resolver::{
    net::{DnsHandle, NetError, runtime::TokioRuntimeProvider},
    proto::op::{DnsRequest, DnsResponse, Query, ResponseCode},
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

/// The resolvers, shared by all who ask.
#[derive(Clone)]
pub(super) struct Fleet(Arc<Inner>);

struct Inner {
    lines: Vec<Line>,
    health: Mutex<Health>,
    started: Instant,
    attempts: Semaphore,
}

type Outcome = Result<DnsResponse, LookupError>;

impl Fleet {
    pub(super) fn new(lines: Vec<Line>) -> Self {
        let health = Mutex::new(Health::of(lines.len()));
        let attempts = Semaphore::new(MAX_ATTEMPTS);
        Self(Arc::new(Inner { lines, health, started: Instant::now(), attempts }))
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.0.lines
    }

    /// Asks the best resolver, and the next ones as it fails or takes its time. Takes as long as the
    /// slowest of them; whoever asks sets a limit.
    ///
    /// # Errors
    /// None gave an answer that can be used; what the last of them did.
    pub(super) async fn ask(&self, question: &Query, seal: Seal) -> Outcome {
        let Plan { order, probe } = self.health().plan(self.now());
        let (tell, mut told) = mpsc::channel(order.len() + 1);
        if let Some(server) = probe {
            self.begin(server, question, seal, &tell);
        }
        let mut failure = LookupError::Deadline;
        let last = order.len() - 1;
        for (place, turn) in order.into_iter().enumerate() {
            self.begin(turn.server, question, seal, &tell);
            let patience = if place == last { Duration::MAX } else { turn.hedge };
            match timeout(patience, told.recv()).await {
                Ok(Some(Ok(response))) => return Ok(response),
                Ok(Some(Err(error))) => failure = error,
                // Late, and still under way.
                Ok(None) | Err(_) => {}
            }
        }
        drop(tell);
        while let Some(outcome) = told.recv().await {
            match outcome {
                Ok(response) => return Ok(response),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// An attempt runs to its end even where another is faster: else nobody would learn how its
    /// server does.
    fn begin(&self, server: usize, question: &Query, seal: Seal, tell: &mpsc::Sender<Outcome>) {
        let (fleet, question, tell) = (self.clone(), question.clone(), tell.clone());
        tokio::spawn(async move {
            let outcome = fleet.attempt(server, &question, seal).await;
            // Whoever asked may have its answer.
            let _ = tell.send(outcome).await;
        });
    }

    async fn attempt(&self, server: usize, question: &Query, seal: Seal) -> Outcome {
        let line = &self.0.lines[server];
        let failed = |why: String| LookupError::Server { address: line.server.address, why };
        let Ok(_attempt) = self.0.attempts.try_acquire() else {
            self.health().forgone(server);
            return Err(failed("too many questions are on their way".to_owned()));
        };
        let begun = self.now();
        let answer = line.ask(question, seal).await;
        let now = self.now();
        let mut health = self.health();
        match answer {
            Ok(response) => match judge(&response, question) {
                Answer::Usable => {
                    health.answered(server, now.since(begun), now);
                    Ok(response)
                }
                Answer::Unhelpful => {
                    health.unhelpful(server, now);
                    Err(failed(format!("it answered {}", response.metadata.response_code)))
                }
                Answer::Wrong(why) => {
                    health.failed(server, now);
                    Err(failed(why))
                }
            },
            Err(NetError::Busy) => {
                health.forgone(server);
                Err(failed("too many questions wait on its connection".to_owned()))
            }
            Err(error) => {
                health.failed(server, now);
                Err(failed(error.to_string()))
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the start: only differences count.
    fn now(&self) -> Moment {
        Moment::default().after(self.0.started.elapsed())
    }
}

/// What validation asks by: always with signatures, whatever else it would like to send.
impl DnsHandle for Fleet {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let fleet = self.clone();
        Box::pin(stream::once(async move {
            let question = request.queries.first().ok_or(NetError::Message("request without a question"))?;
            let answer = fleet.ask(question, Seal::Signatures).await;
            answer.map_err(|error| NetError::Msg(error.to_string()))
        }))
    }
}

/// What an answer is worth.
enum Answer {
    Usable,
    /// It says that its server could not find out: another may.
    Unhelpful,
    /// What no resolver that serves us says.
    Wrong(String),
}

fn judge(response: &DnsResponse, question: &Query) -> Answer {
    if !matches!(&response.queries[..], [asked] if asks_the_same(asked, question)) {
        return Answer::Wrong("it answered another question".to_owned());
    }
    let code = response.metadata.response_code;
    if code == ResponseCode::NoError || code == ResponseCode::NXDomain {
        Answer::Usable
    } else if code == ResponseCode::ServFail {
        Answer::Unhelpful
    } else {
        Answer::Wrong(format!("it answered {code}"))
    }
}

fn asks_the_same(one: &Query, other: &Query) -> bool {
    one.name() == other.name()
        && one.query_type() == other.query_type()
        && one.query_class() == other.query_class()
}

/// The most questions that are on their way at one time, over all agents; each UDP question has a
/// socket of its own. 32 agents at their own bound.
const MAX_ATTEMPTS: usize = 8192;
