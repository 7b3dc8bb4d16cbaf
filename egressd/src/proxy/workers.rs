//! The threads that carry flows, each with a runtime of its own.
//!
//! A flow stays on one thread from its first octet to its last: what wakes it wakes nobody else. They are
//! shared by all agents.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Builder,
    time::Duration,
};
use tokio::{
    runtime::{self, Handle},
    task::{JoinError, JoinSet},
    time::interval,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The most threads, on whatever machine: each carries some 10 Gbit/s, or thousands of new flows a second.
pub const MAX_THREADS: usize = 8;

/// How many flows more than another a thread may have: to hand one over costs a tenth of what a short flow
/// costs altogether.
const SLACK: usize = 4;

/// The threads. They end with this value, and with them what they carry.
#[derive(Debug)]
pub struct Workers {
    desks: Vec<Arc<Desk>>,
    next: AtomicUsize,
    /// Of whoever started them: where names are looked up.
    outside: Handle,
    _end: DropGuard,
}

impl Workers {
    /// Starts one thread for each processor that this process may use, at most [`MAX_THREADS`]. To be
    /// called within a runtime, which has to outlive them.
    ///
    /// # Errors
    /// The kernel refused a thread, or what it waits with.
    pub fn start() -> io::Result<Arc<Self>> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let end = CancellationToken::new();
        let desks = (0..count).map(|number| Desk::start(number, end.clone())).collect::<io::Result<_>>()?;
        Ok(Self::at(desks, end))
    }

    /// No threads: all is carried by the runtime within which this is called.
    #[must_use]
    pub(super) fn none() -> Arc<Self> {
        let desk = Desk { runtime: Handle::current(), flows: AtomicUsize::new(0) };
        Self::at(vec![Arc::new(desk)], CancellationToken::new())
    }

    fn at(desks: Vec<Arc<Desk>>, end: CancellationToken) -> Arc<Self> {
        let (next, outside) = (AtomicUsize::new(0), Handle::current());
        Arc::new(Self { desks, next, outside, _end: end.drop_guard() })
    }

    /// The thread that takes in the flows of one agent: each in turn.
    #[must_use]
    pub(super) fn home(&self) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Seat::at(&self.desks[number % self.desks.len()])
    }

    /// The thread for one more flow: the one that takes it in, unless that has [`SLACK`] more than another.
    #[must_use]
    pub(super) fn seat(&self, home: &Seat) -> Seat {
        match self.desks.iter().min_by_key(|desk| desk.flows()) {
            Some(least) if least.flows() + SLACK < home.desk.flows() => Seat::at(least),
            Some(_) | None => Seat::at(&home.desk),
        }
    }

    /// Runs `work` where these threads were started: some of it would hold up the flows of a thread.
    /// Cancelling this cancels it.
    ///
    /// # Errors
    /// It panicked, or its runtime is gone.
    pub(super) async fn outside<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let mut set = JoinSet::new();
        set.spawn_on(work, &self.outside);
        // There is one, so that there is one to join.
        set.join_next().await.expect("a task that was spawned can be joined")
    }
}

/// One thread, and how many flows it carries. The listeners of an agent count as one.
#[derive(Debug)]
struct Desk {
    runtime: Handle,
    flows: AtomicUsize,
}

impl Desk {
    fn start(number: usize, end: CancellationToken) -> io::Result<Arc<Self>> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let desk = Arc::new(Self { runtime: runtime.handle().clone(), flows: AtomicUsize::new(0) });
        Builder::new().name(format!("flows-{number}")).spawn(move || runtime.block_on(tick_until(end)))?;
        Ok(desk)
    }
}

impl Desk {
    fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }
}

/// Drives a runtime. A timer that is due before all others costs a system call when it is set, as those of
/// every flow would be where nothing else is due: with [`TICK`], none of them is.
async fn tick_until(end: CancellationToken) {
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
    }
}

/// Shorter than what any flow waits for.
const TICK: Duration = Duration::from_secs(1);

/// A place on a thread, for one flow.
#[derive(Debug)]
pub(super) struct Seat {
    desk: Arc<Desk>,
}

impl Seat {
    fn at(desk: &Arc<Desk>) -> Self {
        desk.flows.fetch_add(1, Ordering::Relaxed);
        Self { desk: Arc::clone(desk) }
    }

    #[must_use]
    pub fn runtime(&self) -> Handle {
        self.desk.runtime.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[tokio::test]
    async fn flows_are_spread_over_the_threads_and_the_first_stays_where_it_came_in() {
        let desk = || Arc::new(Desk { runtime: Handle::current(), flows: AtomicUsize::new(0) });
        let workers = Workers::at(vec![desk(), desk(), desk()], CancellationToken::new());
        let home = workers.home();
        let flows = |desk: &Arc<Desk>| desk.flows();
        let mut seats: Vec<Seat> = (0..SLACK).map(|_| workers.seat(&home)).collect();
        assert!(seats.iter().all(|seat| Arc::ptr_eq(&seat.desk, &home.desk)));
        seats.extend((0..30).map(|_| workers.seat(&home)));
        let (least, most) =
            (workers.desks.iter().map(flows).min().unwrap(), workers.desks.iter().map(flows).max().unwrap());
        assert!(most - least <= SLACK + 1, "{workers:?}");
        drop(seats);
        assert!(Arc::ptr_eq(&workers.home().desk, &workers.desks[1]));
        assert_eq!(workers.desks.iter().map(flows).sum::<usize>(), 1);
    }

    #[tokio::test]
    async fn what_must_not_hold_up_flows_is_done_outside() {
        let workers = Workers::start().unwrap();
        let (inside, outside) = (workers.home(), Arc::clone(&workers));
        let name = || thread::current().name().map(str::to_owned);
        let here = name();
        let task = async move {
            let flows = name();
            (flows, outside.outside(async move { name() }).await.unwrap())
        };
        let (flows, lookup) = inside.runtime().spawn(task).await.unwrap();
        assert!(flows.unwrap().starts_with("flows-"));
        assert_eq!(lookup, here);
    }
}
