//! A server outside of the fence that writes down every octet, and answers as it is told.

use crate::world::locked;
use socket2::{Domain, Socket, Type};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
};

/// What a server says: each answer once so many octets have come in all.
pub type Script = Vec<(usize, Vec<u8>)>;

/// One that serves for as long as the process lives; what it accepts it serves at once.
pub struct Server {
    pub address: SocketAddr,
    /// Whether it has room for little at a time.
    pub is_narrow: bool,
    flows: Arc<Mutex<Vec<Flow>>>,
    orders: mpsc::Sender<Script>,
    /// Held while nothing is to be accepted.
    pause: Arc<Mutex<()>>,
    listener: TcpListener,
}

/// What arrived by one connection.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    pub source_port: u16,
    pub arrived: Vec<u8>,
    pub ended: bool,
}

impl Server {
    /// To be made before the process goes into its cgroup: the sockets of a server are no agent's.
    pub fn listen(at: IpAddr) -> Self {
        Self::serve(TcpListener::bind((at, 0)).expect("bound"), false)
    }

    /// The same, with room for little at a time: a long hello comes in many packets.
    pub fn narrow(at: IpAddr) -> Self {
        let socket = Socket::new(Domain::for_address((at, 0).into()), Type::STREAM, None).expect("socket");
        socket.set_recv_buffer_size(4096).expect("small");
        socket.bind(&SocketAddr::from((at, 0)).into()).expect("bound");
        socket.listen(64).expect("listens");
        Self::serve(socket.into(), true)
    }

    fn serve(listener: TcpListener, is_narrow: bool) -> Self {
        let address = listener.local_addr().expect("address");
        let flows: Arc<Mutex<Vec<Flow>>> = Arc::default();
        let (orders, script) = mpsc::channel::<Script>();
        let shared = Arc::clone(&flows);
        let pause: Arc<Mutex<()>> = Arc::default();
        let (accepting, paused) = (listener.try_clone().expect("cloned"), Arc::clone(&pause));
        thread::spawn(move || {
            // The peer as it was accepted: of a flow that has ended since, the socket knows none.
            while let Ok((stream, peer)) = accepting.accept() {
                drop(locked(&paused));
                let script = script.try_iter().last().unwrap_or_default();
                let flows = Arc::clone(&shared);
                thread::spawn(move || serve(stream, peer, script, &flows));
            }
        });
        Self { address, is_narrow, flows, orders, pause, listener }
    }

    /// What the next connection is answered; nothing where nobody says.
    pub fn answers(&self, script: Script) {
        self.orders.send(script).expect("serves");
    }

    /// Accepts nothing but one more until what is returned is dropped, and keeps one waiting.
    pub fn pause(&self) -> MutexGuard<'_, ()> {
        // SAFETY: an open socket.
        unsafe { libc::listen(self.listener.as_raw_fd(), 0) };
        locked(&self.pause)
    }

    /// What came from `source_port`.
    pub fn flow(&self, source_port: u16) -> Flow {
        let flows = locked(&self.flows);
        flows.iter().rev().find(|flow| flow.source_port == source_port).cloned().unwrap_or_default()
    }
}

fn serve(mut stream: TcpStream, peer: SocketAddr, mut script: Script, flows: &Mutex<Vec<Flow>>) {
    locked(flows).push(Flow { source_port: peer.port(), ..Flow::default() });
    let update = |change: &dyn Fn(&mut Flow)| {
        locked(flows).iter_mut().rev().find(|flow| flow.source_port == peer.port()).map(change);
    };
    let (mut buffer, mut total) = (vec![0; 65_536], 0);
    loop {
        while script.first().is_some_and(|(after, _)| total >= *after) {
            let _ = stream.write_all(&script.remove(0).1);
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                total += count;
                update(&|flow| flow.arrived.extend_from_slice(&buffer[..count]));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    update(&|flow| flow.ended = true);
}
