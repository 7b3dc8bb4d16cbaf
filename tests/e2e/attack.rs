//! Tricks, and what the oracle says of them.
//!
//! A trick is a shell script in which `{host}`, `{v4}` and `{v6}` stand for the place that it is
//! about and `{mark}` for a text that must not be seen on the wire, `{hex}` in
//! hexadecimal. `{trick}` runs `tricks.py`. Before it is believed that
//! the fence stops a trick, the same trick must leak without the fence.

use crate::{
    fence::Agent,
    frame::{Frame, reassemble},
    lab::Lab,
    places::{EVIL, OK, Place, may_be_reached},
    program::poll_for,
    sniffer::mark,
};
use std::time::Duration;

/// Each of `tricks` works against [`OK`]; against [`EVIL`] the fence stops it, and nothing else
/// would.
pub fn tells_apart(agent: &Agent, tricks: &[&str]) {
    works(agent, OK, tricks);
    stops(agent, EVIL, tricks);
}

/// Each of `tricks` succeeds in the fence.
pub fn works(agent: &Agent, place: Place, tricks: &[&str]) {
    for trick in tricks {
        let outcome = agent.run(&script(trick, place, &mark()));
        assert!(outcome.succeeded(), "`{trick}` should work at {}: {outcome:#?}", place.name);
    }
}

/// Each of `tricks` puts nothing on the wire that may not be there, but does so without the fence.
///
/// All run fenced first, for a kernel may send on, for a while, what belongs to a flow that was
/// not fenced.
pub fn stops(agent: &Agent, place: Place, tricks: &[&str]) {
    stops_only_fenced(agent, place, tricks);
    leaks(agent.fence().lab(), place, tricks);
}

/// Like [`stops`], for what would do harm if it were run without the fence.
pub fn stops_only_fenced(agent: &Agent, place: Place, tricks: &[&str]) {
    let lab = agent.fence().lab();
    for trick in tricks {
        let mark = mark();
        let (outcome, frames) = violations(lab, &mark, || agent.run(&script(trick, place, &mark)));
        assert!(frames.is_empty(), "`{trick}` leaked {frames:#?}\nwith {outcome:#?}");
    }
}

/// Each of `tricks` puts something on the wire that the fence would have to stop.
pub fn leaks(lab: &Lab, place: Place, tricks: &[&str]) {
    for trick in tricks {
        let (mark, position) = (mark(), lab.sniffer().position());
        let outcome = lab.run(&script(trick, place, &mark));
        let is_seen = || {
            reassemble(lab.sniffer().since(position)).iter().any(|frame| violates(frame, &mark)).then_some(())
        };
        let leaked = poll_for(Duration::from_secs(2), is_seen).is_some();
        assert!(leaked, "`{trick}` proves nothing: unfenced it does not leak, {outcome:#?}");
    }
}

/// Runs `act`, and returns the frames that it should not have caused.
pub fn violations<T>(lab: &Lab, mark: &str, act: impl FnOnce() -> T) -> (T, Vec<Frame>) {
    let position = lab.sniffer().position();
    let value = act();
    lab.settle();
    (value, violations_since(lab, mark, position))
}

/// The frames since `position` that nobody with this mark should have caused.
pub fn violations_since(lab: &Lab, mark: &str, position: usize) -> Vec<Frame> {
    let mut frames = reassemble(lab.sniffer().since(position));
    frames.retain(|frame| violates(frame, mark));
    if frames.iter().any(|frame| frame.flow().is_some()) {
        // The kernel may still be closing what an unfenced twin opened.
        let known = lab.sniffer().flows_before(position);
        let is_known = |frame: &Frame| frame.flow().is_some_and(|flow| known.contains(&flow));
        frames.retain(|frame| frame.carries(mark.as_bytes()) || !is_known(frame));
    }
    frames
}

/// Whether no fenced agent may have caused `frame`: it carries the mark or a denied name, whatever
/// the protocol, or goes where nothing is allowed.
fn violates(frame: &Frame, mark: &str) -> bool {
    let strays = frame.destination().is_some_and(|address| !may_be_reached(address));
    frame.carries(mark.as_bytes())
        || frame.carries(DENIED_NAMES)
        || frame.carries(DENIED_NODE)
        || (strays && !frame.is_neighbour_discovery())
}

/// `trick` about `place`, as a script.
pub fn script(trick: &str, place: Place, mark: &str) -> String {
    let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
    trick
        .replace("{trick}", &format!("/usr/bin/python3 {TRICKS}"))
        .replace("{hex}", &hex)
        .replace("{host}", place.name)
        .replace("{v4}", &place.v4.to_string())
        .replace("{v6}", &place.v6.to_string())
        .replace("{mark}", mark)
}

/// The tricks that are too long for a line of shell.
pub const TRICKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/tricks.py");

/// What `evil.test` and `evil2.test` have in common, in DNS, TLS and HTTP alike.
const DENIED_NAMES: &[u8] = b"evil";

/// What an address that ends in those letters leaves of them in its solicited-node group, whose reports tell the
/// link of an anycast address that is joined (RFC 4291, section 2.7.1).
const DENIED_NODE: &[u8] = b"\xffvil";
