//! The seccomp filter of agents.

use super::LaunchError;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// Socket families other than Unix, IP and route netlink, io_uring (which makes sockets that no
/// filter sees), and bpf(2) end with EPERM.
pub fn filter() -> Result<BpfProgram, LaunchError> {
    let failed = |error: seccompiler::BackendError| LaunchError::Filter(error.to_string());
    let is_not = |argument, value: i32| {
        let value = u64::try_from(value).unwrap_or(0);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value).map_err(failed)
    };
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
        .into_iter()
        .map(|family| is_not(0, family))
        .collect::<Result<Vec<_>, _>>()?;
    let is_netlink = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::from(libc::AF_NETLINK.unsigned_abs()),
    )
    .map_err(failed)?;
    let netlink = vec![is_netlink, is_not(2, libc::NETLINK_ROUTE)?];
    let sockets =
        vec![SeccompRule::new(families).map_err(failed)?, SeccompRule::new(netlink).map_err(failed)?];
    let mut rules = BTreeMap::from([(libc::SYS_socket, sockets)]);
    for call in
        [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_bpf]
    {
        rules.insert(call, Vec::new());
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(failed)?;
    let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).map_err(failed)?;
    filter.try_into().map_err(failed)
}
