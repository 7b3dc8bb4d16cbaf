//! The server-name gate: a flow to an address that names have earned goes straight there, once it has
//! named one of them.
//!
//! `message` reads the hello as it is sent, for a fast and readable denial; `segment` is the authority,
//! as it leaves; `place` tells it that what leaves is what was read; `answer` hears whether the server asks
//! for a second hello; `life` is the socket's.

pub mod answer;
pub mod life;
pub mod message;
mod name;
pub mod place;
mod report;
pub mod segment;
mod source;

use crate::{
    error::Denied,
    maps::{SILENT_COUNTS, Socket, Spoken, add, socket, spoken_or_insert},
    service, verdict,
};
use aya_ebpf::{
    bindings::bpf_sockopt,
    helpers::generated::{bpf_get_socket_cookie, bpf_skc_to_tcp_sock},
};
use core::{ffi::c_void, ptr};
use egress_common::{DropReason, GateOffsets, GateState, MAX_SILENT_PER_AGENT, TCP};
use place::Place;

/// Whether these programs can read server names on this kernel.
#[inline(always)]
pub fn is_there() -> bool {
    offsets().write_seq != 0
}

/// Puts a socket that is about to connect under the gate.
#[inline(always)]
pub fn begin(ctx: *mut c_void, sk: *mut c_void, socket: &mut Socket) -> Result<(), Denied> {
    let full = Denied::because(DropReason::QuotaExceeded);
    let spoken = spoken_or_insert(sk).ok_or(full)?;
    service::claim_place(socket)?;
    claim(socket).ok_or(full)?;
    spoken.flow.cookie = unsafe { bpf_get_socket_cookie(ctx) };
    spoken.flow.length = 0;
    spoken.held = 0;
    spoken.held_at = 0;
    spoken.heard = 0;
    spoken.is_long = 0;
    spoken.place = Place::UNKNOWN;
    socket.gate = GateState::New as u16;
    Ok(())
}

/// Gives back what [`begin`] took, when the socket is closed.
#[inline(always)]
pub fn release(socket: &mut Socket) {
    if socket.silent == 1 {
        if let Some(count) = SILENT_COUNTS.get_ptr_mut(&socket.agent) {
            add(count, -1);
        }
        socket.silent = 0;
    }
}

/// Whether the socket whose option is to be set has yet to name its server: what the kernel would wrap
/// around its bytes, these programs could not read.
#[inline(always)]
pub fn is_closed(option: &bpf_sockopt) -> bool {
    let sk = unsafe { option.__bindgen_anon_1.sk };
    if sk.is_null() {
        return true;
    }
    socket(sk.cast()).is_some_and(|socket| is_under(socket) && !is(socket, GateState::Open))
}

/// Whether the flow of a socket has to name its server, or had to.
#[inline(always)]
pub fn is_under(socket: &Socket) -> bool {
    !is(socket, GateState::None)
}

#[inline(always)]
fn is(socket: &Socket, state: GateState) -> bool {
    socket.gate == state as u16
}

#[inline(always)]
fn claim(socket: &mut Socket) -> Option<()> {
    if socket.silent == 0 {
        let count = match SILENT_COUNTS.get_ptr_mut(&socket.agent) {
            Some(count) => count,
            None => {
                // Of two that do this at once, one finds the other's.
                let _ = SILENT_COUNTS.insert(&socket.agent, &0, BPF_NOEXIST);
                SILENT_COUNTS.get_ptr_mut(&socket.agent)?
            }
        };
        if unsafe { *count } >= u64::from(MAX_SILENT_PER_AGENT) {
            return None;
        }
        add(count, 1);
        socket.silent = 1;
    }
    Some(())
}

/// Denies a flow, for ever, and reports it. What these programs could not judge, the proxy may: the
/// next flow to the address goes there.
#[inline(always)]
fn deny(socket: &mut Socket, spoken: &Spoken, who: report::Who, denied: &Denied) {
    let falls_back = denied.reason as u32 == DropReason::HelloUnreadable as u32
        || denied.reason as u32 == DropReason::HelloSkipped as u32;
    if falls_back {
        verdict::fall_back(socket.agent, TCP, &socket.flow_address, socket.flow_port);
    }
    report::denial(socket, spoken, who, denied);
    socket.gate = GateState::Denied as u16;
}

/// Up to where TCP holds bytes of the socket `sk`, as a sequence number.
#[inline(always)]
fn queued_up_to(sk: *mut c_void) -> Option<u32> {
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
    if tcp.is_null() {
        return None;
    }
    Some(unsafe { ptr::read_volatile(tcp.add(offsets().write_seq as usize).cast::<u32>()) })
}

#[inline(always)]
fn offsets() -> GateOffsets {
    // Volatile: the compiler sees zeros, the kernel what the daemon wrote over them.
    unsafe { ptr::read_volatile(&raw const GATE_OFFSETS) }
}

/// Written by the daemon before it loads the programs. With zeros, they send everything to the proxy.
#[unsafe(no_mangle)]
static GATE_OFFSETS: GateOffsets = GateOffsets::NONE;

/// include/uapi/linux/bpf.h.
const BPF_NOEXIST: u64 = 1;
