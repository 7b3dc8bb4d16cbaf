//! The way from the edges to the log.

use super::{alert::Alert, change::Change, event::Event};
use crate::policy::{AgentName, Revision};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{
        Notify,
        mpsc::{Receiver, Sender, channel, error::TrySendError},
        watch,
    },
    time::timeout,
};

/// Takes events from the edges, without ever making them wait. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: Sender<Event>,
    counters: Arc<Counters>,
    revisions: Arc<ArcSwap<HashMap<AgentName, Revision>>>,
}

impl Recorder {
    /// A recorder and the queue that it fills. `capacity` events wait at the most; what comes on
    /// top is counted as lost.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Receiver<Event>) {
        let (queue, receiver) = channel(capacity);
        (Self { queue, counters: Arc::default(), revisions: Arc::default() }, receiver)
    }

    /// Hands `event` to the log and the feed, or counts it as lost when they lag behind.
    pub fn record(&self, mut event: Event) {
        // What a human lent, and the allowlists of this host, stand beside the policy of the revision.
        let of_rule = event.rule.as_ref().and_then(|rule| rule.file.revision().cloned());
        event.revision = of_rule.or_else(|| self.revision_of(&event.agent));
        match self.queue.try_send(event) {
            Ok(()) => {
                self.counters.sent.fetch_add(1, Ordering::Release);
            }
            Err(TrySendError::Full(event) | TrySendError::Closed(event)) => self.lose(event.count),
        }
    }

    /// Says which commit the policy of `agent` is of: what stamps events whose rule is of none. None where it is not
    /// from git, and when the agent ends.
    pub fn judge_by(&self, agent: &AgentName, revision: Option<Revision>) {
        self.revisions.rcu(|before| {
            let mut revisions = HashMap::clone(before);
            match &revision {
                Some(revision) => revisions.insert(agent.clone(), revision.clone()),
                None => revisions.remove(agent),
            };
            revisions
        });
    }

    /// What [`Self::judge_by`] was told last.
    #[must_use]
    pub fn revision_of(&self, agent: &AgentName) -> Option<Revision> {
        self.revisions.load().get(agent).cloned()
    }

    /// The same for an alert, for which there is room of its own, so that no flood of flows hides it.
    pub fn alert(&self, alert: Alert) {
        let pushed = if self.queue.is_closed() { Err(Full) } else { self.counters.push(alert) };
        match pushed {
            Ok(()) => {
                self.counters.sent.fetch_add(1, Ordering::Release);
                self.counters.alerted.notify_one();
            }
            Err(Full) => self.lose(1),
        }
    }

    /// The same for a change, for which there is room of its own, too.
    pub fn change(&self, change: Change) {
        let pushed = if self.queue.is_closed() { Err(Full) } else { self.counters.push_change(change) };
        match pushed {
            Ok(()) => {
                self.counters.sent.fetch_add(1, Ordering::Release);
                self.counters.alerted.notify_one();
            }
            Err(Full) => self.lose(1),
        }
    }

    /// Counts `events` that were lost before they could be recorded, as when the kernel's ring
    /// buffer was full.
    pub fn lose(&self, events: u64) {
        self.counters.lost.fetch_add(events, Ordering::Relaxed);
    }

    /// How many events were lost since the recorder was made.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
    }

    /// Waits until followers can see what was recorded before this call, for at most a second: a
    /// flood is folded for as long.
    pub async fn settled(&self) {
        let sent = self.counters.sent.load(Ordering::Acquire);
        let mut done = self.counters.done.subscribe();
        // Neither can fail: the counters that we hold keep the sender. Late is as good as never.
        let _ = timeout(Duration::from_secs(1), done.wait_for(|done| *done >= sent)).await;
    }

    /// The counters alone: whoever empties the queue must not keep it open.
    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

/// Alerts that wait at the most. They are taken at once; this many come only from many agents together.
const MAX_ALERTS: usize = 1024;

/// Changes that wait at the most. People make them one by one, and what ends ends with its agent's others.
const MAX_CHANGES: usize = 1024;

/// As many as may wait do already, or nobody takes them any more.
struct Full;

/// Counts of events since the recorder was made, and the alerts and changes among them that wait.
#[derive(Debug, Default)]
pub(super) struct Counters {
    alerts: Mutex<Vec<Alert>>,
    changes: Mutex<Vec<Change>>,
    /// Of alerts and changes.
    alerted: Notify,
    lost: AtomicU64,
    sent: AtomicU64,
    done: watch::Sender<u64>,
}

impl Counters {
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits for an alert or a change. Cancelling loses nothing.
    pub async fn alerted(&self) {
        self.alerted.notified().await;
    }

    /// The alerts that wait, oldest first.
    pub fn take_alerts(&self) -> Vec<Alert> {
        std::mem::take(&mut *self.alerts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The changes that wait, oldest first.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push_change(&self, change: Change) -> Result<(), Full> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() >= MAX_CHANGES {
            return Err(Full);
        }
        changes.push(change);
        Ok(())
    }

    fn push(&self, alert: Alert) -> Result<(), Full> {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if alerts.len() >= MAX_ALERTS {
            return Err(Full);
        }
        alerts.push(alert);
        Ok(())
    }

    /// Says that so many more events reached the feed, or were folded.
    pub fn done(&self, events: usize) {
        self.done.send_modify(|done| *done += events as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Gate, Spoken},
        policy::{Denial, Reason, Source, SourceFile},
    };

    #[test]
    fn an_event_is_stamped_with_the_revision_of_its_rule_else_of_its_agent() {
        let (recorder, mut queue) = Recorder::new(8);
        let [old, new] = ["a", "b"].map(|digit| Revision::parse(&digit.repeat(40)));
        let agent = AgentName::parse("build").unwrap();
        let mut stamped = |rule: Option<Source>| {
            let denial = Denial { reason: Reason::HostNotAllowed, rule };
            recorder.record(Event::denied(&agent, Gate::Name, Spoken::Dns, &denial));
            queue.try_recv().unwrap().revision
        };
        assert_eq!(stamped(None), None);
        recorder.judge_by(&agent, new.clone());
        assert_eq!(stamped(None), new);
        let of = |revision| Some(Source { file: SourceFile::new("a.yaml", revision), line: 1 });
        assert_eq!(stamped(of(old.clone())), old, "judged before the policy was replaced");
        assert_eq!(stamped(of(None)), new, "a rule of this host stands beside the policy");
        recorder.judge_by(&agent, None);
        assert_eq!(stamped(None), None);
    }
}
