//! Hellos that are longer than a packet: wherever the name stands, it is read before any of them leaves, and
//! nothing else leaves in their place.

use crate::{
    harness::{Harness, SERVER_HELLO},
    hellos::{hello_of, server_name},
    names::denied,
};
use egress_common::{DropReason, Gate};
use socket2::{SockRef, Socket};
use std::{
    fs::File,
    io::Write,
    net::TcpStream,
    os::{fd::AsRawFd, unix::fs::FileExt},
    time::{Duration, Instant},
};

#[test]
fn a_hello_over_several_packets_passes_wherever_its_name_stands() {
    for make in [Harness::new, Harness::narrow] {
        let harness = make(&["ok.test"]);
        for (length, stands) in LENGTHS.into_iter().flat_map(|length| PLACES.map(|stands| (length, stands))) {
            let hello = long("ok.test", length, stands);
            let outcome = says(&harness, &[&hello]);
            assert_eq!(outcome.arrived.len(), length, "{stands:?}: {:?}", outcome.events);
            assert_eq!((outcome.arrived == hello, outcome.denial()), (true, None), "{length}, {stands:?}");
            denied(&says(&harness, &[&long("no.test", length, stands)]), DropReason::ServerNameNotGranted);
        }
        assert_eq!(harness.gate(), Gate::Kernel as u16, "none went to the proxy");
    }
}

#[test]
fn a_long_hello_passes_in_pieces_of_any_size() {
    let harness = Harness::narrow(&["ok.test"]);
    for (length, size) in [(3_000, 1), (14_000, 100), (14_000, 1_000), (14_000, 9_000), (LONGEST, 16_384)] {
        let (good, evil) = (long("ok.test", length, Stands::Last), long("no.test", length, Stands::Last));
        let outcome = says(&harness, &good.chunks(size).collect::<Vec<_>>());
        assert_eq!(outcome.arrived.len(), length, "pieces of {size}: {:?}", outcome.events);
        assert!(outcome.arrived == good, "pieces of {size}");
        denied(&says(&harness, &evil.chunks(size).collect::<Vec<_>>()), DropReason::ServerNameNotGranted);
    }
}

#[test]
fn a_long_hello_in_pages_that_change_leaves_as_it_was_read() {
    let (good, evil) = (long("ok.test", 14_000, Stands::Last), long("no.test", 14_000, Stands::Last));
    for way in [send_file, splice_file, send_without_copy] {
        let harness = Harness::narrow(&["ok.test"]);
        harness.server.answers(vec![(good.len(), SERVER_HELLO.to_vec())]);
        let stream = cut(&harness);
        let file = tempfile::tempfile().expect("file");
        file.write_all_at(&good, 0).expect("written");
        way(&stream, &file, good.len());
        // What leaves first has room for a part.
        file.write_all_at(&evil, 0).expect("changed");
        let outcome = harness.finish(stream, None);
        assert!(good.starts_with(&outcome.arrived), "{:?}", outcome.events);
        assert_eq!((outcome.arrived.len(), outcome.denial()), (good.len(), None), "{:?}", outcome.events);
    }
}

#[test]
fn a_long_hello_in_pages_that_change_all_the_time_leaves_as_it_was_read() {
    let good = long("ok.test", 14_000, Stands::Last);
    let harness = Harness::narrow(&["ok.test"]);
    for way in [send_file, splice_file, send_without_copy] {
        let file = tempfile::tempfile().expect("file");
        for _ in 0..10 {
            harness.server.answers(vec![(good.len(), SERVER_HELLO.to_vec())]);
            let stream = cut(&harness);
            file.write_all_at(&good, 0).expect("written");
            let outcome = std::thread::scope(|scope| {
                let (stop, stopped) = std::sync::mpsc::channel::<()>();
                let file = &file;
                scope.spawn(move || {
                    let last = good_and_evil();
                    for round in 0.. {
                        if stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                            break;
                        }
                        file.write_all_at(&last[round % 2], 14_000 - 8).expect("changed");
                    }
                });
                way(&stream, file, good.len());
                let outcome = harness.finish(stream, None);
                drop(stop);
                outcome
            });
            let is_good = outcome.arrived.is_empty() || outcome.arrived == good;
            assert!(is_good, "{} octets: {:?}", outcome.arrived.len(), outcome.events);
        }
    }
}

#[test]
fn what_takes_the_place_of_a_part_that_found_no_room_does_not_leave() {
    let (good, evil) = (long("ok.test", 14_000, Stands::Last), long("no.test", 14_000, Stands::Last));
    let mut parts = 0;
    for flags in [0, libc::MSG_OOB, libc::MSG_MORE] {
        for way in [send_rest, send_rest_of_file] {
            let harness = Harness::narrow(&["ok.test"]);
            let stream = harness.socket_with(|socket| {
                socket.set_send_buffer_size(1).expect("small");
                set_segment(socket, 88);
            });
            stream.set_nonblocking(true).expect("nonblocking");
            let sent = SockRef::from(&stream).send_with_flags(&good, flags).unwrap_or(0);
            parts += usize::from(sent < good.len());
            SockRef::from(&stream).set_send_buffer_size(1 << 18).expect("room for the rest");
            way(&stream, &evil[sent.min(evil.len())..]);
            stream.set_nonblocking(false).expect("blocking");
            let outcome = harness.finish(stream, None);
            assert!(good.starts_with(&outcome.arrived), "{flags}, {sent}: {:?}", outcome.events);
            assert_eq!(outcome.denial(), Some(DropReason::HelloSkipped), "{flags}, {sent}");
        }
    }
    assert!(parts > 0, "all of a hello found room each time: this shows nothing");
}

#[test]
fn a_server_that_answers_before_it_has_the_hello_opens_nothing() {
    let harness = Harness::narrow(&["ok.test"]);
    let hello = long("ok.test", 14_000, Stands::Last);
    let end = Instant::now() + Duration::from_secs(10);
    // The answer may be late.
    loop {
        harness.server.answers(vec![(1, SERVER_HELLO.to_vec())]);
        let outcome = harness.say(cut(&harness), &[&hello]);
        match outcome.denial() {
            Some(reason) => break assert_eq!(reason, DropReason::NotTls, "{:?}", outcome.events),
            None => assert!(Instant::now() < end, "never too early: {:?}", outcome.events),
        }
    }
}

/// Sends `pieces` over a connection that takes little at once, to a server that answers when it has all.
fn says(harness: &Harness, pieces: &[&[u8]]) -> crate::harness::Outcome {
    let total = pieces.iter().map(|piece| piece.len()).sum();
    harness.server.answers(vec![(total, SERVER_HELLO.to_vec())]);
    harness.say(cut(harness), pieces)
}

/// A connection as over Ethernet and a long way: two segments at once are all that TCP sends in one packet.
fn cut(harness: &Harness) -> TcpStream {
    harness.socket_with(|socket| {
        set_segment(socket, 1_448);
        let rate = 2_000_000_u32;
        // SAFETY: an option of one number.
        let set = unsafe {
            let (level, name) = (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const rate).cast(), 4)
        };
        assert_eq!(set, 0);
    })
}

fn set_segment(socket: &Socket, size: i32) {
    // SAFETY: an option of one number.
    let set = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_MAXSEG);
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const size).cast(), 4)
    };
    assert_eq!(set, 0);
}

fn send_file(stream: &TcpStream, file: &File, length: usize) {
    let mut from = 0;
    // SAFETY: both descriptors are open, and so is the number.
    let sent = unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), &raw mut from, length) };
    assert_eq!(sent, length as isize);
}

fn splice_file(stream: &TcpStream, file: &File, length: usize) {
    let mut pipe = [0; 2];
    let mut from = 0;
    // SAFETY: two descriptors; all that are used are open.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let null = std::ptr::null_mut();
        let there = libc::splice(file.as_raw_fd(), &raw mut from, pipe[1], null, length, 0);
        assert_eq!(there, length as isize);
        assert_eq!(libc::splice(pipe[0], null, stream.as_raw_fd(), null, length, 0), length as isize);
        libc::close(pipe[0]);
        libc::close(pipe[1]);
    }
}

/// MSG_ZEROCOPY from memory that is the file's.
fn send_without_copy(stream: &TcpStream, file: &File, length: usize) {
    let on = 1_i32;
    // SAFETY: an option of one number; the mapping is as long as what is sent, and outlives nobody's use of it:
    // it stays for as long as the process does.
    let sent = unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_ZEROCOPY);
        assert_eq!(libc::setsockopt(stream.as_raw_fd(), level, name, (&raw const on).cast(), 4), 0);
        let (protection, null) = (libc::PROT_READ | libc::PROT_WRITE, std::ptr::null_mut());
        let memory = libc::mmap(null, length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(memory, libc::MAP_FAILED);
        libc::send(stream.as_raw_fd(), memory, length, libc::MSG_ZEROCOPY)
    };
    assert_eq!(sent, length as isize);
}

fn send_rest(stream: &TcpStream, rest: &[u8]) {
    let mut rest = rest;
    for _ in 0..200 {
        rest = &rest[SockRef::from(stream).send(rest).unwrap_or(0)..];
        std::thread::yield_now();
    }
}

fn send_rest_of_file(stream: &TcpStream, rest: &[u8]) {
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(rest).expect("written");
    let mut from = 0;
    for _ in 0..200 {
        // SAFETY: both descriptors are open, and so is the number.
        unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), &raw mut from, rest.len()) };
        std::thread::yield_now();
    }
}

/// Where in a hello its name stands.
#[derive(Debug, Clone, Copy)]
enum Stands {
    First,
    Between,
    Last,
}

const PLACES: [Stands; 3] = [Stands::First, Stands::Between, Stands::Last];

/// With a key that no quantum computer breaks, twice of that, a ticket of many octets, and the most that fits
/// into one record.
const LENGTHS: [usize; 4] = [3_000, 6_000, 14_000, LONGEST];
const LONGEST: usize = egress_common::hello::MAX_HELLO as usize;

/// A hello of `length` octets in all for `name`, of seven octets.
fn long(name: &str, length: usize, stands: Stands) -> Vec<u8> {
    let with = |filler: usize| {
        let (key, ticket) = (filler / 2, filler - filler / 2);
        let mut all = vec![(13, vec![0, 2, 4, 3]), (51, vec![7; key]), (35, vec![7; ticket])];
        let at = match stands {
            Stands::First => 0,
            Stands::Between => 2,
            Stands::Last => 3,
        };
        all.insert(at, server_name(name));
        hello_of(&all)
    };
    with(length - with(0).len())
}

/// The last octets of such hellos, where their names are last.
fn good_and_evil() -> [Vec<u8>; 2] {
    ["ok.test", "no.test"].map(|name| long(name, 100, Stands::Last)[92..].to_vec())
}
