//! From events to lines: numbers, times, the feed and the log.

use super::{
    event::{Event, Recorder},
    feed::Feed,
    log::Log,
    record::{Gap, Line, LostAt, Record, SCHEMA_VERSION, Time},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::Receiver,
    time::{MissedTickBehavior, interval},
};

/// Turns what comes through `queue` into lines of `feed` and `log`, until every [`Recorder`] of
/// that queue is gone and the queue is empty.
///
/// Cancelling loses the events in the queue; end it by dropping the recorders.
pub async fn run(mut queue: Receiver<Event>, recorder: Recorder, mut log: Log, feed: Arc<Feed>) {
    let torn = log.take_torn();
    let mut scribe = Scribe::new(&recorder, log, feed);
    drop(recorder);
    if torn {
        scribe.write(Vec::new(), &[(LostAt::Torn, 1)]).await;
    }
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            received = queue.recv_many(&mut events, BATCH) => if received == 0 { break },
            _ = tick.tick() => {}
        }
        scribe.take(&mut events).await;
    }
    scribe.take(&mut Vec::new()).await;
}

/// How long a gap, or a line that could not be written, waits at the most for its next attempt.
const TICK: Duration = Duration::from_secs(1);
/// Events that are written at once, so that a flood costs one system call for many.
const BATCH: usize = 256;

struct Scribe {
    lost: Arc<AtomicU64>,
    lost_told: u64,
    /// None only after the thread that wrote it panicked.
    log: Option<Log>,
    feed: Arc<Feed>,
}

impl Scribe {
    fn new(recorder: &Recorder, log: Log, feed: Arc<Feed>) -> Self {
        Self { lost: recorder.lost_counter(), lost_told: 0, log: Some(log), feed }
    }

    /// Writes `events`, which are emptied, and what was lost since the last call.
    async fn take(&mut self, events: &mut Vec<Event>) {
        let lost = self.lost.load(Ordering::Relaxed);
        let lost_now = lost.saturating_sub(std::mem::replace(&mut self.lost_told, lost));
        let dropped = self.log.as_mut().map_or(0, Log::take_dropped);
        let is_behind = self.log.as_ref().is_some_and(Log::is_behind);
        if lost_now == 0 && dropped == 0 && events.is_empty() && !is_behind {
            return;
        }
        let gaps = [(LostAt::Queue, lost_now), (LostAt::Log, dropped)];
        self.write(std::mem::take(events), &gaps).await;
    }

    async fn write(&mut self, events: Vec<Event>, gaps: &[(LostAt, u64)]) {
        let lines = number(&events, gaps, self.feed.next_seq());
        self.feed.publish(&lines);
        let Some(mut log) = self.log.take() else { return };
        // A disk may stall; the threads that serve agents must not stall with it.
        let written = tokio::task::spawn_blocking(move || {
            log.append(&lines);
            log
        });
        match written.await {
            Ok(log) => self.log = Some(log),
            Err(error) => tracing::error!(%error, "audit log is no longer written"),
        }
    }
}

fn number(events: &[Event], gaps: &[(LostAt, u64)], next_seq: u64) -> Vec<Arc<Line>> {
    let time = Time::now();
    let gap =
        |&(at, lost): &(LostAt, u64)| move |seq| Line::Gap(Gap { v: SCHEMA_VERSION, seq, time, lost, at });
    let gaps = gaps.iter().filter(|(_, lost)| *lost > 0).map(gap);
    let mut lines: Vec<_> = gaps.zip(next_seq..).map(|(line, seq)| Arc::new(line(seq))).collect();
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
        policy::{AgentName, Denial, Reason},
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

    fn denied() -> Event {
        let agent = AgentName::parse("build").unwrap();
        Event::denied(&agent, Gate::Address, Spoken::Ip(17), &Denial::because(Reason::AddressNotGranted))
    }

    fn read(path: &std::path::Path) -> Vec<Line> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}
