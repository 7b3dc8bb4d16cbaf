//! The hello as it is sent: held until it is whole, read, and sent on or answered with an alert.

use super::{
    deny, is,
    name::{self, clear},
    place::Place,
    queued_up_to, report,
    source::Message,
};
use crate::{
    budget::{self, Payers},
    error::Denied,
    maps::{NAMED_FLOWS, SILENT, Socket, Spoken, socket, spoken},
    service,
};
use aya_ebpf::{
    bindings::{BPF_F_INGRESS, sk_msg_md},
    helpers::generated::{
        bpf_msg_apply_bytes, bpf_msg_cork_bytes, bpf_msg_pop_data, bpf_msg_pull_data, bpf_msg_push_data,
        bpf_msg_redirect_hash,
    },
    programs::SkMsgContext,
};
use core::{ffi::c_void, ptr};
use egress_common::{
    DropReason, GateState,
    hello::{self, MAX_HELLO, RECORD_HEADER, Unread},
};

/// include/uapi/linux/bpf.h, enum sk_action.
const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;

/// What the kernel does with a message of a socket that said nothing yet.
#[inline(always)]
pub fn judge(ctx: &SkMsgContext) -> u32 {
    let message = ctx.msg;
    let sk: *mut c_void = unsafe { (*message).__bindgen_anon_3.sk }.cast();
    if sk.is_null() {
        return SK_DROP;
    }
    let Some(socket) = socket(sk) else { return SK_DROP };
    let Some(spoken) = spoken(sk) else { return SK_DROP };
    // What follows the hello in one call is sent again by its caller, through a plain socket.
    if !is(socket, GateState::New) {
        // The hello's length still stands there, and would have the kernel count no more than that as not
        // sent: its caller would skip what is beyond.
        unsafe { bpf_msg_apply_bytes(message, 0) };
        return SK_DROP;
    }
    match examine(message, sk, socket, spoken) {
        Ok(()) => SK_PASS,
        Err(Stop::Wait(octets)) => {
            // A cork that is honoured ignores the verdict; one that is not (17 fragments) denies.
            unsafe { bpf_msg_cork_bytes(message, octets) };
            SK_DROP
        }
        Err(Stop::Deny(denied)) => {
            deny(socket, spoken, report::Who::current(), &denied);
            match denied.reason {
                DropReason::NotTls => SK_DROP,
                _ => alert(message, spoken),
            }
        }
    }
}

/// Why a message does not go on.
enum Stop {
    /// Until there are so many octets.
    Wait(u32),
    Deny(Denied),
}

impl Stop {
    #[inline(always)]
    fn because(reason: DropReason) -> Self {
        Self::Deny(Denied::because(reason))
    }

    #[inline(always)]
    fn unread(unread: Unread) -> Self {
        match unread {
            Unread::More(octets) => Self::Wait(octets),
            other => Self::because(name::reason(other)),
        }
    }
}

#[inline(always)]
fn examine(
    message: *mut sk_msg_md,
    sk: *mut c_void,
    socket: &mut Socket,
    spoken: &mut Spoken,
) -> Result<(), Stop> {
    spoken.flow.length = 0;
    clear(&mut spoken.flow.name);
    // Nobody may have queued bytes behind our back: a send that slept until the socket was connected,
    // or data with the SYN.
    if queued_up_to(sk) != Some(spoken.first) {
        return Err(Stop::because(DropReason::HelloSkipped));
    }
    if spoken.heard != 0 {
        return Err(Stop::because(DropReason::NotTls));
    }
    let there = unsafe { (*message).size };
    let mut head = Message::pull(message, there.min(RECORD_HEADER)).ok_or(Stop::because(UNREADABLE))?;
    let length = hello::record_length(&mut head, there).map_err(Stop::unread)?;
    // In one piece, so that TCP sends it in as few packets as it can.
    let mut whole = Message::pull(message, length).ok_or(Stop::because(UNREADABLE))?;
    hello::read(&mut whole, length, &mut spoken.hello, &mut spoken.kinds).map_err(Stop::unread)?;
    let (at, octets) = spoken.hello.name().ok_or(Stop::because(DropReason::ServerNameMissing))?;
    whole.copy(at, octets, &mut spoken.flow.name).ok_or(Stop::because(UNREADABLE))?;
    let said = hello::fold(&mut spoken.flow.name, octets);
    spoken.flow.length = said.length;
    let granted = name::judge(socket, &spoken.hello, &said, &spoken.flow.name).map_err(Stop::Deny)?;
    pays(socket, granted.rule)?;
    if there > length {
        ends_at(message, length).ok_or(Stop::because(UNREADABLE))?;
    }
    spoken.place = Place::of(message, length);
    spoken.flow.rule = granted.rule;
    if NAMED_FLOWS.insert(&spoken.key, &spoken.flow, 0).is_err() {
        return Err(Stop::because(DropReason::QuotaExceeded));
    }
    spoken.named = 1;
    socket.flow_rule = granted.rule;
    socket.gate = GateState::Named as u16;
    report::permit(socket, spoken, granted);
    // A cork that is left would hold back every short message after this one.
    unsafe { bpf_msg_cork_bytes(message, 0) };
    unsafe { bpf_msg_apply_bytes(message, length) };
    Ok(())
}

/// Takes a flow by `rule`, which the socket carries from here on.
#[inline(always)]
fn pays(socket: &mut Socket, rule: u32) -> Result<(), Stop> {
    let config = service::config(socket.agent).map_err(Stop::Deny)?;
    if budget::is_bounded(config) {
        let payers = Payers::of(config, socket.agent, rule);
        payers.take(0, 1).map_err(Stop::Deny)?;
        socket.flow_budget = payers.of_rule;
    }
    Ok(())
}

/// Makes a piece of its own of the first `length` octets: TCP would wait for more to send with a part of
/// one. An octet that is put in between and taken out again does it.
#[inline(always)]
fn ends_at(message: *mut sk_msg_md, length: u32) -> Option<()> {
    let split = unsafe {
        bpf_msg_push_data(message, length, 1, 0) == 0 && bpf_msg_pop_data(message, length, 1, 0) == 0
    };
    split.then_some(())
}

const UNREADABLE: DropReason = DropReason::HelloUnreadable;

/// Turns the message into a fatal alert that its own sender reads: access_denied (RFC 8446, section
/// 6.2). Nothing leaves.
#[inline(always)]
fn alert(message: *mut sk_msg_md, spoken: &Spoken) -> u32 {
    let size = unsafe { (*message).size };
    let length = ALERT.len() as u32;
    if size <= length || size > MAX_MESSAGE {
        return SK_DROP;
    }
    unsafe {
        if bpf_msg_pop_data(message, length, size - length, 0) != 0
            || bpf_msg_pull_data(message, 0, length, 0) != 0
        {
            return SK_DROP;
        }
        let data = ptr::read_volatile(&raw const (*message).__bindgen_anon_1.data) as usize;
        let end = ptr::read_volatile(&raw const (*message).__bindgen_anon_2.data_end) as usize;
        if data + ALERT.len() > end {
            return SK_DROP;
        }
        *(data as *mut [u8; 7]) = ALERT;
        // A cork that is left would hold it back.
        bpf_msg_cork_bytes(message, 0);
        let mut cookie = spoken.flow.cookie;
        let silent = (&raw const SILENT).cast_mut().cast();
        bpf_msg_redirect_hash(message, silent, (&raw mut cookie).cast(), BPF_F_INGRESS.into()) as u32
    }
}

/// Record type 21 of TLS 1.2, 2 octets; fatal, access_denied.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];
/// Above what a hello can be, a message may be in more pieces than the helpers take.
const MAX_MESSAGE: u32 = 4 * MAX_HELLO;
