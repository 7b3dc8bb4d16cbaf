//! Birth, options and death of a socket.

use crate::{
    agent,
    error::Denied,
    gate,
    maps::{Socket, socket, socket_or_insert},
    service,
};
use aya_ebpf::{
    EbpfContext,
    bindings::bpf_sockopt,
    programs::{SockContext, SockoptContext},
};
use egress_common::{DropReason, FENCE_PROBE, GateState, OriginKey, TCP, UDP};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;

/// Lets TCP and UDP sockets be made by agents, and remembers who made them.
#[inline(always)]
pub fn create(ctx: &SockContext) -> Result<(), Denied> {
    let agent = agent::of_current()?;
    let sock = unsafe { &*ctx.sock };
    match (sock.type_, sock.protocol) {
        (SOCK_STREAM, protocol) if protocol == u32::from(TCP) => {}
        (SOCK_DGRAM, protocol) if protocol == u32::from(UDP) => {}
        _ => return Err(Denied::because(DropReason::SocketTypeNotAllowed)),
    }
    let mut first = made_by_current(agent);
    match socket_or_insert(ctx.as_ptr(), &mut first) {
        Some(_) => Ok(()),
        None => Err(Denied::because(DropReason::QuotaExceeded)),
    }
}

/// What is known of a socket that the current process makes for `agent`.
#[inline(always)]
pub fn made_by_current(agent: u32) -> Socket {
    Socket {
        agent,
        pid: (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32,
        flow_version: 0,
        paid_version: 0,
        command: aya_ebpf::helpers::bpf_get_current_comm().unwrap_or([0; 16]),
        redirects: 0,
        counted: 0,
        has_origin: 0,
        flow_rule: 0,
        flow_port: 0,
        original_port: 0,
        flow_transport: 0,
        flow_generation: 0,
        gate: GateState::None as u16,
        silent: 0,
        flow_budget: 0,
        is_cut: 0,
        flow_address: [0; 16],
        paid_address: [0; 16],
        paid_port: 0,
        original_address: [0; 16],
        origin: OriginKey { agent: 0, port: 0, transport: 0, zero: 0, address: [0; 16] },
        zero: 0,
    }
}

/// Gives back the places that the socket took.
#[inline(always)]
pub fn release(ctx: &SockContext) {
    if let Some(socket) = socket(ctx.as_ptr()) {
        service::release(socket);
        gate::release(socket);
    }
}

/// Whether the daemon asks if the fence sees this socket. Refused, and no denial.
#[inline(always)]
pub fn is_probe(ctx: &SockoptContext) -> bool {
    unsafe { (*ctx.sockopt).level == FENCE_PROBE }
}

/// Refuses the options that change where a frame goes or comes from, what carries it, or make the
/// kernel send one by itself: the cgroup programs never see membership reports, the address hooks
/// never see routes, and a source that is not ours is 128 bits to any server that sees it.
#[inline(always)]
pub fn set_option(ctx: &SockoptContext) -> Result<(), Denied> {
    let option = unsafe { &*ctx.sockopt };
    let refused = match option.level {
        SOL_IP => matches!(
            option.optname,
            IP_OPTIONS
                | IP_HDRINCL
                | IP_TRANSPARENT
                | IP_FREEBIND
                | IP_IPSEC_POLICY
                | IP_XFRM_POLICY
                | IP_ADD_MEMBERSHIP
                | IP_ADD_SOURCE_MEMBERSHIP
                | IP_MSFILTER
                | MCAST_JOIN_GROUP
                | MCAST_JOIN_SOURCE_GROUP
                | MCAST_MSFILTER
        ),
        SOL_IPV6 => matches!(
            option.optname,
            IPV6_ADD_MEMBERSHIP
                | IPV6_JOIN_ANYCAST
                | IPV6_FLOWLABEL_MGR
                | IPV6_IPSEC_POLICY
                | IPV6_XFRM_POLICY
                | IPV6_HOPOPTS
                | IPV6_RTHDRDSTOPTS
                | IPV6_RTHDR
                | IPV6_DSTOPTS
                | IPV6_2292PKTOPTIONS
                | IPV6_2292RTHDR
                | IPV6_TRANSPARENT
                | IPV6_FREEBIND
                | MCAST_JOIN_GROUP
                | MCAST_JOIN_SOURCE_GROUP
                | MCAST_MSFILTER
        ),
        SOL_SOCKET => option.optname == SO_MARK,
        SOL_TCP => match option.optname {
            TCP_REPAIR | TCP_MD5SIG | TCP_MD5SIG_EXT | TCP_AO_ADD_KEY => true,
            TCP_ULP => !asks_for_tls(option) || gate::is_closed(option),
            _ => false,
        },
        _ => false,
    };
    if refused { Err(Denied::because(DropReason::SocketTypeNotAllowed)) } else { Ok(()) }
}

/// Whether the protocol that is asked for on top of TCP is TLS by the kernel, and not one that takes
/// the flow off IP (SMC) or wraps packets into it (ESP). A long option is not looked at: the kernel
/// would read it again, from memory that its owner may have changed meanwhile.
#[inline(always)]
fn asks_for_tls(option: &bpf_sockopt) -> bool {
    let name = unsafe { option.__bindgen_anon_2.optval }.cast::<[u8; 3]>();
    let end = unsafe { option.__bindgen_anon_3.optval_end }.cast::<[u8; 3]>();
    // With or without a NUL: no other protocol begins so.
    matches!(option.optlen, 3 | 4) && name.wrapping_add(1) <= end && unsafe { *name } == *b"tls"
}

// include/uapi/linux/in.h, in6.h, tcp.h and asm-generic/socket.h.
const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;
const SOL_IP: i32 = 0;
const IP_HDRINCL: i32 = 3;
const IP_OPTIONS: i32 = 4;
const IP_FREEBIND: i32 = 15;
const IP_IPSEC_POLICY: i32 = 16;
const IP_XFRM_POLICY: i32 = 17;
const IP_TRANSPARENT: i32 = 19;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_ADD_SOURCE_MEMBERSHIP: i32 = 39;
const IP_MSFILTER: i32 = 41;
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
const MCAST_MSFILTER: i32 = 48;
const SOL_IPV6: i32 = 41;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_ADD_MEMBERSHIP: i32 = 20;
const IPV6_JOIN_ANYCAST: i32 = 27;
const IPV6_FLOWLABEL_MGR: i32 = 32;
const IPV6_IPSEC_POLICY: i32 = 34;
const IPV6_XFRM_POLICY: i32 = 35;
const IPV6_HOPOPTS: i32 = 54;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RTHDR: i32 = 57;
const IPV6_DSTOPTS: i32 = 59;
const IPV6_TRANSPARENT: i32 = 75;
const IPV6_FREEBIND: i32 = 78;
const SOL_TCP: i32 = 6;
const TCP_MD5SIG: i32 = 14;
const TCP_REPAIR: i32 = 19;
const TCP_ULP: i32 = 31;
const TCP_MD5SIG_EXT: i32 = 32;
const TCP_AO_ADD_KEY: i32 = 38;
