//! Which datagrams of `lookups.c` arrive.

use crate::lab::Lab;
use std::{
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What comes in at UDP port 9001 of any address of the internet.
pub struct Arrivals {
    numbers: Arc<Mutex<Vec<u32>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Arrivals {
    pub fn start(lab: &Lab) -> Self {
        let socket = lab.on_inet(|| UdpSocket::bind("0.0.0.0:9001").expect("the port is free"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        make_room(&socket);
        let (numbers, stop) = (Arc::<Mutex<Vec<u32>>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (numbers, stop) = (Arc::clone(&numbers), Arc::clone(&stop));
            move || {
                let mut datagram = [0; 4];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(4) = socket.recv(&mut datagram) {
                        lock(&numbers).push(u32::from_ne_bytes(datagram));
                    }
                }
            }
        });
        Self { numbers, stop, thread: Some(thread) }
    }

    /// The numbers in the datagrams so far.
    pub fn numbers(&self) -> Vec<u32> {
        lock(&self.numbers).clone()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn lock(numbers: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For all that is sent while the receiver has no processor: SO_RCVBUFFORCE, for the host's bound is
/// too small.
fn make_room(socket: &UdpSocket) {
    let room: libc::c_int = 1 << 26;
    let length = size_of_val(&room) as libc::socklen_t;
    // SAFETY: the option takes an int, and `room` outlives the call.
    let result = unsafe {
        let value = (&raw const room).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, length)
    };
    assert_eq!(result, 0, "the receive buffer can be made large");
}
