//! Carries bytes both ways until both sides are done.

use super::{
    flows::LiveFlow,
    purse::Purse,
    splice::{Burst, burst},
    wire::{AgentStream, Reader, UpstreamStream},
};
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::tcp::WriteHalf,
    time::{Instant, sleep_until},
};

/// Relays until both sides have finished. What was read before is sent first.
///
/// One side's end is passed on and the other may go on sending. An error, silence for longer than
/// [`IDLE`], or the end of the flow's leave resets both.
pub async fn relay(mut agent: AgentStream, mut upstream: UpstreamStream, flow: &LiveFlow) {
    let activity = Activity::start();
    upstream.0.count_as(&agent.0);
    let outcome = {
        let (from_agent, to_agent) = agent.0.split();
        let (from_upstream, to_upstream) = upstream.0.split();
        let both = async {
            tokio::try_join!(
                pump(from_agent, to_upstream, &activity, Some(flow.purse())),
                pump(from_upstream, to_agent, &activity, None)
            )
        };
        tokio::select! {
            outcome = both => outcome.map(|_| ()),
            () = flow.cut() => Err(io::ErrorKind::PermissionDenied.into()),
            () = activity.silence() => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    if outcome.is_err() {
        agent.0.reset();
        upstream.0.reset();
    }
}

/// How long a flow may be silent. Long polls and streams of events are meant to live; sockets
/// whose other side has vanished are not.
pub const IDLE: Duration = Duration::from_secs(15 * 60);

/// When bytes last moved, in either direction, and whether one of them has ended.
#[derive(Debug)]
pub struct Activity {
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
    has_end: AtomicBool,
}

impl Activity {
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), has_end: AtomicBool::new(false) }
    }

    pub fn note(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for [`IDLE`].
    pub async fn silence(&self) {
        loop {
            let end = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + IDLE;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// One direction: reads only after what was read before is written, so that a slow reader slows
/// the writer down and never fills our memory. What `purse` cannot pay for is not written.
async fn pump(
    mut from: Reader<'_>,
    mut to: WriteHalf<'_>,
    activity: &Activity,
    purse: Option<&Purse>,
) -> io::Result<()> {
    let mut copied = 0;
    loop {
        let length = from.buffer().len();
        if length > 0 {
            let paid = purse.map_or(Ok(length), |purse| purse.pay_some(length))?;
            to.write_all(&from.buffer()[..paid]).await?;
            from.consume(paid);
            copied += paid;
            activity.note();
            if paid < length {
                continue;
            }
        }
        if copied >= SPLICE_AFTER {
            from.readable().await?;
            if let Some(loan) = from.pipe() {
                match burst(loan, from.tcp(), to.as_ref(), activity, purse).await? {
                    Burst::End => return end(to, activity).await,
                    Burst::Quiet(moved) => copied = if moved < SPLICE_AFTER { 0 } else { copied },
                }
                continue;
            }
        }
        if from.fill().await? == 0 {
            return end(to, activity).await;
        }
    }
}

/// Passes an end on. Behind the second one both sockets are closed, which says so too.
async fn end(mut to: WriteHalf<'_>, activity: &Activity) -> io::Result<()> {
    match activity.has_end.swap(true, Ordering::Relaxed) {
        false => to.shutdown().await,
        true => Ok(()),
    }
}

/// How many octets one direction copies before the kernel moves them by itself, and how many it must
/// then move before it runs dry for that to go on: below, two more system calls cost more than copying.
pub const SPLICE_AFTER: usize = 32 * 1024;
