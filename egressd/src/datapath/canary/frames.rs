//! Whole frames, as one who stands below the IP stack would send them, at the link whose far end
//! judges: what a sealed agent can do with every capability over its own network.

use super::{
    packet::{holds, packet, tcp, udp},
    places::{BOTH, CLOSED, Family, GUARDED, at},
    tap::ethertype,
    world::{World, judged_link},
};
use egress_common::{AGENT_MAC, GATEWAY_MAC};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// One frame, and whether it may arrive.
struct Frame {
    what: &'static str,
    octets: Vec<u8>,
    arrives: bool,
}

/// What was seen of the frames of one family: how many there were, and what went wrong.
#[derive(Debug, Default)]
pub struct Frames {
    pub count: usize,
    pub leaked: Vec<&'static str>,
    pub lost: Vec<&'static str>,
}

/// Sends every frame of `family`, marked with what `mark` gives for its number, and looks which came
/// through. The last one must: whatever was sent before it has arrived by then.
pub fn prove(world: &World, family: Family, patience: Duration, mark: impl Fn(usize) -> Vec<u8>) -> Frames {
    // What was still under way when the last round ended has been judged by then: let it go.
    world.judged.rest(family).for_each(drop);
    let frames = frames(family, &mark);
    for frame in &frames {
        // What is not sent does not arrive, and is told so where it must.
        let _ = world.raw.send(&frame.octets);
    }
    let deadline = Instant::now() + patience;
    let mut seen = vec![false; frames.len()];
    let mut note = |packet: &[u8]| {
        for (number, seen) in seen.iter_mut().enumerate() {
            *seen |= holds(packet, &mark(number));
        }
        seen.last().copied().unwrap_or(true)
    };
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        && let Some(packet) = world.judged.next(family, left)
        && !note(&packet)
    {}
    let mut outcome = Frames { count: frames.len(), ..Frames::default() };
    for (frame, seen) in frames.iter().zip(seen) {
        match (frame.arrives, seen) {
            (false, true) => outcome.leaked.push(frame.what),
            (true, false) => outcome.lost.push(frame.what),
            (true, true) | (false, false) => {}
        }
    }
    outcome
}

/// Every frame of one family.
fn frames(family: Family, mark: impl Fn(usize) -> Vec<u8>) -> Vec<Frame> {
    let link = judged_link();
    let own: IpAddr = match family {
        Family::V4 => link.v4.into(),
        Family::V6 => link.v6.into(),
    };
    let (from, to) = (at(own, OWN_PORT), at(family.granted(), BOTH));
    let plain = |content| ethernet(GATEWAY_MAC, AGENT_MAC, family, content);
    let datagram = |to: SocketAddr| move |mark: &[u8]| udp(from, to, mark).map(plain);
    let table: Vec<(&'static str, Make<'_>, bool)> = vec![
        ("a frame to an address without a grant", Box::new(datagram(at(family.denied(), CLOSED))), false),
        (
            "a frame to a granted address at another port",
            Box::new(datagram(at(family.granted(), CLOSED))),
            false,
        ),
        ("a frame by a grant that expired", Box::new(datagram(at(family.expired(), BOTH))), false),
        (
            "a frame to a network of a deny rule",
            Box::new(datagram(at(family.denied_in_network(), BOTH))),
            false,
        ),
        (
            "a frame around the proxy",
            Box::new(|mark| tcp(from, at(family.granted(), GUARDED), mark).map(plain)),
            false,
        ),
        (
            "a frame with a forged source address",
            Box::new(|mark| udp(at(family.own(), OWN_PORT), to, mark).map(plain)),
            false,
        ),
        (
            "a frame with a forged hardware address",
            Box::new(|mark| udp(from, to, mark).map(|it| ethernet(GATEWAY_MAC, STRANGER, family, it))),
            false,
        ),
        (
            "a frame to everybody on the link",
            Box::new(|mark| udp(from, to, mark).map(|it| ethernet(EVERYBODY, AGENT_MAC, family, it))),
            false,
        ),
        ("a frame of a virtual network", Box::new(|mark| udp(from, to, mark).map(plain).map(tagged)), false),
        ("a frame with an echo request", Box::new(|mark| echo(from, to, mark).map(plain)), false),
        ("a frame with a fragment", Box::new(|mark| fragment(from, to, mark).map(plain)), false),
        ("a frame with an opening segment", Box::new(|mark| tcp(from, to, mark).map(plain)), true),
        ("a frame to a network of a rule", Box::new(datagram(at(family.in_network(), BOTH))), true),
        ("a frame to a granted address", Box::new(datagram(to)), true),
    ];
    let made = table.into_iter().enumerate();
    made.map(|(number, (what, make, arrives))| Frame {
        what,
        octets: make(&mark(number)).unwrap_or_default(),
        arrives,
    })
    .collect()
}

/// Makes one frame that carries a mark.
type Make<'a> = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + 'a>;

const OWN_PORT: u16 = 7001;
/// Locally administered, and nobody's.
const STRANGER: [u8; 6] = *b"\x0aegr\x00\x03";
const EVERYBODY: [u8; 6] = [0xff; 6];

fn ethernet(to: [u8; 6], from: [u8; 6], family: Family, content: Vec<u8>) -> Vec<u8> {
    [&to[..], &from, &ethertype(family).to_be_bytes(), &content].concat()
}

/// With a tag of network 1 (IEEE 802.1Q).
fn tagged(frame: Vec<u8>) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0, 0, 1], rest].concat()
}

/// RFC 792, RFC 4443. Nobody looks at its checksum on the way.
fn echo(from: SocketAddr, to: SocketAddr, mark: &[u8]) -> Option<Vec<u8>> {
    let (protocol, kind) = if from.is_ipv4() { (1, 8) } else { (58, 128) };
    packet(from.ip(), to.ip(), protocol, [&[kind, 0, 0, 0, 0, 1, 0, 1][..], mark].concat(), None)
}

/// The first fragment of a datagram (RFC 791, section 3.2; RFC 8200, section 4.5).
fn fragment(from: SocketAddr, to: SocketAddr, mark: &[u8]) -> Option<Vec<u8>> {
    const MORE: u8 = 0x20;
    let whole = udp(from, to, mark)?;
    if from.is_ipv4() {
        let mut first = whole;
        *first.get_mut(6)? = MORE;
        return Some(first);
    }
    let datagram = whole.get(40..)?;
    packet(from.ip(), to.ip(), 44, [&[egress_common::UDP, 0, 0, 1, 0, 0, 0, 1][..], datagram].concat(), None)
}
