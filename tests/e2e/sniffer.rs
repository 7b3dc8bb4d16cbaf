//! The oracle: sees every frame that reaches the internet's end of the link.

use crate::{
    frame::{Flow, Frame},
    lab::{INET_LINK, Namespace},
    places, program,
};
use socket2::{Domain, Socket, Type};
use std::{
    collections::HashSet,
    ffi::CStr,
    io::{ErrorKind, Read},
    mem,
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Keeps the frames that came in since it was started.
pub struct Sniffer {
    frames: Arc<Mutex<Frames>>,
    socket: Arc<Socket>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Frames {
    kept: Vec<Frame>,
    is_kept: Option<IsKept>,
}

type IsKept = Box<dyn Fn(&Frame) -> bool + Send>;

impl Sniffer {
    pub fn start(inet: &Namespace) -> Self {
        let socket = Arc::new(inet.within(|| open(INET_LINK)));
        let (frames, stop) = (Arc::<Mutex<Frames>>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (socket, frames, stop) = (Arc::clone(&socket), Arc::clone(&frames), Arc::clone(&stop));
            move || sniff(&socket, &frames, &stop)
        });
        Self { frames, socket, stop, thread: Some(thread) }
    }

    /// How many frames there are by now, as a start for [`Self::since`].
    pub fn position(&self) -> usize {
        self.frames().kept.len()
    }

    /// The frames that came in after `position`.
    pub fn since(&self, position: usize) -> Vec<Frame> {
        self.frames().kept[position..].to_vec()
    }

    /// From here on keeps only frames for which `is_kept` holds: those of a storm of frames would
    /// fill the memory. It has to hold for what [`Self::wait_for_sentinels`] sends.
    pub fn keep_only(&self, is_kept: impl Fn(&Frame) -> bool + Send + 'static) {
        self.frames().is_kept = Some(Box::new(is_kept));
    }

    /// The TCP flows that any frame before `position` belongs to.
    pub fn flows_before(&self, position: usize) -> HashSet<Flow> {
        self.frames().kept[..position].iter().filter_map(Frame::flow).collect()
    }

    /// Sends a datagram on each processor, for frames queue by processor, and waits until it sees
    /// them all.
    ///
    /// # Panics
    /// When it does not see them, or when the kernel counted frames that it lost.
    pub fn wait_for_sentinels(&self, sender: &UdpSocket) {
        let position = self.position();
        let all = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("affinity is known");
        let mut marks = Vec::new();
        for cpu in (0..nix::sched::CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false)) {
            let mut one = nix::sched::CpuSet::new();
            one.set(cpu).expect("the processor exists");
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).expect("affinity can be set");
            let mark = mark();
            sender.send_to(mark.as_bytes(), (places::GATEWAY_V4, DISCARD)).expect("the link is up");
            marks.push(mark);
        }
        nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &all).expect("affinity can be set");
        program::poll("the sentinels on the wire", || {
            let frames = self.since(position);
            marks.iter().all(|mark| frames.iter().any(|frame| frame.carries(mark.as_bytes()))).then_some(())
        });
        assert_eq!(lost(&self.socket), 0, "the sniffer lost frames, so it proves nothing");
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A text that is on the wire only if someone was told it: a DNS label in lower case.
pub fn mark() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("mark{:x}z{:x}z", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// A raw socket on one link of the calling thread's namespace, deaf to what leaves by it.
fn open(link: &CStr) -> Socket {
    let all = u16::to_be(libc::ETH_P_ALL as u16);
    // Protocol 0 hears nothing, so that nothing of another link is heard before it is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).expect("AF_PACKET can be opened");
    socket.set_recv_buffer_size(RECEIVE_BUFFER).expect("the buffer can be set");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
    let on: libc::c_int = 1;
    let length = mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option takes an int, and `on` outlives the call.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, value, length)
    };
    assert_eq!(result, 0, "frames that leave cannot be ignored");
    // SAFETY: zeros are a valid sockaddr_ll, `link` is a C string, and `address` is as long as is
    // said and outlives the call.
    let result = unsafe {
        let mut address: libc::sockaddr_ll = mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = libc::if_nametoindex(link.as_ptr()) as i32;
        let length = mem::size_of_val(&address) as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length)
    };
    assert_eq!(result, 0, "the sniffer can be bound to its link");
    socket
}

fn sniff(socket: &Socket, frames: &Mutex<Frames>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        let mut reader = socket;
        match reader.read(&mut buffer) {
            Ok(length) => {
                let frame = Frame::new(&buffer[..length]);
                let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
                if frames.is_kept.as_ref().is_none_or(|is_kept| is_kept(&frame)) {
                    frames.kept.push(frame);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the sniffer failed: {error}"),
        }
    }
}

/// How many frames the kernel could not hand to the sniffer since this was last asked.
fn lost(socket: &Socket) -> u32 {
    let mut counts = [0u32; 2]; // struct tpacket_stats: packets, drops
    let mut length = mem::size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the option fills a struct tpacket_stats, which `counts` is as large as.
    let result = unsafe {
        let value = counts.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &mut length)
    };
    assert_eq!(result, 0, "the sniffer's counters can be read");
    counts[1]
}

/// linux/if_packet.h
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// The kernel cuts it down to what `net.core.rmem_max` allows.
const RECEIVE_BUFFER: usize = 1 << 23;
/// RFC 863
const DISCARD: u16 = 9;
