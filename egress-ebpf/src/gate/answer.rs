//! The server's first octets: whether it asks for a second hello, before anything but that may leave.

use super::{deny, is, report, source::Payload};
use crate::{
    error::Denied,
    maps::{Socket, spoken},
    packet::{self, AT_START, Packet},
};
use aya_ebpf::{helpers::generated::bpf_sk_fullsock, programs::SkBuffContext};
use core::ffi::c_void;
use egress_common::{
    DropReason, GateState, TCP,
    hello::{HANDSHAKE, RECORD_HEADER, RETRY, Source},
};

/// Notes what a packet that is about to reach the socket says.
#[inline(always)]
pub fn hear(ctx: &SkBuffContext, socket: &mut Socket, packet: &Packet) {
    let listens = is(socket, GateState::New) || is(socket, GateState::Named) || is(socket, GateState::Said);
    if !listens
        || packet.transport != TCP
        || packet.source_port != socket.flow_port
        || packet.source() != socket.flow_address
    {
        return;
    }
    let skb = ctx.skb.skb;
    let Some(segment) = packet::segment::<AT_START>(skb) else { return };
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if segment.length == 0 || sk.is_null() {
        return;
    }
    let sk: *mut c_void = unsafe { bpf_sk_fullsock(sk) }.cast();
    if sk.is_null() {
        return;
    }
    let Some(spoken) = spoken(sk) else { return };
    if !is(socket, GateState::Said) {
        spoken.heard = 1;
        return;
    }
    // What came too early is kept by TCP, and what is before it comes again.
    if segment.sequence != spoken.server_first {
        return;
    }
    // Who answers before the hello is there answers something else.
    let hello = spoken.first.wrapping_add(spoken.hello.length);
    if hello.wrapping_sub(segment.acknowledged).cast_signed() > 0 {
        return deny(socket, spoken, report::Who::made(socket), &Denied::because(DropReason::NotTls));
    }
    match read(&mut Payload { skb, at: segment.payload }) {
        Some(Answer::Hello) => socket.gate = GateState::Open as u16,
        Some(Answer::Retry) => {
            spoken.judged = spoken.hello.length;
            socket.gate = GateState::Retried as u16;
        }
        None => {
            let unreadable = Denied::because(DropReason::HelloUnreadable);
            deny(socket, spoken, report::Who::made(socket), &unreadable);
        }
    }
}

enum Answer {
    /// The handshake goes on, or ends; or the server speaks something else.
    Hello,
    /// HelloRetryRequest (RFC 8446, section 4.1.4).
    Retry,
}

/// None if what is there does not tell.
#[inline(always)]
fn read(payload: &mut Payload) -> Option<Answer> {
    let mut head = payload.octets::<{ RECORD_HEADER as usize }>(0)?;
    // A warning in front, as some servers have for a name that they do not know (RFC 6066, section 3).
    if head[0] == ALERT && payload.octets::<1>(RECORD_HEADER)? == [WARNING] {
        payload.at += RECORD_HEADER + 2;
        head = payload.octets(0)?;
    }
    let [kind, _, _, high, low] = head;
    if kind == ALERT && payload.octets::<1>(RECORD_HEADER)? == [WARNING] {
        return None;
    }
    if kind != HANDSHAKE {
        return Some(Answer::Hello);
    }
    let carried = u32::from(high) << 8 | u32::from(low);
    if carried == 0 {
        return None;
    }
    let [message] = payload.octets(RECORD_HEADER)?;
    if message != SERVER_HELLO {
        return Some(Answer::Hello);
    }
    if carried < RANDOM - RECORD_HEADER + 32 {
        return None;
    }
    let random = payload.octets::<32>(RANDOM)?;
    let mut difference = 0;
    for (octet, of_retry) in random.iter().zip(RETRY) {
        difference |= octet ^ of_retry;
    }
    Some(if difference == 0 { Answer::Retry } else { Answer::Hello })
}

// RFC 8446, sections 4, 5.1 and 6.
const ALERT: u8 = 21;
const WARNING: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Behind the headers of record and handshake, and the version.
const RANDOM: u32 = RECORD_HEADER + 4 + 2;
