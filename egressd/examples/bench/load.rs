//! A load of DNS queries, made by this same program wherever a bench starts it: beside a server, or inside
//! an agent, where the fence is paid for.

use clap::Parser;
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sched::{CpuSet, sched_setaffinity},
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, recvmsg, setsockopt,
            sockopt::{RcvBuf, ReceiveTimestampns},
        },
        time::{TimeSpec, TimeValLike},
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    thread,
    time::{Duration, Instant},
};

/// Asks a server, and says how it went
#[derive(Debug, Clone, Parser)]
pub struct Load {
    #[arg(long)]
    server: SocketAddr,
    /// `{}` in it is a number that no query had before
    #[arg(long)]
    name: String,
    #[arg(long)]
    seconds: f64,
    /// Before that, not measured
    #[arg(long, default_value_t = 0.2)]
    warm_up: f64,
    /// Queries a second; else as many as are answered
    #[arg(long)]
    rate: Option<u64>,
    /// Unanswered queries of a thread, where no rate is given
    #[arg(long, default_value_t = 256)]
    outstanding: usize,
    /// Source ports of a thread
    #[arg(long, default_value_t = 8)]
    sockets: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The processor to run on
    #[arg(long)]
    cpu: Option<usize>,
    /// Sleep between queries, where a rate is given, and leave the processor to others
    #[arg(long)]
    sleepy: bool,
}

impl Load {
    /// Asks, and returns answers, seconds and, where a rate was given, latencies in microseconds.
    pub fn run(&self) -> Value {
        let (mut all, mut latencies) = (Tally::default(), Vec::new());
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|number| scope.spawn(move || self.thread(number))).collect();
            for thread in threads {
                let (tally, seen) = thread.join().expect("a thread of the load ends");
                all = Tally {
                    asked: all.asked + tally.asked,
                    answered: all.answered + tally.answered,
                    measured: all.measured + tally.measured,
                    refused: all.refused + tally.refused,
                };
                latencies.extend(seen);
            }
        });
        latencies.sort_unstable();
        let at = |part: f64| {
            let index = (latencies.len().saturating_sub(1)) as f64 * part;
            latencies.get(index.round() as usize).map(|nanoseconds| *nanoseconds as f64 / 1e3)
        };
        json!({
            "asked": all.asked, "answered": all.answered, "refused": all.refused,
            "rate": all.measured as f64 / self.seconds,
            "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1.0),
        })
    }

    fn thread(&self, number: usize) -> (Tally, Vec<u64>) {
        if let Some(cpu) = self.cpu {
            let mut set = CpuSet::new();
            set.set(cpu + number).expect("there is such a processor");
            sched_setaffinity(Pid::from_raw(0), &set).expect("a thread may choose its processor");
        }
        let sockets: Vec<_> = (0..self.sockets).map(|_| self.socket()).collect();
        let mut line = Line { load: self, sockets, tally: Tally::default(), serial: (number as u64) << 40 };
        match self.rate {
            Some(rate) => line.at_rate(rate),
            None => (line.as_fast_as_answered(), Vec::new()),
        }
    }

    fn socket(&self) -> UdpSocket {
        let any = if self.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a socket can be bound");
        socket.connect(self.server).expect("the server can be connected to");
        socket.set_nonblocking(true).expect("a socket can be told not to wait");
        setsockopt(&socket, RcvBuf, &(1 << 20)).expect("a socket takes a larger buffer");
        if self.rate.is_some() {
            setsockopt(&socket, ReceiveTimestampns, &true).expect("a socket tells when answers came");
        }
        socket
    }
}

/// What became of queries.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    asked: u64,
    answered: u64,
    /// Of those, within the time that is measured.
    measured: u64,
    /// With another code than 0.
    refused: u64,
}

/// One thread's queries.
struct Line<'a> {
    load: &'a Load,
    sockets: Vec<UdpSocket>,
    tally: Tally,
    serial: u64,
}

impl Line<'_> {
    fn as_fast_as_answered(&mut self) -> Tally {
        let window = (self.load.outstanding / self.sockets.len()).clamp(1, BATCH);
        let mut on_their_way = vec![0; self.sockets.len()];
        let (mut answers_in, mut queries_out) = (Batch::new(), Batch::new());
        let is_numbered = self.load.name.contains("{}");
        queries_out.write(|query| write_query(query, &self.load.name, 0));
        let start = Instant::now();
        let measured_from = Duration::from_secs_f64(self.load.warm_up);
        let end = measured_from + Duration::from_secs_f64(self.load.seconds);
        let mut last_answer = start;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= end {
                return self.tally;
            }
            let mut has_moved = false;
            for (index, on_their_way) in on_their_way.iter_mut().enumerate() {
                let (answers, refused) = answers_in.receive(&self.sockets[index]);
                *on_their_way -= answers.min(*on_their_way);
                self.tally.answered += answers as u64;
                self.tally.refused += refused as u64;
                self.tally.measured += if elapsed >= measured_from { answers as u64 } else { 0 };
                let missing = window - *on_their_way;
                // In batches, for both sides' sake.
                if missing * 2 > window {
                    let first = self.serial;
                    let sent = queries_out.send(&self.sockets[index], missing, |place, query| {
                        let serial = first + place as u64;
                        match is_numbered {
                            true => Some(write_query(query, &self.load.name, serial)),
                            false => {
                                query[..2].copy_from_slice(&(serial as u16).to_be_bytes());
                                None
                            }
                        }
                    });
                    self.serial += sent as u64;
                    self.tally.asked += sent as u64;
                    *on_their_way += sent;
                    has_moved |= sent > 0;
                }
                has_moved |= answers > 0;
            }
            if has_moved {
                last_answer = Instant::now();
            } else if last_answer.elapsed() > LOST {
                on_their_way.fill(0);
            } else {
                wait(&self.sockets, Duration::from_millis(1));
            }
        }
    }

    fn at_rate(&mut self, rate: u64) -> (Tally, Vec<u64>) {
        let mut sent_at = vec![0; 1 << 16];
        let mut latencies = Vec::new();
        let (start, every) = (now(), 1_000_000_000 / rate);
        let measured_from = start + (self.load.warm_up * 1e9) as u64;
        let end = measured_from + (self.load.seconds * 1e9) as u64;
        let mut next = start;
        let mut query = [0; 512];
        loop {
            let moment = now();
            if moment >= end {
                return (self.tally, latencies);
            }
            if moment >= next {
                let length = write_query(&mut query, &self.load.name, self.serial);
                let id = usize::from(u16::from_be_bytes([query[0], query[1]]));
                sent_at[id] = now();
                let socket = &self.sockets[self.serial as usize % self.sockets.len()];
                self.tally.asked += u64::from(socket.send(&query[..length]).is_ok());
                self.serial += 1;
                // Who comes too late does not ask for all that was missed at once.
                next = if self.load.sleepy {
                    (next + every).max(moment.saturating_sub(every))
                } else {
                    next + every
                };
            }
            let mut is_idle = true;
            for socket in &self.sockets {
                if let Some((id, code, came_at)) = receive(socket) {
                    is_idle = false;
                    self.tally.answered += 1;
                    self.tally.refused += u64::from(code != 0);
                    let sent_at = std::mem::take(&mut sent_at[usize::from(id)]);
                    if sent_at >= measured_from {
                        self.tally.measured += 1;
                        latencies.push(came_at.saturating_sub(sent_at));
                    }
                }
            }
            if is_idle && self.load.sleepy {
                wait(&self.sockets, Duration::from_nanos(next.saturating_sub(now())));
            }
        }
    }
}

/// The next answer: its id, its code, and when the kernel took it in.
fn receive(socket: &UdpSocket) -> Option<(u16, u8, u64)> {
    let mut octets = [0; 2048];
    let mut control = nix::cmsg_space!(libc::timespec);
    let mut parts = [IoSliceMut::new(&mut octets)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT).ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|part| {
        if let ControlMessageOwned::ScmTimestampns(time) = part { Some(time) } else { None }
    });
    let came_at = stamp.map_or_else(now, |time| time.num_nanoseconds() as u64);
    Some((u16::from_be_bytes([octets[0], octets[1]]), octets[3] & 0xf, came_at))
}

/// Nanoseconds, on the clock by which the kernel stamps.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| time.num_nanoseconds() as u64)
}

fn wait(sockets: &[UdpSocket], time: Duration) {
    let mut polled: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(time)), None);
}

/// A query for the A records of `name`, with EDNS, as stub resolvers send it.
fn write_query(query: &mut [u8], name: &str, serial: u64) -> usize {
    let id = (serial as u16).to_be_bytes();
    query[..12].copy_from_slice(&[id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    let mut at = 12;
    for label in name.split('.') {
        let numbered;
        let label = match label {
            "{}" => {
                numbered = format!("x{serial:x}");
                &numbered
            }
            label => label,
        };
        query[at] = label.len() as u8;
        query[at + 1..=at + label.len()].copy_from_slice(label.as_bytes());
        at += 1 + label.len();
    }
    let end = [0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    query[at..at + end.len()].copy_from_slice(&end);
    at + end.len()
}

/// Queries or answers that travel in one system call.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    parts: Vec<libc::iovec>,
    buffers: Vec<[u8; 576]>,
}

impl Batch {
    fn new() -> Self {
        let mut buffers = vec![[0; 576]; BATCH];
        let part =
            |buffer: &mut [u8; 576]| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 512 };
        let mut parts: Vec<_> = buffers.iter_mut().map(part).collect();
        // SAFETY: zeros are a valid header of a message.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let mut headers = vec![header; BATCH];
        for (header, part) in headers.iter_mut().zip(&mut parts) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        Self { headers, parts, buffers }
    }

    /// Has `write` write every message, and say how long it is.
    fn write(&mut self, write: impl Fn(&mut [u8]) -> usize) {
        for (part, buffer) in self.parts.iter_mut().zip(&mut self.buffers) {
            part.iov_len = write(buffer);
        }
    }

    /// How many answers came, and how many of them with a code.
    fn receive(&mut self, socket: &UdpSocket) -> (usize, usize) {
        // SAFETY: the headers' pointers lead into vectors of this value.
        let count = unsafe {
            let headers = self.headers.as_mut_ptr();
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers,
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        (count, self.buffers[..count].iter().filter(|buffer| buffer[3] & 0xf != 0).count())
    }

    /// Sends `count` messages after `change` changed them, and said how long they are if that changed.
    fn send(
        &mut self,
        socket: &UdpSocket,
        count: usize,
        change: impl Fn(usize, &mut [u8]) -> Option<usize>,
    ) -> usize {
        for place in 0..count {
            if let Some(length) = change(place, &mut self.buffers[place]) {
                self.parts[place].iov_len = length;
            }
        }
        // SAFETY: as above.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT)
        };
        usize::try_from(sent).unwrap_or(0)
    }
}

const BATCH: usize = 32;
/// After so long, queries are taken for lost.
const LOST: Duration = Duration::from_millis(50);
