//! The way from the edges to the log.

use super::event::Event;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{
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
}

impl Recorder {
    /// A recorder and the queue that it fills. `capacity` events wait at the most; what comes on
    /// top is counted as lost.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Receiver<Event>) {
        let (queue, receiver) = channel(capacity);
        (Self { queue, counters: Arc::default() }, receiver)
    }

    /// Hands `event` to the log and the feed, or counts it as lost when they lag behind.
    pub fn record(&self, event: Event) {
        match self.queue.try_send(event) {
            Ok(()) => {
                self.counters.sent.fetch_add(1, Ordering::Release);
            }
            Err(TrySendError::Full(event) | TrySendError::Closed(event)) => self.lose(event.count),
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

/// Counts of events since the recorder was made.
#[derive(Debug, Default)]
pub(super) struct Counters {
    lost: AtomicU64,
    sent: AtomicU64,
    done: watch::Sender<u64>,
}

impl Counters {
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Says that so many more events reached the feed, or were folded.
    pub fn done(&self, events: usize) {
        self.done.send_modify(|done| *done += events as u64);
    }
}
