//! The proof of the programs that read server names: TLS as the canary speaks it, to a server in its
//! world, and what arrives there.

use super::{
    places::{Family, GATED, NAME, OTHER_NAME, at},
    world::Services,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read, Write},
    time::Duration,
};

/// What flows that must name their server showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFindings {
    pub probes: usize,
    /// What arrived and must not.
    pub leaked: Vec<String>,
    /// What must arrive and did not.
    pub lost: Vec<String>,
}

impl NameFindings {
    /// Why the programs are not to be trusted; None where everything was as it must be.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        match (self.leaked.first(), self.lost.first()) {
            (Some(leaked), _) => Some(format!("{leaked} got past the programs")),
            (None, Some(lost)) => Some(format!("{lost} did not arrive")),
            (None, None) if self.probes == 0 => Some("nothing was tried".to_owned()),
            (None, None) => None,
        }
    }

    fn note(&mut self, family: Family, what: &str, outcome: Outcome) {
        self.probes += 1;
        let what = format!("{what} ({})", family.word());
        match outcome {
            Outcome::AsItMust => {}
            Outcome::Leaked => self.leaked.push(what),
            Outcome::Lost => self.lost.push(what),
        }
    }
}

enum Outcome {
    AsItMust,
    Leaked,
    Lost,
}

/// Tries everything once in one family.
pub fn prove(services: &Services, findings: &mut NameFindings) {
    let family = services.family;
    // What was refused in an earlier round may wait there still.
    let _ = services.server.set_nonblocking(true);
    while services.server.accept().is_ok() {}
    let _ = services.server.set_nonblocking(false);
    let false_name = speak(services, &[&hello(OTHER_NAME)]);
    let raw = speak(services, &[b"egressd canary", &hello(NAME)]);
    // Last: whatever the others sent has arrived by then.
    findings.note(family, "a true server name in pieces, or the answer to it", converse(services));
    findings.note(family, "a flow with a false server name", heard(false_name, Some(ALERT)));
    findings.note(family, "a flow that begins with other bytes than a ClientHello", heard(raw, None));
}

/// How long the server in the world next door may take. Microseconds, but for a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// A fatal alert, access_denied (RFC 8446, section 6.2).
const ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 49];

/// Both ends of a connection.
struct Ends {
    agent: Socket,
    server: Socket,
}

fn connect(services: &Services) -> io::Result<Ends> {
    let to = at(services.family.gated(), GATED);
    let agent = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    agent.connect_timeout(&to.into(), PATIENCE)?;
    agent.set_read_timeout(Some(PATIENCE))?;
    services.server.set_read_timeout(Some(PATIENCE))?;
    let (server, _) = services.server.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    Ok(Ends { agent, server })
}

/// Sends what must not arrive. That the calls fail is no matter: what arrived tells.
fn speak(services: &Services, pieces: &[&[u8]]) -> io::Result<Ends> {
    let mut ends = connect(services)?;
    for piece in pieces {
        let _ = ends.agent.write(piece);
    }
    Ok(ends)
}

/// Whether nothing arrived at the server, and the agent was told `answer`.
fn heard(ends: io::Result<Ends>, answer: Option<&[u8]>) -> Outcome {
    let Ok(mut ends) = ends else { return Outcome::Lost };
    let mut octets = [0; 64];
    let arrived = ends.server.set_nonblocking(true).and_then(|()| ends.server.read(&mut octets));
    if arrived.is_ok_and(|count| count > 0) {
        return Outcome::Leaked;
    }
    let Some(answer) = answer else { return Outcome::AsItMust };
    match ends.agent.read(&mut octets) {
        Ok(count) if octets.get(..count) == Some(answer) => Outcome::AsItMust,
        Ok(_) | Err(_) => Outcome::Lost,
    }
}

/// A hello that is granted, in pieces, its answer, and what follows.
fn converse(services: &Services) -> Outcome {
    let talk = || -> io::Result<bool> {
        let Ends { mut agent, mut server } = connect(services)?;
        agent.set_tcp_nodelay(true)?;
        let (hello, answer) = (hello(NAME), server_hello());
        for piece in [&hello[..1], &hello[1..5], &hello[5..]] {
            agent.write_all(piece)?;
        }
        let mut octets = vec![0; hello.len()];
        server.read_exact(&mut octets)?;
        let as_sent = octets == hello;
        server.write_all(&answer)?;
        octets.resize(answer.len(), 0);
        agent.read_exact(&mut octets)?;
        agent.write_all(AFTER)?;
        let answered = octets == answer;
        octets.resize(AFTER.len(), 0);
        server.read_exact(&mut octets)?;
        Ok(as_sent && answered && octets == AFTER)
    };
    match talk() {
        Ok(true) => Outcome::AsItMust,
        Ok(false) | Err(_) => Outcome::Lost,
    }
}

/// What may leave once the server has answered.
const AFTER: &[u8] = b"egressd canary, behind its hello";

/// A ClientHello (RFC 8446, section 4.1.2) for `name`.
fn hello(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &counted(name.as_bytes())].concat();
    let server_name = [&[0, 0][..], &counted(&counted(&entry))].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = counted(&[&server_name[..], &versions].concat());
    // Version, random, no session, one cipher suite, no compression.
    let body = [&[3, 3][..], &[0x5a; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    record(1, &body)
}

/// A ServerHello (RFC 8446, section 4.1.3).
fn server_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[0xa5; 32], &[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    record(2, &body)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let handshake = [&[kind, 0][..], &counted(body)].concat();
    [&[22, 3, 1][..], &counted(&handshake)].concat()
}

/// `octets` behind their number.
fn counted(octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], octets].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_speaks_tls() {
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &hello(NAME)[..]).expect("read");
        // rustls asks for more extensions than are needed to read a name.
        match acceptor.accept() {
            Ok(Some(accepted)) => assert_eq!(accepted.client_hello().server_name(), Some(NAME)),
            Ok(None) => panic!("the hello is not whole"),
            Err((error, _)) => assert!(!error.to_string().contains("corrupt"), "{error}"),
        }
    }

    #[test]
    fn what_arrives_and_must_not_weighs_more_than_what_is_lost() {
        let mut findings = NameFindings::default();
        assert!(findings.doubt().is_some());
        findings.note(Family::V4, "one", Outcome::AsItMust);
        assert_eq!(findings.doubt(), None);
        findings.note(Family::V4, "two", Outcome::Lost);
        assert_eq!(findings.doubt().as_deref(), Some("two (ipv4) did not arrive"));
        findings.note(Family::V6, "three", Outcome::Leaked);
        assert_eq!(findings.doubt().as_deref(), Some("three (ipv6) got past the programs"));
    }
}
