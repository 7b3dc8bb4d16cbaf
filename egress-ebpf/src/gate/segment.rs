//! What leaves of a flow that must name its server. This is the authority: what it does not see to be
//! part of a hello that was judged does not leave.

use super::{deny, is, name, place, queued_up_to, report, source::Payload};
use crate::{
    error::Denied,
    maps::{NAMED_FLOWS, Socket, Spoken, spoken},
    packet::{self, AT_START, Packet, Segment},
};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_sk_fullsock, programs::SkBuffContext};
use core::ffi::c_void;
use egress_common::{
    DropReason, GateState,
    hello::{self, Hello, Source, Unread},
};

/// Whether a packet of a flow under the gate may leave. Where it may not, TCP keeps it, and tries again.
#[inline(always)]
pub fn may_leave(ctx: &SkBuffContext, socket: &mut Socket, packet: &Packet) -> bool {
    if is(socket, GateState::Open) {
        return true;
    }
    let skb = ctx.skb.skb;
    let Some(segment) = packet::segment::<AT_START>(skb) else { return false };
    if segment.length == 0 {
        return true;
    }
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return false;
    }
    let sk: *mut c_void = unsafe { bpf_sk_fullsock(sk) }.cast();
    if sk.is_null() {
        return false;
    }
    let Some(spoken) = spoken(sk) else { return false };
    if is(socket, GateState::New) {
        // Nobody has written it down who sends with the SYN.
        spoken.key.source = packet.source();
        spoken.key.source_port = packet.source_port;
    }
    match judge(skb, sk, socket, spoken, &segment) {
        Ok(()) => true,
        Err(Stop::Hold) => false,
        Err(Stop::Deny(reason)) => {
            deny(socket, spoken, report::Who::made(socket), &Denied::because(reason));
            false
        }
    }
}

/// Whether an open flow may go on after the policy was replaced, as far as its server name goes: the
/// daemon has taken away what the policy denies. Returns the rule of the flow, that began by `rule`.
#[inline(always)]
pub fn judge_again(ctx: &SkBuffContext, socket: &Socket, rule: u32) -> Result<u32, Denied> {
    let has_named = is(socket, GateState::Named)
        || is(socket, GateState::Said)
        || is(socket, GateState::Retried)
        || is(socket, GateState::Open);
    if !has_named {
        return Ok(rule);
    }
    let removed = Denied { reason: DropReason::RuleRemoved, rule };
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return Err(removed);
    }
    let sk: *mut c_void = unsafe { bpf_sk_fullsock(sk) }.cast();
    if sk.is_null() {
        return Err(removed);
    }
    let spoken = spoken(sk).ok_or(removed)?;
    // What TCP sends after it is done with the flow carries nothing.
    if spoken.named == 1 {
        return Ok(unsafe { NAMED_FLOWS.get(&spoken.key) }.ok_or(removed)?.rule);
    }
    Ok(rule)
}

/// Why a packet does not leave.
enum Stop {
    /// It may later.
    Hold,
    Deny(DropReason),
}

const SKIPPED: Stop = Stop::Deny(DropReason::HelloSkipped);

#[inline(always)]
fn judge(
    skb: *const __sk_buff,
    sk: *mut c_void,
    socket: &mut Socket,
    spoken: &mut Spoken,
    segment: &Segment,
) -> Result<(), Stop> {
    if is(socket, GateState::Denied) {
        return Err(Stop::Hold);
    }
    if is(socket, GateState::New) || !super::is_there() {
        return Err(SKIPPED);
    }
    let begin = segment.sequence.wrapping_sub(spoken.first);
    let end = begin.wrapping_add(segment.length);
    let queued = queued_up_to(sk).ok_or(SKIPPED)?.wrapping_sub(spoken.first);
    let hello = spoken.hello.length;
    if is(socket, GateState::Said) {
        return says_more(skb, spoken, segment, begin);
    }
    let mut payload = Payload { skb, at: segment.payload };
    let is_second = is(socket, GateState::Retried);
    if is_second {
        if begin < end && end <= spoken.judged {
            // Sent before, and judged then.
            return Ok(());
        }
        if begin != spoken.judged {
            return Err(if begin < spoken.judged { SKIPPED } else { Stop::Hold });
        }
        if !place::is_private(skb) {
            return Err(SKIPPED);
        }
        if let Some(octets) = payload.octets::<6>(0) {
            if octets == CHANGE_CIPHER_SPEC && !spoken.has_changed() {
                payload.at += 6;
            }
            if payload.at != segment.payload && segment.length == 6 {
                spoken.judged += 6;
                return Ok(());
            }
        } else if payload.octets::<1>(0) == Some([CHANGE_CIPHER_SPEC[0]]) {
            return Err(if queued == end { Stop::Hold } else { SKIPPED });
        }
    } else if begin != 0 || spoken.heard != 0 {
        return Err(SKIPPED);
    } else if queued < hello {
        return Err(hold(spoken, queued));
    }
    let there = segment.length - (payload.at - segment.payload);
    let whole = if is_second { there } else { hello };
    match hello::record_length(&mut payload, whole) {
        Ok(length) if is_second && length != there => return Err(SKIPPED),
        Ok(length) if !is_second && (length != hello || there > hello) => return Err(SKIPPED),
        Ok(_) => {}
        // More of it is to come, into this packet: into another, it could not be judged.
        Err(Unread::More(_)) if is_second && queued == end => return Err(Stop::Hold),
        Err(_) => return Err(SKIPPED),
    }
    let length = if is_second { there } else { hello };
    match hello::read(&mut payload, length, &mut spoken.shown, &mut spoken.kinds) {
        Ok(()) => {}
        // The rest of it is in packets behind this one.
        Err(Unread::Cut) if !is_second && there < hello => {}
        Err(unread) if is_second => return Err(Stop::Deny(name::reason(unread))),
        Err(_) => return Err(SKIPPED),
    }
    let is_long = !is_second && (there < hello || (hello > SURELY_WHOLE && place::can_tell()));
    if is_long && !spoken.place.holds(skb, segment, 0) {
        return Err(Stop::Deny(DropReason::HelloUnreadable));
    }
    spoken.is_long = u32::from(is_long);
    if !(is_long && there < hello && spoken.shown.name().is_none()) {
        shows_the_name(&payload, spoken)?;
    }
    if is_second && spoken.shown.has(Hello::ECH) && !spoken.hello.has(Hello::ECH) {
        return Err(Stop::Deny(DropReason::EchNotAllowed));
    }
    socket.gate = if is_second { GateState::Open } else { GateState::Said } as u16;
    Ok(())
}

/// Keeps a packet back whose hello is not all there, for as long as more of it comes.
#[inline(always)]
fn hold(spoken: &mut Spoken, queued: u32) -> Stop {
    if queued > spoken.held_at {
        spoken.held_at = queued;
        spoken.held = 0;
    }
    spoken.held += 1;
    if spoken.held > MAX_HELD { SKIPPED } else { Stop::Hold }
}

/// A packet that was held so often is one whose rest nobody is sending.
const MAX_HELD: u32 = 4;

/// What TCP takes at once, even where memory is short: less than the first number of net.ipv4.tcp_wmem
/// (net/ipv4/tcp.c, tcp_wmem_schedule). Of a longer hello, a part may be queued, and something else behind it.
const SURELY_WHOLE: u32 = 2048;

/// RFC 8446, appendix D.4: of TLS 1.2, one octet.
const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// After the hello, nothing before the server has answered: it may ask for another one. Of the hello, nothing
/// that was not read.
#[inline(always)]
fn says_more(skb: *const __sk_buff, spoken: &Spoken, segment: &Segment, begin: u32) -> Result<(), Stop> {
    let (end, hello) = (begin.wrapping_add(segment.length), spoken.hello.length);
    if begin >= hello {
        return Err(Stop::Hold);
    }
    let is_within = begin < end && end <= hello;
    if is_within && (spoken.is_long == 0 || spoken.place.holds(skb, segment, begin)) {
        Ok(())
    } else {
        Err(SKIPPED)
    }
}

/// Whether the hello in a packet names the server that was judged.
#[inline(always)]
fn shows_the_name(payload: &Payload, spoken: &mut Spoken) -> Result<(), Stop> {
    let unreadable = Stop::Deny(DropReason::HelloUnreadable);
    let (at, length) = spoken.shown.name().ok_or(unreadable)?;
    name::clear(&mut spoken.shown_name);
    payload.copy(at, length, &mut spoken.shown_name).ok_or(Stop::Deny(DropReason::HelloUnreadable))?;
    let shown = hello::fold(&mut spoken.shown_name, length);
    if shown.length != spoken.flow.length
        || !name::is_same(&spoken.shown_name, &spoken.flow.name, shown.length)
    {
        // For the record: what it is denied for.
        name::copy(&spoken.shown_name, &mut spoken.flow.name);
        spoken.flow.length = shown.length;
        return Err(Stop::Deny(DropReason::ServerNameChanged));
    }
    Ok(())
}
