//! Pipes through which the kernel hands bytes from one socket to another: splice(2).

use super::share::Counter;
use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::pipe2,
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How bulk goes from one socket to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Inside the kernel, through a pipe.
    Spliced,
    /// Through a buffer of ours, as where there is no pipe left.
    Copied,
}

/// The pipes of all agents. A flow has one only while bytes move.
#[derive(Debug)]
pub struct Pipes {
    idle: Mutex<Vec<Pipe>>,
    left: Arc<Counter>,
}

impl Pipes {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::of(Bulk::Spliced)
    }

    /// As many as `bulk` needs.
    #[must_use]
    pub fn of(bulk: Bulk) -> Arc<Self> {
        let most = match bulk {
            Bulk::Spliced => MAX_PIPES,
            Bulk::Copied => 0,
        };
        Arc::new(Self { idle: Mutex::default(), left: Arc::new(Counter::new(most)) })
    }

    /// An empty pipe; None if there are too many, or the kernel gives no more of them.
    #[must_use]
    pub fn take(&self) -> Option<Pipe> {
        let idle = self.lock().pop();
        idle.or_else(|| Pipe::new(&self.left))
    }

    /// Keeps `pipe` for the next flow, if it is empty and there is room; else it is closed.
    pub fn put_back(&self, pipe: Pipe) {
        let mut idle = self.lock();
        if pipe.held == 0 && idle.len() < MAX_IDLE {
            idle.push(pipe);
        }
    }

    /// How many wait to be taken.
    #[cfg(test)]
    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    /// How many are on loan.
    #[cfg(test)]
    pub fn lent(&self) -> usize {
        let idle = self.lock();
        MAX_PIPES - self.left.left() - idle.len()
    }

    // Pipes are pushed and popped whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Pipe>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most pipes that there are. Each has two descriptors and, where its reader stands still, up to
/// [`CAPACITY`] octets in the kernel.
pub const MAX_PIPES: usize = 256;

/// The most pipes that are kept while nobody needs them. An empty one takes 10 kB in the kernel.
const MAX_IDLE: usize = 32;

/// How many octets a pipe is asked to hold. The kernel may give fewer.
pub const CAPACITY: usize = 1024 * 1024;

/// One pipe, and how many octets are in it.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    left: Arc<Counter>,
}

impl Pipe {
    fn new(left: &Arc<Counter>) -> Option<Self> {
        if !left.take(1) {
            return None;
        }
        let Ok((read, write)) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC) else {
            left.give_back(1);
            return None;
        };
        let capacity = libc::c_int::try_from(CAPACITY).unwrap_or(libc::c_int::MAX);
        // Where the kernel gives no more than its usual 64 KiB, that serves too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(capacity));
        Some(Self { read, write, held: 0, left: Arc::clone(left) })
    }

    /// How many octets are in it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes what `source` has at hand, without waiting; 0 is its end. The pipe must be empty: a full
    /// one looks like a source that has nothing.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is at hand; else the source is dead.
    pub fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        let moved = splice(source, None, &self.write, None, CAPACITY, FLAGS)?;
        self.held += moved;
        Ok(moved)
    }

    /// Hands to `sink` what it takes of what is held, at most so many octets, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing; else the sink is dead.
    pub fn drain(&mut self, sink: impl AsFd, most: usize) -> io::Result<usize> {
        let moved = splice(&self.read, None, sink, None, self.held.min(most), FLAGS)?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.left.give_back(1);
    }
}

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    #[test]
    fn a_pipe_hands_on_what_it_took_and_is_kept_when_empty() {
        let pipes = Pipes::new();
        let (mut writer, source) = UnixStream::pair().unwrap();
        let (sink, mut reader) = UnixStream::pair().unwrap();
        source.set_nonblocking(true).unwrap();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(pipe.fill(&source).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        writer.write_all(b"bytes").unwrap();
        assert_eq!((pipe.fill(&source).unwrap(), pipe.held()), (5, 5));
        assert_eq!((pipe.drain(&sink, usize::MAX).unwrap(), pipe.held()), (5, 0));
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"bytes");
        drop(writer);
        assert_eq!(pipe.fill(&source).unwrap(), 0);
        pipes.put_back(pipe);
        assert_eq!(pipes.lock().len(), 1);
    }

    #[test]
    fn bulk_that_is_copied_has_no_pipe() {
        assert!(Pipes::of(Bulk::Copied).take().is_none());
    }

    #[test]
    fn a_pipe_that_still_holds_bytes_is_no_other_flows() {
        let pipes = Pipes::new();
        let (mut writer, source) = UnixStream::pair().unwrap();
        writer.write_all(b"secret").unwrap();
        let mut pipe = pipes.take().unwrap();
        pipe.fill(&source).unwrap();
        pipes.put_back(pipe);
        assert!(pipes.lock().is_empty());
    }

    #[test]
    fn pipes_are_bounded_and_come_back() {
        let pipes = Pipes::new();
        let taken: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), MAX_PIPES);
        taken.into_iter().for_each(|pipe| pipes.put_back(pipe));
        assert_eq!(pipes.lock().len(), MAX_IDLE);
        assert!(pipes.take().is_some());
    }
}
