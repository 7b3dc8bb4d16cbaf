//! A socket's way under the gate: it connects, it leaves the map of those that said nothing, it ends.

use super::{is, is_under, release};
use crate::maps::{NAMED_FLOWS, SILENT, Socket, socket, spoken};
use aya_ebpf::{
    bindings::{
        BPF_ANY, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_HDR_OPT_LEN_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, bpf_sock_ops,
    },
    helpers::generated::{bpf_map_delete_elem, bpf_sock_hash_update, bpf_sock_ops_cb_flags_set},
    programs::SockOpsContext,
};
use core::{ffi::c_void, ptr};
use egress_common::{Address, GateState, NamedFlowKey, v4_mapped};

/// What TCP says of a socket.
#[inline(always)]
pub fn follow(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    let operation = unsafe { (*ops).op };
    let is_known = matches!(
        operation,
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB | BPF_SOCK_OPS_HDR_OPT_LEN_CB | BPF_SOCK_OPS_STATE_CB
    );
    // Of the states that a socket passes through, only the last one is waited for.
    let ends = || unsafe { (*ops).__bindgen_anon_1.args[1] } == TCP_CLOSE;
    if !is_known || (operation == BPF_SOCK_OPS_STATE_CB && !ends()) {
        return;
    }
    let sk: *mut c_void = unsafe { (*ops).__bindgen_anon_2.sk }.cast();
    if sk.is_null() {
        return;
    }
    let Some(socket) = socket(sk) else { return };
    if !is_under(socket) {
        return;
    }
    match operation {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => connected(ops, sk, socket),
        BPF_SOCK_OPS_HDR_OPT_LEN_CB => leaves(ops, sk, socket),
        _ => ended(sk),
    }
}

/// From here on, what it sends is judged as it sends it. If the map cannot take it, nothing that it
/// sends is ever judged, and so nothing leaves.
#[inline(always)]
fn connected(ops: *mut bpf_sock_ops, sk: *mut c_void, socket: &Socket) {
    let Some(spoken) = spoken(sk) else { return };
    if !is(socket, GateState::New) {
        return;
    }
    unsafe {
        spoken.first = (*ops).snd_nxt;
        spoken.server_first = (*ops).rcv_nxt;
        spoken.key = NamedFlowKey {
            agent: socket.agent,
            source_port: (*ops).local_port as u16,
            port: socket.flow_port,
            source: local_address(ops),
            address: socket.flow_address,
        };
        let mut cookie = spoken.flow.cookie;
        let silent = (&raw const SILENT).cast_mut().cast();
        if bpf_sock_hash_update(ops, silent, (&raw mut cookie).cast(), BPF_ANY.into()) != 0 {
            return;
        }
        set_flags(ops, flags(ops) | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG);
    }
}

/// TCP is about to send what was just approved: within that call, the socket is a plain one again.
#[inline(always)]
fn leaves(ops: *mut bpf_sock_ops, sk: *mut c_void, socket: &mut Socket) {
    if is(socket, GateState::New) || is(socket, GateState::Denied) {
        return;
    }
    let Some(spoken) = spoken(sk) else { return };
    let cookie = spoken.flow.cookie;
    unsafe { bpf_map_delete_elem((&raw const SILENT).cast_mut().cast(), (&raw const cookie).cast()) };
    release(socket);
    set_flags(ops, unsafe { flags(ops) } & !BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

#[inline(always)]
fn ended(sk: *mut c_void) {
    let Some(spoken) = spoken(sk) else { return };
    if spoken.named == 1 {
        let _ = NAMED_FLOWS.remove(&spoken.key);
        spoken.named = 0;
    }
}

/// Flags that programs of others have set stay.
#[inline(always)]
unsafe fn flags(ops: *mut bpf_sock_ops) -> u32 {
    unsafe { (*ops).bpf_sock_ops_cb_flags }
}

#[inline(always)]
fn set_flags(ops: *mut bpf_sock_ops, flags: u32) {
    let _ = unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
}

#[inline(always)]
unsafe fn local_address(ops: *mut bpf_sock_ops) -> Address {
    if unsafe { (*ops).family } == AF_INET {
        return v4_mapped(unsafe { (*ops).local_ip4 }.to_ne_bytes());
    }
    let mut address = [0; 16];
    let from = unsafe { &raw const (*ops).local_ip6 }.cast::<u32>();
    let to = (&raw mut address).cast::<u32>();
    for word in 0..4 {
        // One word at a time, as the kernel lets its context be read.
        unsafe { ptr::write_unaligned(to.add(word), ptr::read_volatile(from.add(word))) };
    }
    address
}

// include/linux/socket.h and include/net/tcp_states.h.
const AF_INET: u32 = 2;
const TCP_CLOSE: u32 = 7;
