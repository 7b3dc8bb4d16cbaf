//! The seccomp filter of agents.

use super::LaunchError;
use nix::errno::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use std::collections::BTreeMap;

/// Which families of sockets an agent may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    UnixAndIp,
    /// Those that make frames in its own network too, and all of netlink, where something else
    /// judges what leaves. Not those that leave by no network device, as vsock does.
    WithRaw,
}

/// What is left to programs on the kernel's security hooks, which deny it with a record: what a
/// filter denies leaves none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Sockets of other families than the agent may make.
    pub sockets: bool,
    /// io_uring, which makes sockets that no filter sees.
    pub rings: bool,
    /// bpf(2).
    pub bpf: bool,
    /// Abstract Unix sockets of processes outside, of which a filter knows nothing.
    pub abstract_sockets: bool,
}

/// Denies what is not `recorded`, and in any case rings that somebody else made, typing into the
/// terminal, and every call of the x32 ABI: with EPERM. Calls of another architecture end the agent.
pub fn filter(families: Families, recorded: Recorded) -> Result<BpfProgram, LaunchError> {
    let failed = |error: seccompiler::BackendError| LaunchError::Filter(error.to_string());
    let mut rules = BTreeMap::from([
        (libc::SYS_ioctl, requests(families).map_err(failed)?),
        (libc::SYS_io_uring_enter, Vec::new()),
        (libc::SYS_io_uring_register, Vec::new()),
    ]);
    if !recorded.sockets {
        rules.insert(libc::SYS_socket, sockets(families).map_err(failed)?);
    }
    if !recorded.rings {
        rules.insert(libc::SYS_io_uring_setup, Vec::new());
    }
    if !recorded.bpf {
        rules.insert(libc::SYS_bpf, Vec::new());
    }
    for call in KEYS {
        rules.insert(call, Vec::new());
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(failed)?;
    let errno = SeccompAction::Errno(EPERM);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).map_err(failed)?;
    let program: BpfProgram = filter.try_into().map_err(failed)?;
    Ok(DENY_X32.into_iter().chain(HIDE_CLONE3).chain(program).collect())
}

/// Whether programs on the security hooks of sockets run for this process: they deny the one socket
/// that no kernel makes otherwise either, with another error.
pub fn hooks_run() -> bool {
    // SAFETY: the call takes no pointers.
    let made = unsafe { libc::socket(libc::AF_UNSPEC, libc::SOCK_STREAM, 0) };
    made == -1 && Errno::last() == Errno::EPERM
}

const EPERM: u32 = libc::EPERM.unsigned_abs();

/// The kernel's keys: to look one up it starts a program of the host, which asks the network for
/// names of the agent's choice, outside every cgroup (request_key(2), key type `dns_resolver`).
const KEYS: [libc::c_long; 3] = [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];

type Rules = Result<Vec<SeccompRule>, seccompiler::BackendError>;

/// The sockets that are denied.
fn sockets(families: Families) -> Rules {
    let is_not = |family: libc::c_int| argument(0, SeccompCmpOp::Ne, family.unsigned_abs());
    let usual = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(is_not);
    match families {
        Families::WithRaw => {
            let raw = [libc::AF_PACKET, libc::AF_XDP].map(is_not);
            // What ethtool speaks, among others: see `requests`.
            let generic = [
                argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK.unsigned_abs())?,
                argument(2, SeccompCmpOp::Eq, libc::NETLINK_GENERIC.unsigned_abs())?,
            ];
            Ok(vec![
                SeccompRule::new(usual.into_iter().chain(raw).collect::<Result<_, _>>()?)?,
                SeccompRule::new(generic.into())?,
            ])
        }
        Families::UnixAndIp => {
            let netlink = [
                argument(0, SeccompCmpOp::Eq, libc::AF_NETLINK.unsigned_abs())?,
                argument(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE.unsigned_abs())?,
            ];
            Ok(vec![
                SeccompRule::new(usual.into_iter().collect::<Result<_, _>>()?)?,
                SeccompRule::new(netlink.into())?,
                SeccompRule::new(vec![is_packet_of_old()?])?,
            ])
        }
    }
}

/// SOCK_PACKET makes a packet socket of whatever family was named (packet(7)).
fn is_packet_of_old() -> Result<SeccompCondition, seccompiler::BackendError> {
    /// include/linux/net.h; not in libc.
    const SOCK_PACKET: u64 = 10;
    /// Above it are flags.
    const KIND: u64 = 0xf;
    SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(KIND), SOCK_PACKET)
}

/// The requests by which an agent would type into the terminal that it shares with a shell outside
/// (ioctl_tty(2), ioctl_console(2)), or have its link leave checksums to others again (ethtool(8)).
/// The kernel reads the lower half of the argument alone.
fn requests(families: Families) -> Rules {
    const TIOCSTI: u32 = 0x5412;
    const TIOCLINUX: u32 = 0x541C;
    const SIOCETHTOOL: u32 = 0x8946;
    let denied: &[u32] = match families {
        Families::UnixAndIp => &[TIOCSTI, TIOCLINUX],
        Families::WithRaw => &[TIOCSTI, TIOCLINUX, SIOCETHTOOL],
    };
    denied.iter().map(|request| SeccompRule::new(vec![argument(1, SeccompCmpOp::Eq, *request)?])).collect()
}

fn argument(index: u8, is: SeccompCmpOp, value: u32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, u64::from(value))
}

/// The x32 ABI reports the architecture x86_64 and its own numbers, which no rule above names
/// (seccomp(2), "Caveats"). Other architectures have no call there.
const DENY_X32: [sock_filter; 3] = {
    const X32_SYSCALL_BIT: u32 = 0x4000_0000;
    [
        sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER },
        sock_filter { code: IF_AT_LEAST, jt: 0, jf: 1, k: X32_SYSCALL_BIT },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | EPERM },
    ]
};

/// clone3(2) is as on a kernel without it, and C libraries go on with clone(2): a child is born in
/// any cgroup whose files its parent may write, whatever the flags of the mount. No filter sees
/// what it is asked for, which lies in memory.
const HIDE_CLONE3: [sock_filter; 3] = {
    /// The same on every architecture.
    const CLONE3: u32 = 435;
    const ENOSYS: u32 = libc::ENOSYS.unsigned_abs();
    [
        sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER },
        sock_filter { code: IF_EQUAL, jt: 0, jf: 1, k: CLONE3 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | ENOSYS },
    ]
};

/// The offset of `nr` in struct seccomp_data.
const NUMBER: u32 = 0;
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_cannot_type_into_its_terminal() {
        const TCGETS: libc::c_long = 0x5401;
        const HIGHER_HALF: libc::c_long = 1 << 32;
        for recorded in [NOTHING, EVERYTHING] {
            for request in [0x5412, 0x541C, 0x5412 | HIGHER_HALF] {
                assert_eq!(call(libc::SYS_ioctl, [-1, request, 0]), Errno::EBADF, "without the filter");
                assert_eq!(filtered(recorded, libc::SYS_ioctl, [-1, request, 0]), Errno::EPERM);
            }
            assert_eq!(filtered(recorded, libc::SYS_ioctl, [-1, TCGETS, 0]), Errno::EBADF, "others pass");
        }
    }

    #[test]
    fn an_agent_makes_no_socket_but_of_unix_ip_and_route_netlink() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            filtered(NOTHING, libc::SYS_socket, [family.into(), kind.into(), protocol.into()])
        };
        assert_eq!(socket(libc::AF_PACKET, libc::SOCK_RAW, 0), Errno::EPERM);
        assert_eq!(socket(libc::AF_INET, 10 | libc::SOCK_CLOEXEC, 0), Errno::EPERM, "SOCK_PACKET");
        assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER), Errno::EPERM);
        assert_eq!(socket(libc::AF_UNIX, 9, 0), Errno::ESOCKTNOSUPPORT);
    }

    #[test]
    fn what_is_recorded_is_left_to_the_security_hooks_and_nothing_else() {
        let calls = [
            (libc::SYS_socket, [99, libc::SOCK_RAW.into(), 0]),
            (libc::SYS_io_uring_setup, [0, 0, 0]),
            (libc::SYS_bpf, [-1, 0, 0]),
            (libc::SYS_io_uring_enter, [-1, 0, 0]),
            (libc::SYS_io_uring_register, [-1, 0, 0]),
        ];
        let denied =
            |recorded| calls.map(|(number, arguments)| filtered(recorded, number, arguments) == Errno::EPERM);
        assert_eq!(denied(NOTHING), [true; 5]);
        assert_eq!(denied(Recorded { sockets: true, ..NOTHING }), [false, true, true, true, true]);
        assert_eq!(denied(Recorded { rings: true, ..NOTHING }), [true, false, true, true, true]);
        assert_eq!(denied(Recorded { bpf: true, ..NOTHING }), [true, true, false, true, true]);
        assert_eq!(denied(EVERYTHING), [false, false, false, true, true]);
    }

    #[test]
    fn an_agent_that_makes_frames_makes_no_socket_that_leaves_by_no_network_device() {
        let socket = |family: i32, protocol: i32| {
            let filter = filter(Families::WithRaw, NOTHING).unwrap();
            let arguments = [family.into(), libc::SOCK_RAW.into(), protocol.into()];
            filtered_by(filter, libc::SYS_socket, arguments)
        };
        for (family, protocol) in [(libc::AF_VSOCK, 0), (libc::AF_ALG, 0), (libc::AF_KEY, 2)] {
            assert_eq!(socket(family, protocol), Errno::EPERM);
        }
        for (family, protocol) in
            [(libc::AF_PACKET, 0), (libc::AF_XDP, 0), (libc::AF_NETLINK, libc::NETLINK_NETFILTER)]
        {
            assert_ne!(socket(family, protocol), Errno::EPERM, "family {family}");
        }
    }

    #[test]
    fn hooks_that_hold_no_program_are_not_taken_for_some_that_do() {
        assert!(!hooks_run(), "no agent runs this");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn an_agent_cannot_call_by_the_numbers_of_x32() {
        const GETPID: libc::c_long = 0x4000_0000 | libc::SYS_getpid;
        for recorded in [NOTHING, EVERYTHING] {
            assert_eq!(filtered(recorded, GETPID, [0; 3]), Errno::EPERM);
        }
    }

    fn filtered(recorded: Recorded, number: libc::c_long, arguments: [libc::c_long; 3]) -> Errno {
        filtered_by(filter(Families::UnixAndIp, recorded).unwrap(), number, arguments)
    }

    #[test]
    fn a_child_is_born_where_its_parent_is() {
        assert_eq!(call(libc::SYS_clone3, [0; 3]), Errno::EINVAL, "without the filter");
        for recorded in [NOTHING, EVERYTHING] {
            assert_eq!(filtered(recorded, libc::SYS_clone3, [0; 3]), Errno::ENOSYS);
        }
        let thread = std::thread::spawn(|| {
            seccompiler::apply_filter(&filter(Families::UnixAndIp, NOTHING).unwrap()).unwrap();
            // The C library makes threads and processes without it.
            let lives = std::thread::spawn(|| 7).join().unwrap();
            (lives, std::process::Command::new("true").status().unwrap().success())
        });
        assert_eq!(thread.join().unwrap(), (7, true));
    }

    #[test]
    fn an_agent_has_the_kernel_look_up_no_key() {
        for number in KEYS {
            assert_ne!(call(number, [0; 3]), Errno::EPERM, "without the filter");
            assert_eq!(filtered(EVERYTHING, number, [0; 3]), Errno::EPERM);
        }
    }

    /// Calls in a thread with the filter, which ends with the thread.
    fn filtered_by(filter: BpfProgram, number: libc::c_long, arguments: [libc::c_long; 3]) -> Errno {
        let thread = std::thread::spawn(move || {
            seccompiler::apply_filter(&filter).unwrap();
            call(number, arguments)
        });
        thread.join().unwrap()
    }

    const NOTHING: Recorded = Recorded { sockets: false, rings: false, bpf: false, abstract_sockets: false };
    const EVERYTHING: Recorded = Recorded { sockets: true, rings: true, bpf: true, abstract_sockets: true };

    fn call(number: libc::c_long, [first, second, third]: [libc::c_long; 3]) -> Errno {
        // SAFETY: the calls of these tests take no pointers.
        let result = unsafe { libc::syscall(number, first, second, third) };
        if result == -1 { Errno::last() } else { Errno::from_raw(0) }
    }
}
