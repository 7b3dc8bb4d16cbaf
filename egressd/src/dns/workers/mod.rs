//! The threads that answer over UDP what was answered before.
//!
//! They are shared by all agents. Each has a socket of every agent, and serves them by turns: a batch of
//! messages from one, then from the next. What was not answered before waits for the tasks of its agent,
//! in a queue of its own; when that is full, the socket is not read.

mod batch;
mod seat;
mod thread;

pub use batch::MAX_QUERY;
pub use seat::Query;

use super::hot::Hot;
use crate::policy::Agent;
use seat::Seat;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread::{Builder, JoinHandle},
};
use thread::Desk;
use tokio::sync::mpsc::Receiver;

/// The most threads, on whatever machine: each answers hundreds of thousands of queries a second.
pub const MAX_THREADS: usize = 4;

/// Three times the share of a usual thread, and a turn three times as soon: whoever floods does not hold up
/// the answers of others for as long as its own turn is, and cannot take the processor from all else.
const NICENESS: libc::c_int = -5;

/// How many threads there are: one for each processor that this process may use, at most [`MAX_THREADS`].
#[must_use]
pub fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// The threads. They end with this value.
pub struct Workers {
    desks: Vec<Arc<Desk>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts [`count`] threads.
    ///
    /// # Errors
    /// The kernel refused a thread, or what it waits with.
    pub fn start() -> io::Result<Arc<Self>> {
        let mut workers = Self { desks: Vec::new(), threads: Vec::new() };
        for number in 0..count() {
            let desk = Arc::new(Desk::new(number)?);
            workers.desks.push(Arc::clone(&desk));
            let name = format!("names-{number}");
            workers.threads.push(Builder::new().name(name).spawn(move || {
                go_before_others();
                desk.serve();
            })?);
        }
        Ok(Arc::new(workers))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.desks.len()
    }

    /// Has the thread of this `number`, or of what is left of it, answer `agent` at `socket`.
    ///
    /// # Errors
    /// The kernel does not wait for this socket.
    pub(super) fn seat(
        self: &Arc<Self>,
        number: usize,
        agent: Arc<Agent>,
        hot: Arc<Hot>,
        socket: UdpSocket,
    ) -> io::Result<Seated> {
        let desk = self.desks.get(number % self.count().max(1)).ok_or(io::ErrorKind::NotFound)?;
        let (seat, queries) = desk.seat(agent, hot, socket)?;
        Ok(Seated { desk: Arc::clone(desk), seat, queries, _workers: Arc::clone(self) })
    }

    /// Records the lookups that were answered, and are not recorded yet. Takes as long as the threads keep
    /// a batch.
    pub fn record(&self) {
        self.desks.iter().for_each(|desk| desk.record());
    }
}

/// Raises the calling thread. Where that is not allowed, it is as fast as others are.
fn go_before_others() {
    let this_thread = 0;
    // Changes nothing but how this thread is scheduled.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, this_thread, NICENESS) };
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.desks.iter().for_each(|desk| desk.stop());
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A socket that is served. It is closed when this is dropped, and nothing is answered through it from
/// then on.
pub struct Seated {
    desk: Arc<Desk>,
    seat: Arc<Seat>,
    queries: Receiver<Query>,
    _workers: Arc<Workers>,
}

impl Seated {
    /// The next query that was not answered before. It waits for as long as the socket is served.
    pub async fn next(&mut self) -> Option<Query> {
        let query = self.queries.recv().await;
        self.seat.resume(self.desk.epoll());
        query
    }

    /// Whoever sends replies through the socket.
    #[must_use]
    pub fn replies(&self) -> Replies {
        Replies(Arc::clone(&self.seat))
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.desk.leave(&self.seat);
    }
}

/// Sends replies for as long as the socket is served.
#[derive(Clone)]
pub struct Replies(Arc<Seat>);

impl Replies {
    pub fn send(&self, reply: &[u8], peer: SocketAddr) {
        self.0.send(reply, peer);
    }
}
