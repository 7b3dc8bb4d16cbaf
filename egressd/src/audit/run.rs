//! From events to lines: numbers, times, the feed and the log.

use super::{
    alert::{Alert, RecordedAlert},
    change::{Change, RecordedChange},
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
    time::{MissedTickBehavior, interval, sleep},
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
                BATCH.. => scribe.take(&mut events).await,
                _ => {
                    scribe.take(&mut events).await;
                    // Whoever records meanwhile wakes nobody.
                    sleep(GATHER).await;
                }
            },
            () = scribe.counters.alerted() => scribe.take(&mut events).await,
            _ = tick.tick() => scribe.catch_up().await,
        }
    }
    scribe.take(&mut events).await;
    scribe.catch_up().await;
}

/// How long events gather before they are written together, once some were written: to write one by itself
/// wakes three threads, which takes longer than the proxy needs to start a flow. A daemon that is killed takes
/// with it what has gathered.
const GATHER: Duration = Duration::from_millis(10);
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

    /// Writes the changes that wait, and what of `events` and of the alerts that wait is within the share of
    /// its agent, and empties them.
    async fn take(&mut self, events: &mut Vec<Event>) {
        let (now, mut alerts) = (Instant::now(), self.counters.take_alerts());
        let changes = self.counters.take_changes();
        let taken = events.len() + alerts.len() + changes.len();
        // Before any is folded: what a flood does to the log, it does not do to counters.
        self.feed.count(|tally| {
            events.iter().for_each(|event| tally.event(event));
            alerts.iter().for_each(|alert| tally.alert(alert));
        });
        let events: Vec<_> = events.drain(..).filter_map(|event| self.flood.admit(event, now)).collect();
        alerts.retain(|alert| self.flood.admits_alert_of(&alert.agent, now));
        let gaps = self.gaps();
        self.write(&Written { gaps, events, alerts, changes }, taken).await;
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
        self.write(&Written { gaps, events, ..Written::default() }, 0).await;
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

    /// Writes what is `to_write`, and says that `taken` events and alerts are done with.
    async fn write(&mut self, to_write: &Written, taken: usize) {
        let needs_a_look = |log: &Log| log.is_behind() || log.is_elsewhere();
        if to_write.is_empty() && !self.log.as_ref().is_some_and(needs_a_look) {
            self.counters.done(taken);
            return;
        }
        let lines = number(to_write, self.feed.next_seq());
        self.feed.publish(&lines);
        self.counters.done(taken);
        let Some(mut log) = self.log.take() else { return };
        // A disk may stall; the threads that serve agents must not stall with it.
        let written = tokio::task::spawn_blocking(move || {
            log.come_back();
            log.append(&lines);
            log
        });
        match written.await {
            Ok(log) => self.log = Some(log),
            Err(error) => tracing::error!(%error, "failed to write audit log; records go to followers only"),
        }
    }
}

/// What becomes lines at once, in the order of their numbers.
#[derive(Default)]
struct Written {
    gaps: Vec<Loss>,
    events: Vec<Event>,
    alerts: Vec<Alert>,
    changes: Vec<Change>,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.gaps.is_empty() && self.events.is_empty() && self.alerts.is_empty() && self.changes.is_empty()
    }
}

/// A gap before it has its number.
struct Loss {
    at: LostAt,
    lost: u64,
    agent: Option<AgentName>,
}

fn number(to_write: &Written, next_seq: u64) -> Vec<Arc<Line>> {
    let time = Time::now();
    let Written { gaps, events, alerts, changes } = to_write;
    let mut seqs = next_seq..;
    let gap = |(Loss { at, lost, agent }, seq): (&Loss, u64)| {
        let agent = agent.as_ref().map(ToString::to_string);
        Line::Gap(Gap { v: SCHEMA_VERSION, seq, time, lost: *lost, at: *at, agent })
    };
    // In this order `zip` takes no number that it has no line for.
    let mut lines: Vec<Line> = gaps.iter().zip(seqs.by_ref()).map(gap).collect();
    let records = events.iter().zip(seqs.by_ref());
    lines.extend(records.map(|(event, seq)| Line::Record(Record::of(event, seq, time))));
    let alerts = alerts.iter().zip(seqs.by_ref());
    lines.extend(alerts.map(|(alert, seq)| Line::Alert(RecordedAlert::of(alert, seq, time))));
    let changes = changes.iter().zip(seqs);
    lines.extend(changes.map(|(change, seq)| Line::Change(RecordedChange::of(change, seq, time))));
    lines.into_iter().map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Sign;
    use crate::{
        audit::{Gate, Recovered, Spoken},
        policy::{Denial, LeakAction, LeakFlag, Reason},
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

    #[tokio::test(start_paused = true)]
    async fn events_that_come_soon_after_others_are_written_together() {
        let folder = tempfile::tempdir().unwrap();
        let (log, recovered) = Log::open(&folder.path().join("audit.jsonl")).unwrap();
        let feed = Feed::new(recovered);
        let (recorder, queue) = Recorder::new(8);
        let _writer = tokio::spawn(run(queue, recorder.clone(), log, Arc::clone(&feed)));
        recorder.record(denied());
        recorder.settled().await;
        for _ in 0..3 {
            assert_eq!(feed.next_seq(), 2);
            recorder.record(denied());
            tokio::task::yield_now().await;
        }
        recorder.settled().await;
        assert_eq!(feed.next_seq(), 5);
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
        let tally = feed.tally();
        let denials = tally.agents().flat_map(|(_, agent)| agent.denials.values()).sum::<u64>();
        let lines = tally.lines().map(|(_, lines)| lines).sum::<u64>();
        assert_eq!((denials, lines), (10_000, feed.next_seq() - 1));
    }

    #[tokio::test]
    async fn an_alert_is_a_line_of_its_own_and_a_flood_of_them_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let feed = Feed::new(Recovered::default());
        let (recorder, queue) = Recorder::new(8);
        let task = tokio::spawn(run(queue, recorder.clone(), Log::open(&path).unwrap().0, Arc::clone(&feed)));
        recorder.record(denied());
        recorder.alert(alert("build"));
        recorder.settled().await;
        assert_eq!(feed.next_seq(), 3, "no tick has to pass for it");
        for _ in 0..2000 {
            recorder.alert(alert("flooder"));
        }
        recorder.alert(alert("other"));
        drop(recorder);
        task.await.unwrap();
        let lines = read(&path);
        let of = |agent: &str| {
            let is_of = |line: &&Line| matches!(line, Line::Alert(alert) if alert.agent == agent);
            lines.iter().filter(is_of).count() as u64
        };
        let lost = lines.iter().map(|line| if let Line::Gap(gap) = line { gap.lost } else { 0 }).sum::<u64>();
        assert_eq!((of("build"), of("flooder") + of("other") + lost), (1, 2001), "none is lost uncounted");
        assert!(of("flooder") < 200, "one agent fills no log: {}", of("flooder"));
    }

    fn alert(agent: &str) -> Alert {
        Alert {
            agent: AgentName::parse(agent).unwrap(),
            sign: Sign::Leak(LeakFlag::ManyNames, LeakAction::Freeze),
            zone: None,
            rule: None,
            evidence: "32 names".to_owned(),
        }
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
