//! From events to lines: numbers, times, the feed and the log.

use super::{
    event::Event,
    feed::Feed,
    flood::Flood,
    log::Log,
    record::{Gap, Line, LostAt, Record, SCHEMA_VERSION},
    recorder::{Counters, Recorder},
    time::Time,
};
use crate::policy::AgentName;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::mpsc::Receiver,
    time::{MissedTickBehavior, interval},
};

/// Turns what comes through `queue` into lines of `feed` and `log`, until every [`Recorder`] of
/// that queue is gone and the queue is empty.
///
/// Cancelling loses the events in the queue; end it by dropping the recorders.
pub async fn run(mut queue: Receiver<Event>, recorder: Recorder, log: Log, feed: Arc<Feed>) {
    let mut scribe = Scribe::new(&recorder, log, feed);
    drop(recorder);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = queue.recv_many(&mut events, BATCH) => match received {
                0 => break,
                _ => scribe.take(&mut events).await,
            },
            _ = tick.tick() => scribe.catch_up().await,
        }
    }
    scribe.catch_up().await;
}

/// How long a gap, a folded event, or a line that could not be written waits at the most.
const TICK: Duration = Duration::from_secs(1);
/// Events that are written at once, so that a flood costs one system call for many.
const BATCH: usize = 256;

struct Scribe {
    counters: Arc<Counters>,
    lost_told: u64,
    flood: Flood,
    /// None only after the thread that wrote it panicked.
    log: Option<Log>,
    feed: Arc<Feed>,
}

impl Scribe {
    fn new(recorder: &Recorder, log: Log, feed: Arc<Feed>) -> Self {
        let counters = recorder.counters();
        Self { counters, lost_told: 0, flood: Flood::default(), log: Some(log), feed }
    }

    /// Writes what of `events` is within the share of its agent, and empties them.
    async fn take(&mut self, events: &mut Vec<Event>) {
        let (now, taken) = (Instant::now(), events.len());
        let events: Vec<_> = events.drain(..).filter_map(|event| self.flood.admit(event, now)).collect();
        let gaps = self.gaps();
        self.write(&events, gaps, taken).await;
    }

    /// Writes what was put off.
    async fn catch_up(&mut self) {
        let (events, floods) = self.flood.release(Instant::now());
        let mut gaps = self.gaps();
        gaps.extend(floods.into_iter().map(|(agent, lost)| Loss {
            at: LostAt::Flood,
            lost,
            agent: Some(agent),
        }));
        self.write(&events, gaps, 0).await;
    }

    /// What was lost since the last call.
    fn gaps(&mut self) -> Vec<Loss> {
        let lost = self.counters.lost();
        let lost_now = lost.saturating_sub(std::mem::replace(&mut self.lost_told, lost));
        let (torn, dropped) = match &mut self.log {
            Some(log) => (u64::from(log.take_torn()), log.take_dropped()),
            None => (0, 0),
        };
        let losses = [(LostAt::Torn, torn), (LostAt::Queue, lost_now), (LostAt::Log, dropped)];
        let some = losses.into_iter().filter(|(_, lost)| *lost > 0);
        some.map(|(at, lost)| Loss { at, lost, agent: None }).collect()
    }

    /// Writes `events` and `gaps`, and says that `taken` events are done with.
    async fn write(&mut self, events: &[Event], gaps: Vec<Loss>, taken: usize) {
        if events.is_empty() && gaps.is_empty() && !self.log.as_ref().is_some_and(Log::is_behind) {
            self.counters.done(taken);
            return;
        }
        let lines = number(events, gaps, self.feed.next_seq());
        self.feed.publish(&lines);
        self.counters.done(taken);
        let Some(mut log) = self.log.take() else { return };
        // A disk may stall; the threads that serve agents must not stall with it.
        let written = tokio::task::spawn_blocking(move || {
            log.append(&lines);
            log
        });
        match written.await {
            Ok(log) => self.log = Some(log),
            Err(error) => tracing::error!(%error, "failed to write audit log; records go to followers only"),
        }
    }
}

/// A gap before it has its number.
struct Loss {
    at: LostAt,
    lost: u64,
    agent: Option<AgentName>,
}

fn number(events: &[Event], gaps: Vec<Loss>, next_seq: u64) -> Vec<Arc<Line>> {
    let time = Time::now();
    let mut lines = Vec::with_capacity(gaps.len() + events.len());
    for (Loss { at, lost, agent }, seq) in gaps.into_iter().zip(next_seq..) {
        let agent = agent.map(|agent| agent.to_string());
        lines.push(Arc::new(Line::Gap(Gap { v: SCHEMA_VERSION, seq, time, lost, at, agent })));
    }
    let first_event = next_seq + lines.len() as u64;
    let records = events.iter().zip(first_event..);
    lines.extend(records.map(|(event, seq)| Arc::new(Line::Record(Record::of(event, seq, time)))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Gate, Recovered, Spoken},
        policy::{Denial, Reason},
    };

    #[tokio::test]
    async fn events_reach_the_feed_and_the_log_with_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let feed = Feed::new(Recovered::default());
        let (recorder, queue) = Recorder::new(8);
        let task = tokio::spawn(run(queue, recorder.clone(), Log::open(&path).unwrap().0, Arc::clone(&feed)));
        recorder.record(denied());
        recorder.record(denied());
        recorder.settled().await;
        assert_eq!(feed.next_seq(), 3);
        drop(recorder);
        task.await.unwrap();
        let logged: Vec<Line> = read(&path);
        assert_eq!(logged.iter().map(Line::seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(feed.follow(1).read().lines.len(), 2);
        assert_eq!(feed.totals_of("build").denied, 2);
    }

    #[tokio::test]
    async fn what_the_queue_could_not_hold_is_a_gap_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"v\":1").unwrap();
        let (log, recovered) = Log::open(&path).unwrap();
        let feed = Feed::new(recovered);
        let (recorder, queue) = Recorder::new(1);
        for _ in 0..4 {
            recorder.record(denied());
        }
        let clone = recorder.clone();
        drop(recorder);
        run(queue, clone, log, feed).await;
        let lines = read(&path);
        assert!(matches!(&lines[0], Line::Gap(gap) if gap.at == LostAt::Torn && gap.lost == 1), "{lines:?}");
        assert!(matches!(&lines[1], Line::Gap(gap) if gap.at == LostAt::Queue && gap.lost == 3), "{lines:?}");
        assert!(matches!(&lines[2], Line::Record(record) if record.seq == 4), "{lines:?}");
    }

    #[tokio::test]
    async fn a_flood_of_one_agent_is_counted_to_the_last_event() {
        let folder = tempfile::tempdir().unwrap();
        let (log, recovered) = Log::open(&folder.path().join("audit.jsonl")).unwrap();
        let feed = Feed::new(recovered);
        let (recorder, queue) = Recorder::new(10_000);
        for _ in 0..10_000 {
            recorder.record(denied());
        }
        let clone = recorder.clone();
        drop(recorder);
        run(queue, clone, log, Arc::clone(&feed)).await;
        assert_eq!(feed.totals_of("build").denied, 10_000);
        assert!(feed.next_seq() < 3000, "most were folded");
    }

    fn denied() -> Event {
        let agent = AgentName::parse("build").unwrap();
        Event::denied(&agent, Gate::Address, Spoken::Ip(17), &Denial::because(Reason::AddressNotGranted))
    }

    fn read(path: &std::path::Path) -> Vec<Line> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
