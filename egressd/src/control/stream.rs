//! The stream of records: what is there, then what comes.

use super::protocol::{FeedState, Frame, RecordsRequest, VERSION};
use crate::audit::{Batch, Feed, Filter, Follower, Line, Verdicts, encode_line};
use axum::body::Bytes;
use futures_util::{Stream, stream::unfold};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The frames that answer `request`, each a line of JSON.
pub fn stream(
    feed: &Arc<Feed>,
    request: RecordsRequest,
) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let (opening, tail) = open(feed, request);
    let state = (Some(opening), tail);
    unfold(state, |(opening, mut tail)| async move {
        let bytes = match opening {
            Some(opening) => opening,
            None => tail.as_mut()?.next().await?,
        };
        Some((Ok(Bytes::from(bytes)), (None, tail)))
    })
}

/// Silence after which a follower is told that the daemon still lives.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// What is there already, and the follower of what comes, where it is asked for.
fn open(feed: &Arc<Feed>, request: RecordsRequest) -> (Vec<u8>, Option<Tail>) {
    let end = feed.next_seq();
    let from = request.after_seq.map(|seq| seq.saturating_add(1)).filter(|from| *from <= end);
    let (follow, last) = (request.follow, request.last);
    let follower = feed.follow(from.unwrap_or(0));
    let mut tail = Tail { filter: filter(request), feed: Arc::clone(feed), follower };

    let mut out = encode_line(&Frame::Feed { v: VERSION, feed: state(feed) });
    let mut lines = Vec::new();
    while tail.follower.position() < end {
        let batch = tail.follower.read();
        if from.is_some() {
            out.extend(missed(batch.missed));
        }
        lines.extend(batch.lines.into_iter().filter(|line| tail.filter.passes(line)));
    }
    let skipped = last.map_or(0, |last| lines.len().saturating_sub(last));
    out.extend(lines.iter().skip(skipped).flat_map(|line| encode_line(line.as_ref())));
    (out, follow.then_some(tail))
}

struct Tail {
    filter: Filter,
    feed: Arc<Feed>,
    follower: Follower,
}

impl Tail {
    /// The next frames; None when the daemon ends.
    async fn next(&mut self) -> Option<Vec<u8>> {
        match timeout(HEARTBEAT, self.shown()).await {
            Ok(frames) => frames,
            Err(_) => {
                let state = FeedState { next_seq: self.follower.position(), ..state(&self.feed) };
                Some(encode_line(&Frame::Heartbeat { v: VERSION, heartbeat: state }))
            }
        }
    }

    /// Waits for lines that pass the filter. Cancelling skips only lines that do not.
    async fn shown(&mut self) -> Option<Vec<u8>> {
        loop {
            let Batch { missed: lines_missed, lines } = self.follower.next().await?;
            let mut out = missed(lines_missed);
            let is_shown = |line: &&Arc<Line>| self.filter.passes(line);
            out.extend(lines.iter().filter(is_shown).flat_map(|line| encode_line(line.as_ref())));
            if !out.is_empty() {
                return Some(out);
            }
        }
    }
}

fn filter(request: RecordsRequest) -> Filter {
    let RecordsRequest { agent, reason, process, since, all, after_seq: _, last: _, follow: _ } = request;
    let verdicts = if all { Verdicts::All } else { Verdicts::Denied };
    Filter { verdicts, agent, reason, process, since }
}

fn missed(lines: u64) -> Vec<u8> {
    if lines == 0 {
        return Vec::new();
    }
    encode_line(&Frame::Missed { v: VERSION, missed: lines })
}

fn state(feed: &Feed) -> FeedState {
    FeedState { first_seq: feed.first_seq(), next_seq: feed.next_seq() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Recovered;
    use futures_util::StreamExt;

    #[tokio::test(start_paused = true)]
    async fn a_follower_of_a_quiet_feed_is_told_that_the_daemon_lives() {
        let feed = Feed::new(Recovered { next_seq: 5, ..Recovered::default() });
        let request = RecordsRequest { follow: true, ..RecordsRequest::default() };
        let mut frames = Box::pin(stream(&feed, request));
        let mut next = async || {
            let Ok(bytes) = frames.next().await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(next().await, "{\"v\":1,\"feed\":{\"first_seq\":5,\"next_seq\":5}}\n");
        assert_eq!(next().await, "{\"v\":1,\"heartbeat\":{\"first_seq\":5,\"next_seq\":5}}\n");
        feed.close();
        assert!(frames.next().await.is_none());
    }
}
