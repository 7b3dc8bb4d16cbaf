//! The kernel half: one match per program, from what a module decided to what the kernel does.
//!
//! Every program but two is attached to the cgroup above all agents, so that a cgroup below it is
//! denied from the moment it exists until the daemon has written its agent into the maps. `frames`
//! is attached to the host's end of each sealed agent's link, and `message` to the map of sockets that
//! said no name yet.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod agent;
mod budget;
mod connect;
mod device;
mod egress;
mod error;
mod frames;
mod gate;
mod ingress;
mod lsm;
mod maps;
mod note;
mod packet;
mod report;
mod service;
mod sockets;
mod verdict;

use aya_ebpf::{
    macros::{
        cgroup_device, cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt, classifier, lsm_cgroup,
        sk_msg, sock_ops,
    },
    programs::{
        DeviceContext, LsmContext, SkBuffContext, SkMsgContext, SockAddrContext, SockContext, SockOpsContext,
        SockoptContext, TcContext,
    },
};
use connect::Family;
use egress_common::Hook;

/// What a program returns to let the kernel go on, or to make it deny: EPERM for the caller.
const PASS: i32 = 1;
const DENY: i32 = 0;

/// What a program on a link returns to let others judge too, or to drop the frame
/// (include/uapi/linux/bpf.h, enum tcx_action_base).
const GO_ON: i32 = -1;
const DROP: i32 = 2;

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    match sockets::create(&ctx) {
        Ok(()) => PASS,
        Err(denied) => report::socket(&ctx, &denied),
    }
}

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    sockets::release(&ctx);
    PASS
}

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    if sockets::is_probe(&ctx) {
        return DENY;
    }
    match sockets::set_option(&ctx) {
        Ok(()) => PASS,
        Err(denied) => report::option(&ctx, &denied),
    }
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect::connect(&ctx, Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    connect::send(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    connect::send(&ctx, Family::V6)
}

// The kernel refuses recvmsg and getpeername programs that could return anything but 1.

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    connect::hide_redirect(&ctx, Family::V4);
    PASS
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    connect::hide_redirect(&ctx, Family::V6);
    PASS
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    connect::hide_redirect(&ctx, Family::V4);
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    connect::hide_redirect(&ctx, Family::V6);
    PASS
}

// In one function with its wrapper: Linux 6.1 gives each function 32 octets or more of the 512 of the stack, of
// which little is left.
#[cgroup_skb(egress)]
#[inline(always)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    egress::judge(&ctx)
}

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    ingress::judge(&ctx)
}

#[sock_ops]
pub fn life(ctx: SockOpsContext) -> u32 {
    gate::life::follow(&ctx);
    // What others answer to the kernel's questions stands.
    1
}

#[sk_msg]
pub fn message(ctx: SkMsgContext) -> u32 {
    gate::message::judge(&ctx)
}

#[classifier]
#[inline(always)]
pub fn frames(ctx: TcContext) -> i32 {
    match frames::judge(&ctx) {
        true => GO_ON,
        false => DROP,
    }
}

#[cgroup_device]
pub fn device(ctx: DeviceContext) -> i32 {
    match device::judge(&ctx) {
        Ok(()) => PASS,
        Err(denied) => report::device(device::device(&ctx), &denied),
    }
}

#[lsm_cgroup(hook = "socket_create")]
pub fn lsm_socket_create(ctx: LsmContext) -> i32 {
    match lsm::create(&ctx) {
        Ok(()) => PASS,
        Err((asked, _)) if lsm::is_probe(&asked) => DENY,
        Err((asked, denied)) => report::family(&asked, &denied),
    }
}

#[lsm_cgroup(hook = "unix_stream_connect")]
pub fn lsm_unix_stream_connect(ctx: LsmContext) -> i32 {
    match lsm::speak(lsm::sock(&ctx, 1)) {
        Ok(()) => PASS,
        Err((name, denied)) => report::unix(name, Hook::Connect, &denied),
    }
}

#[lsm_cgroup(hook = "unix_may_send")]
pub fn lsm_unix_may_send(ctx: LsmContext) -> i32 {
    match lsm::speak(lsm::sock_of_socket(&ctx, 1)) {
        Ok(()) => PASS,
        Err((name, denied)) => report::unix(name, Hook::SendMessage, &denied),
    }
}

#[lsm_cgroup(hook = "uring_allowed")]
pub fn lsm_uring_allowed(_ctx: LsmContext) -> i32 {
    report::system_call(Hook::IoUring)
}

#[lsm_cgroup(hook = "bpf")]
pub fn lsm_bpf(_ctx: LsmContext) -> i32 {
    report::system_call(Hook::Bpf)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
