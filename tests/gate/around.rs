//! Ways around the programs: bytes that are queued where they do not look, or change after they looked.

use crate::{
    harness::{Harness, SERVER_HELLO},
    hellos::{hello, hello_of, retry, server_name},
    names::denied,
};
use egress_common::{DropReason, Gate};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{Seek, SeekFrom, Write},
    net::TcpStream,
    os::{fd::AsRawFd, unix::fs::FileExt},
    time::{Duration, Instant},
};

#[test]
fn what_follows_a_hello_in_one_call_waits_for_the_answer() {
    let harness = Harness::new(&["ok.test"]);
    let (hello, rest) = (hello("ok.test"), b"early data".as_slice());
    let total = hello.len() + rest.len();
    let answers = vec![(hello.len(), SERVER_HELLO.to_vec()), (total, b"and more".to_vec())];
    harness.server.answers(answers);
    let mut stream = harness.connect();
    let sent = stream.write(&[&hello, rest].concat()).expect("sent");
    assert_eq!(sent, hello.len(), "the rest is for a plain socket");
    stream.write_all(rest).expect("queued");
    // What it says to the rest may be there by now.
    assert!(Harness::hear(&mut stream).starts_with(SERVER_HELLO));
    let outcome = harness.finish(stream, None);
    assert_eq!(outcome.arrived, [&hello, rest].concat(), "{outcome:?}");
}

#[test]
fn what_follows_a_hello_does_not_leave_where_the_server_asks_for_another() {
    let harness = Harness::new(&["ok.test"]);
    let hello = hello("ok.test");
    harness.server.answers(vec![(hello.len(), retry())]);
    let mut stream = harness.connect();
    stream.write_all(&[&hello[..], b"anything"].concat()).expect("queued");
    Harness::hear(&mut stream);
    let outcome = harness.finish(stream, None);
    assert_eq!(outcome.arrived, hello, "{outcome:?}");
    assert_eq!(outcome.denial(), Some(DropReason::HelloSkipped));
}

#[test]
fn data_with_the_syn_does_not_leave() {
    let harness = Harness::new(&["ok.test"]);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("socket");
    let hello = hello("evil.test");
    let address = harness.server.address.into();
    let _ = socket.send_to_with_flags(&hello, &address, libc::MSG_FASTOPEN);
    let outcome = harness.finish(TcpStream::from(socket), None);
    denied(&outcome, DropReason::HelloSkipped);
    assert_ne!(outcome.events[0].cookie, 0, "the daemon ends it by that");
    assert_eq!(harness.gate(), Gate::Proxy as u16);
}

#[test]
fn a_send_that_slept_until_the_socket_was_connected_does_not_leave() {
    for cork in [false, true] {
        let harness = Harness::new(&["ok.test"]);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("socket");
        // A server that does not answer before it has room for one more.
        let pause = harness.server.pause();
        let waiting = fill(&harness);
        socket.set_nonblocking(true).expect("nonblocking");
        let _ = socket.connect(&harness.server.address.into());
        assert!(socket.peer_addr().is_err(), "connected at once");
        socket.set_nonblocking(false).expect("blocking");
        SockRef::from(&socket).set_tcp_cork(cork).expect("corked");
        let stream = TcpStream::from(socket);
        let mut sleeper = stream.try_clone().expect("cloned");
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: no arguments.
            let _ = tell.send(unsafe { libc::gettid() });
            sleeper.write_all(b"anything ")
        });
        sleeps_in_send(told.recv().expect("told"));
        drop((pause, waiting));
        let _ = thread.join();
        let _ = (&stream).write_all(&hello("ok.test"));
        let outcome = harness.finish(stream, None);
        denied(&outcome, DropReason::HelloSkipped);
    }
}

#[test]
fn a_hello_of_which_only_a_part_was_queued_is_not_ended_by_other_bytes() {
    // The name is in the last extension: what is queued in its place would be believed.
    let long = |name| hello_of(&[(13, vec![0, 2, 4, 3]), (51, vec![7; 14_000]), server_name(name)]);
    let (good, evil) = (long("ok.test"), long("no.test"));
    for flags in [0, libc::MSG_OOB] {
        let harness = Harness::new(&["ok.test"]);
        let stream = harness.socket_with(|socket| {
            socket.set_send_buffer_size(1).expect("small");
            // SAFETY: an option of one number.
            unsafe {
                let size = 88_i32;
                let length = size_of::<i32>() as u32;
                libc::setsockopt(socket.as_raw_fd(), 6, libc::TCP_MAXSEG, (&raw const size).cast(), length);
            }
        });
        stream.set_nonblocking(true).expect("nonblocking");
        let socket = SockRef::from(&stream);
        let sent = socket.send_with_flags(&good, flags).unwrap_or(0);
        for _ in 0..20 {
            let _ = socket.send(&evil[sent.min(evil.len())..]);
        }
        stream.set_nonblocking(false).expect("blocking");
        let outcome = harness.finish(stream, None);
        let shown = outcome.arrived.windows(7).any(|window| window == b"no.test");
        assert!(!shown, "{sent}: {:?}", outcome.events);
    }
}

#[test]
fn a_page_that_changes_after_it_was_judged_leaves_as_it_was() {
    let harness = Harness::new(&["ok.test"]);
    let (good, evil) = (hello("ok.test"), hello("no.test"));
    harness.server.answers(vec![(good.len(), SERVER_HELLO.to_vec())]);
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(&good).expect("written");
    file.seek(SeekFrom::Start(0)).expect("rewound");
    let stream = harness.connect();
    // In two halves: the first is held until the second is there.
    let mut sent = 0;
    for half in [good.len() / 2, good.len() - good.len() / 2] {
        // SAFETY: both descriptors are open, and no offset is given.
        sent += unsafe { libc::sendfile(stream.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), half) };
        if sent as usize == good.len() / 2 {
            file.write_all_at(&evil[..good.len() / 2], 0).expect("changed");
        }
    }
    file.write_all_at(&evil, 0).expect("changed");
    let outcome = harness.finish(stream, None);
    assert!(!outcome.arrived.windows(7).any(|window| window == b"no.test"), "{:?}", outcome.events);
    assert_eq!(outcome.arrived, good);
}

#[test]
fn a_protocol_on_top_of_tcp_waits_until_the_server_was_named() {
    let harness = Harness::new(&["ok.test"]);
    let set = |stream: &TcpStream| {
        let name = b"tls";
        // SAFETY: an option of three octets.
        let set = unsafe { libc::setsockopt(stream.as_raw_fd(), 6, 31, name.as_ptr().cast(), 3) };
        (set < 0).then(|| std::io::Error::last_os_error().raw_os_error()).flatten()
    };
    let hello = hello("ok.test");
    harness.server.answers(vec![(hello.len(), SERVER_HELLO.to_vec())]);
    let mut stream = harness.connect();
    assert_eq!(set(&stream), Some(libc::EPERM));
    stream.write_all(&hello).expect("sent");
    Harness::hear(&mut stream);
    assert_ne!(set(&stream), Some(libc::EPERM));
}

#[test]
fn a_server_that_speaks_first_is_no_tls_server() {
    let harness = Harness::new(&["ok.test"]);
    harness.server.answers(vec![(0, b"220 mail".to_vec())]);
    let mut stream = harness.connect();
    Harness::hear(&mut stream);
    let error = stream.write_all(&hello("ok.test")).err().map(|error| error.kind());
    denied(&harness.finish(stream, error), DropReason::NotTls);
}

#[test]
fn urgent_octets_before_the_hello_do_not_leave() {
    let harness = Harness::new(&["ok.test"]);
    let stream = harness.connect();
    let error = SockRef::from(&stream).send_out_of_band(b"!").err().map(|error| error.kind());
    denied(&harness.finish(stream, error), DropReason::NotTls);
}

/// Waits until a thread sleeps in sendto(2).
fn sleeps_in_send(thread: libc::pid_t) {
    let end = Instant::now() + Duration::from_secs(5);
    let call = format!("{} ", libc::SYS_sendto);
    while !std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"))
        .is_ok_and(|now| now.starts_with(&call))
    {
        assert!(Instant::now() < end, "does not sleep");
        std::thread::yield_now();
    }
}

/// Takes every place in which a server keeps connections that it has yet to accept.
fn fill(harness: &Harness) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    // Twice in a row, for the server may be about to accept its last one.
    let mut refusals = 0;
    while refusals < 2 {
        match TcpStream::connect_timeout(&harness.server.address, Duration::from_millis(200)) {
            Ok(stream) => {
                waiting.push(stream);
                refusals = 0;
            }
            Err(_) => refusals += 1,
        }
        assert!(waiting.len() < 64, "the server takes more than it was told");
    }
    waiting
}
