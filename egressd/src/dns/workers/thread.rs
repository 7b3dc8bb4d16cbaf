//! One thread: who it serves, and what it does in a turn.

use super::{
    batch::{Batch, MAX_MESSAGES},
    seat::{Query, Seat},
};
use crate::{dns::hot::Hot, policy::Agent};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use std::{
    collections::{HashMap, HashSet},
    io,
    net::UdpSocket,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc::Receiver;

/// What a thread and those who give it work share.
pub struct Desk {
    number: usize,
    epoll: Epoll,
    bell: EventFd,
    is_over: AtomicBool,
    next_token: AtomicU64,
    seats: Mutex<HashMap<u64, Arc<Seat>>>,
}

impl Desk {
    pub fn new(number: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self {
            number,
            epoll,
            bell,
            is_over: AtomicBool::new(false),
            next_token: AtomicU64::new(BELL + 1),
            seats: Mutex::default(),
        })
    }

    pub fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    pub fn seat(
        &self,
        agent: Arc<Agent>,
        hot: Arc<Hot>,
        socket: UdpSocket,
    ) -> io::Result<(Arc<Seat>, Receiver<Query>)> {
        socket.set_nonblocking(true)?;
        let token = self.next_token.fetch_add(1, Ordering::Relaxed);
        let (seat, queries) = Seat::new(agent, hot, token, socket);
        self.seats().insert(token, Arc::clone(&seat));
        let added = seat.with(|socket| self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token)));
        if let Some(Err(error)) = added {
            self.leave(&seat);
            return Err(error.into());
        }
        Ok((seat, queries))
    }

    /// Serves `seat` no longer.
    pub fn leave(&self, seat: &Seat) {
        self.seats().remove(&seat.token);
        seat.close(&self.epoll);
    }

    /// Records what was answered and is not recorded yet.
    pub fn record(&self) {
        let seats: Vec<_> = self.seats().values().cloned().collect();
        seats.iter().for_each(|seat| seat.hot.record());
    }

    /// Ends the thread after its turn.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
        if let Err(error) = self.bell.write(1) {
            tracing::warn!(%error, "failed to wake a dns thread");
        }
    }

    /// What the thread does, until [`Self::stop`].
    pub fn serve(&self) {
        let mut turn =
            Turn { desk: self, batch: Batch::new(), owing: Owing::default(), crowd: Crowd::default() };
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        while !self.is_over.load(Ordering::Acquire) {
            let ready = match self.epoll.wait(&mut events, turn.owing.timeout()) {
                Ok(count) => &events[..count],
                Err(nix::errno::Errno::EINTR) => &[],
                Err(error) => {
                    tracing::error!(%error, "failed to wait for dns queries");
                    std::thread::sleep(REST);
                    &[]
                }
            };
            for event in ready {
                turn.take(event.data());
            }
            turn.owing.record(self);
        }
    }

    fn seat_of(&self, token: u64) -> Option<Arc<Seat>> {
        self.seats().get(&token).cloned()
    }

    // Entries are inserted and removed whole.
    fn seats(&self) -> MutexGuard<'_, HashMap<u64, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread holds while it serves.
struct Turn<'a> {
    desk: &'a Desk,
    batch: Batch,
    owing: Owing,
    crowd: Crowd,
}

impl Turn<'_> {
    /// One batch from the socket of `token`.
    fn take(&mut self, token: u64) {
        let Some(seat) = self.desk.seat_of(token) else { return };
        let room = seat.room();
        if room == 0 {
            return seat.pause(&self.desk.epoll);
        }
        let share = self.crowd.share(token, Instant::now()).min(room);
        let served = seat.with(|socket| {
            let count = self.batch.receive(socket, share)?;
            self.answer(&seat, socket, count);
            io::Result::Ok(())
        });
        if let Some(Err(error)) = served
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::debug!(%error, "failed to receive dns queries");
        }
    }

    /// Answers what can be told again, and hands over the rest.
    fn answer(&mut self, seat: &Seat, socket: &UdpSocket, count: usize) {
        let (mut replies, mut others) = (0, [0; MAX_MESSAGES]);
        let mut handed = 0;
        if let Some(mut shard) = seat.hot.shard(self.desk.number) {
            let (generation, now) = (seat.agent.generation(), seat.hot.now());
            for index in 0..count {
                let tell = |message: &[u8], out: &mut [u8]| shard.answer(message, generation, now, out);
                if self.batch.reply(index, replies, tell) {
                    replies += 1;
                } else {
                    others[handed] = index;
                    handed += 1;
                }
            }
            if shard.owes_records() {
                self.owing.add(seat.token);
            }
        }
        self.batch.send(socket, replies);
        for index in &others[..handed] {
            let (message, Some(peer)) = self.batch.message(*index) else { continue };
            seat.hand_over(Query { message: message.into(), peer });
        }
    }
}

/// Whether one socket keeps the thread busy, or several do.
#[derive(Default)]
struct Crowd {
    last: u64,
    changed: Option<Instant>,
}

impl Crowd {
    /// How many messages the socket of `token` may take in this turn.
    fn share(&mut self, token: u64, now: Instant) -> usize {
        if self.last != token {
            (self.last, self.changed) = (token, Some(now));
        }
        match self.changed.is_some_and(|changed| now.duration_since(changed) < CROWDED) {
            true => MAX_SHARE,
            false => MAX_MESSAGES,
        }
    }
}

/// The seats that answered what is not recorded yet.
#[derive(Default)]
struct Owing {
    seats: HashSet<u64>,
    since: Option<Instant>,
}

impl Owing {
    fn add(&mut self, token: u64) {
        self.since.get_or_insert_with(Instant::now);
        self.seats.insert(token);
    }

    /// Until when to wait for queries.
    fn timeout(&self) -> EpollTimeout {
        let left = self.since.map(|since| RECORD_EVERY.saturating_sub(since.elapsed()));
        let left = left.map(|left| EpollTimeout::try_from(left + Duration::from_millis(1)));
        left.and_then(Result::ok).unwrap_or(EpollTimeout::NONE)
    }

    /// Records all of it, if the first of it waited long enough.
    fn record(&mut self, desk: &Desk) {
        if self.since.is_none_or(|since| since.elapsed() < RECORD_EVERY) {
            return;
        }
        self.since = None;
        for seat in self.seats.drain().filter_map(|token| desk.seat_of(token)) {
            if let Some(mut shard) = seat.hot.shard(desk.number) {
                shard.record();
            }
        }
    }
}

/// Messages of a turn where others wait, too: some 30 us.
const MAX_SHARE: usize = 8;
/// How long after a turn of another socket it is taken to come again.
const CROWDED: Duration = Duration::from_millis(10);
/// How long a lookup that was answered waits to be recorded, together with those of the same name.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// Sockets that one look finds ready; the others come with the next.
const MAX_EVENTS: usize = 64;
/// How long a thread rests after the kernel refused to let it wait.
const REST: Duration = Duration::from_millis(100);
/// The token of the bell.
const BELL: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_takes_small_shares_while_others_take_turns() {
        let (mut crowd, start) = (Crowd::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(crowd.share(1, at(0)), MAX_SHARE);
        assert_eq!(crowd.share(1, at(10)), MAX_MESSAGES);
        assert_eq!(crowd.share(2, at(11)), MAX_SHARE);
        assert_eq!(crowd.share(1, at(12)), MAX_SHARE);
        assert_eq!(crowd.share(1, at(21)), MAX_SHARE);
        assert_eq!(crowd.share(1, at(22)), MAX_MESSAGES);
    }
}
