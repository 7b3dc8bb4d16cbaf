//! Real servers of names, on loopback: proof that ours are not the only ones that understand us.

use crate::lab::PATIENCE;
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// A server, for as long as this lives.
pub struct Program(Child);

impl Program {
    /// Starts `command`, and waits until it answers questions at `address`.
    pub fn start(command: &mut Command, address: SocketAddr) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it is installed");
        let mut program = Self(child);
        let start = Instant::now();
        while !answers(address) {
            assert!(program.0.try_wait().unwrap().is_none(), "{command:?} ended");
            assert!(start.elapsed() < PATIENCE, "{command:?} does not answer at {address}");
        }
        program
    }
}

/// Whether anything comes back for the root's SOA, soon.
fn answers(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let query = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1];
    socket.send_to(&query, address).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `program` to its end in `folder`; what it printed.
pub fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect("it is installed");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A place of loopback where nobody listens, and where the kernel puts nobody by itself.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (process::id() % 10_000) as u16 + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], 20_000 + offset % 10_000));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
