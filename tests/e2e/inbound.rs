//! Nothing new comes in to an agent.

use crate::{
    AGENT, fence,
    lab::Lab,
    places::{EVIL, HOST_V4},
    policies::COMMON,
    program::{Program, poll, poll_for},
    talker::Talker,
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Stdio,
    time::Duration,
};

#[test]
fn nothing_connects_to_an_agent_that_listens() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    // To be denied the listener is as good.
    let listens = talker.tell(&format!("listen {PORT}")) == "ok";
    assert!(!knock(fence.lab()), "an agent was reached from outside");
    assert!(!listens || talker.tell("accept") != "ok", "something came in to an agent");

    let mut command = fence.lab().command(&["/usr/bin/python3", crate::attack::TRICKS, "serve"]);
    command.stdin(Stdio::piped());
    let mut unfenced = Program::start(command);
    // The agent's own listener holds the port until the agent is gone.
    drop(talker);
    poll("the port to be free", || {
        let before = unfenced.stdout().len();
        writeln!(unfenced.stdin(), "listen {PORT}").expect("it reads");
        poll("an answer", || (unfenced.stdout().len() > before).then_some(()));
        unfenced.stdout()[before..].starts_with("ok").then_some(())
    });
    assert!(knock(fence.lab()), "the knock proves nothing: unfenced nobody hears it");
}

#[test]
fn a_flow_that_is_open_brings_its_answers_in() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    for trick in ["udp_connected 10.99.0.10 9000 a", "udp_sendto fd99::10 9000 b", "tcp 10.99.0.10 9000 c"] {
        talker.does(trick);
    }
}

/// Whether a datagram or a connection from the internet gets anything of the host's [`PORT`].
fn knock(lab: &Lab) -> bool {
    lab.on_inet(|| {
        let host = SocketAddr::from((HOST_V4, PORT));
        let sender = UdpSocket::bind((EVIL.v4, 0)).expect("a socket can be bound");
        sender.send_to(b"knock", host).expect("the link is up");
        let connected = TcpStream::connect_timeout(&host, Duration::from_secs(1));
        connected.is_ok_and(|mut flow| {
            // By cookie, the handshake may look done from here when no one will ever accept.
            flow.write_all(b"knock").is_ok() && is_acknowledged(&mut flow)
        })
    })
}

/// Whether the other end takes what was written.
fn is_acknowledged(flow: &mut TcpStream) -> bool {
    use std::os::fd::AsRawFd;
    let unsent = || {
        let mut count: libc::c_int = 0;
        // SAFETY: the request writes an int to where it is told.
        let result = unsafe { libc::ioctl(flow.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        (result == 0 && count == 0).then_some(())
    };
    let taken = poll_for(Duration::from_secs(1), unsent).is_some();
    flow.set_nonblocking(true).expect("a flow can be made to not wait");
    let is_reset =
        matches!(flow.read(&mut [0]), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock);
    taken && !is_reset
}

const PORT: u16 = 8222;
