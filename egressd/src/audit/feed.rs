//! The last lines of the audit log in memory, and those who follow them.

use super::{event::Verdict, record::Line, recover::Recovered, tally::Tally, time::Time};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The last [`RING`] lines. Followers read at their own pace; one that falls behind the ring is
/// told how many lines it missed.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    tally: Mutex<Tally>,
    /// The number of the next line; followers wait for it to change. None ends them.
    next: watch::Sender<Option<u64>>,
}

impl Feed {
    /// A feed that goes on where the log ends.
    #[must_use]
    pub fn new(recovered: Recovered) -> Arc<Self> {
        let mut ring = Ring { next_seq: recovered.next_seq, ..Ring::default() };
        let surplus = recovered.lines.len().saturating_sub(RING);
        ring.lines.extend(recovered.lines.into_iter().skip(surplus).map(Arc::new));
        let next = watch::Sender::new(Some(ring.next_seq));
        Arc::new(Self { ring: Mutex::new(ring), tally: Mutex::default(), next })
    }

    /// Adds `lines`, which are numbered from [`Feed::next_seq`] on without a hole.
    pub fn publish(&self, lines: &[Arc<Line>]) {
        self.count(|tally| lines.iter().for_each(|line| tally.line(line)));
        let next_seq = {
            let mut ring = self.ring();
            for line in lines {
                ring.push(Arc::clone(line));
            }
            ring.next_seq
        };
        self.next.send_if_modified(|next| match next {
            Some(seq) => std::mem::replace(seq, next_seq) != next_seq,
            None => false,
        });
    }

    /// The number of the next line.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.ring().next_seq
    }

    /// The number of the oldest line that is held.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.ring().first_seq()
    }

    /// How many flows were allowed and denied since the daemon started.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.ring().totals
    }

    /// The same for `agent`, since it started.
    #[must_use]
    pub fn totals_of(&self, agent: &str) -> Totals {
        self.ring().agents.get(agent).copied().unwrap_or_default()
    }

    /// Forgets the totals of an agent that has ended.
    pub fn forget(&self, agent: &str) {
        self.ring().agents.remove(agent);
        self.count(|tally| tally.end(agent));
    }

    /// What was counted since the daemon started.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has something counted.
    pub(super) fn count(&self, act: impl FnOnce(&mut Tally)) {
        act(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Follows the feed from the line numbered `from`; its first batch is there at once.
    #[must_use]
    pub fn follow(self: &Arc<Self>, from: u64) -> Follower {
        Follower { feed: Arc::clone(self), from, next: self.next.subscribe() }
    }

    /// Ends all followers, once they have read what there is.
    pub fn close(&self) {
        self.next.send_replace(None);
    }

    // Lines are pushed whole, so that a panic while the lock was held leaves nothing half done.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader of the feed.
#[derive(Debug)]
pub struct Follower {
    feed: Arc<Feed>,
    /// The number of the line to read next.
    from: u64,
    next: watch::Receiver<Option<u64>>,
}

impl Follower {
    /// Waits for lines. None when the feed was closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Batch> {
        loop {
            let is_open = self.next.borrow_and_update().is_some();
            let batch = self.read();
            if batch.missed > 0 || !batch.lines.is_empty() {
                return Some(batch);
            }
            if !is_open || self.next.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The next lines that are there already, at most [`BATCH`] of them.
    pub fn read(&mut self) -> Batch {
        let ring = self.feed.ring();
        let missed = ring.first_seq().saturating_sub(self.from);
        let start = ring.lines.partition_point(|line| line.seq() < self.from);
        let lines: Vec<_> = ring.lines.iter().skip(start).take(BATCH).map(Arc::clone).collect();
        self.from = lines.last().map_or(self.from + missed, |line| line.seq() + 1);
        Batch { missed, lines }
    }

    /// The number of the line that is read next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.from
    }
}

/// What a follower reads at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Lines that left the ring before they could be read, before `lines`.
    pub missed: u64,
    pub lines: Vec<Arc<Line>>,
}

/// Counters of flows; an aggregated record counts as many flows as it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub allowed: u64,
    pub denied: u64,
    /// When the last one was denied.
    pub last_denied: Option<Time>,
}

impl Totals {
    fn count(&mut self, verdict: Verdict, flows: u64, time: Time) {
        match verdict {
            Verdict::Allow => self.allowed = self.allowed.saturating_add(flows),
            Verdict::Deny => {
                self.denied = self.denied.saturating_add(flows);
                self.last_denied = Some(time);
            }
        }
    }
}

/// Lines that the feed holds: at most 2 KiB each, 32 MiB in all, and hours of a normal day.
pub const RING: usize = 16_384;
/// Lines that a follower takes at once, so that the ring is never locked for long.
const BATCH: usize = 256;
/// Agents that are counted one by one; more than run on one host at once.
const MAX_AGENTS: usize = 4096;

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<Line>>,
    next_seq: u64,
    totals: Totals,
    agents: HashMap<String, Totals>,
}

impl Ring {
    fn first_seq(&self) -> u64 {
        self.lines.front().map_or(self.next_seq, |line| line.seq())
    }

    fn push(&mut self, line: Arc<Line>) {
        if self.lines.len() == RING {
            self.lines.pop_front();
        }
        self.next_seq = line.seq() + 1;
        self.count(&line);
        self.lines.push_back(line);
    }

    fn count(&mut self, line: &Line) {
        let record = match line {
            Line::Record(record) => record,
            Line::Gap(_) | Line::Alert(_) | Line::Change(_) => return,
        };
        self.totals.count(record.verdict, record.count, record.time);
        if let Some(totals) = self.agents.get_mut(&record.agent) {
            totals.count(record.verdict, record.count, record.time);
        } else if self.agents.len() < MAX_AGENTS {
            let totals = self.agents.entry(record.agent.clone()).or_default();
            totals.count(record.verdict, record.count, record.time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Gap, LostAt, SCHEMA_VERSION};

    #[tokio::test]
    async fn a_follower_reads_what_is_there_and_then_what_comes() {
        let feed = Feed::new(Recovered::default());
        feed.publish(&lines(1..=2));
        let mut follower = feed.follow(1);
        assert_eq!(seqs(&follower.next().await.unwrap()), [1, 2]);
        let waiting = tokio::spawn(async move { follower.next().await });
        feed.publish(&lines(3..=3));
        assert_eq!(seqs(&waiting.await.unwrap().unwrap()), [3]);
    }

    #[tokio::test]
    async fn a_follower_that_lags_is_told_how_many_lines_it_missed() {
        let feed = Feed::new(Recovered::default());
        let mut follower = feed.follow(1);
        feed.publish(&lines(1..=RING as u64 + 10));
        let batch = follower.next().await.unwrap();
        assert_eq!((batch.missed, seqs(&batch)[0], batch.lines.len()), (10, 11, BATCH));
        assert_eq!(follower.next().await.unwrap().missed, 0, "a gap is told once");
    }

    #[tokio::test]
    async fn a_closed_feed_ends_its_followers_after_the_last_line() {
        let feed = Feed::new(Recovered::default());
        let mut follower = feed.follow(1);
        feed.publish(&lines(1..=1));
        feed.close();
        assert_eq!(seqs(&follower.next().await.unwrap()), [1]);
        assert!(follower.next().await.is_none());
    }

    #[test]
    fn a_feed_goes_on_where_the_log_ends() {
        let held = lines(8..=9).iter().map(|line| Line::clone(line)).collect();
        let feed = Feed::new(Recovered { lines: held, next_seq: 10, ..Recovered::default() });
        assert_eq!((feed.first_seq(), feed.next_seq()), (8, 10));
        assert_eq!(feed.follow(5).read().missed, 3);
    }

    fn lines(seqs: std::ops::RangeInclusive<u64>) -> Vec<Arc<Line>> {
        let gap =
            |seq| Gap { v: SCHEMA_VERSION, seq, time: Time::now(), lost: 1, at: LostAt::Queue, agent: None };
        seqs.map(|seq| Arc::new(Line::Gap(gap(seq)))).collect()
    }

    fn seqs(batch: &Batch) -> Vec<u64> {
        batch.lines.iter().map(|line| line.seq()).collect()
    }
}
