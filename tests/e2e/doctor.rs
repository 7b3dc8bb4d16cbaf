//! What egressd and its doctor say of hosts that lack something.

use crate::{
    fence,
    fence::Fence,
    policies::EMPTY,
    program::{self, Outcome},
    traces,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, os::unix::process::CommandExt, process::Command};

#[test]
fn the_doctor_tries_every_hook_and_leaves_nothing_behind() {
    let fence = fence(EMPTY);
    let outcome = fence.ctl(&["doctor", "-o", "json"]);
    assert_eq!(outcome.code, 0, "{outcome:#?}");
    let report = report(&outcome);
    for name in
        ["egress", "ingress", "sock_create", "setsockopt", "connect4", "sendmsg6", "frames", "self-proof"]
    {
        assert_eq!(state(&report, name), "ok", "{name}: {report:#}");
    }
    assert_eq!((&report["cgroup"], &report["sealed"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    let left = traces::names("doctor");
    assert!(left.is_empty(), "in the kernel: {left:?}");
    let folders = fs::read_dir("/run").expect("it is there").flatten();
    let left = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("egressd-doctor"));
    assert_eq!(left.count(), 0, "in /run");
}

#[test]
fn the_doctor_says_that_it_has_to_be_root() {
    let fence = fence(EMPTY);
    // Of a user namespace that knows nobody by name.
    let mut command = fence.lab().bare_command("unshare");
    command.arg("--user").arg(fence.egressctl()).arg("doctor");
    let outcome = program::run(command);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    assert!(outcome.stdout.contains("you are not root") && outcome.stdout.contains("sudo"), "{outcome:#?}");
    assert!(outcome.stdout.contains("sealed  NOT AVAILABLE"), "{outcome:#?}");
}

#[test]
fn the_doctor_names_each_hook_that_is_missing_and_what_to_do() {
    let fence = fence(EMPTY);
    // A kernel that has none of the hooks says so when a program is attached.
    let outcome = without(fence.ctl_command(&["doctor", "-o", "json"]), Some(LINK_CREATE), libc::EINVAL);
    assert_eq!(outcome.code, 1, "{outcome:#?}");
    let report = report(&outcome);
    for name in ["egress", "connect4", "getpeername6"] {
        assert_eq!(state(&report, name), "missing", "{name}: {report:#}");
    }
    let in_the_way = report["cgroup"].as_array().expect("a list");
    let names_hook =
        |reason: &Value| reason.as_str().is_some_and(|text| text.starts_with("egress: failed to attach"));
    assert!(in_the_way.iter().any(names_hook), "{in_the_way:#?}");
    let egress = finding(&report, "egress");
    assert!(egress["remedy"].as_str().is_some_and(|text| text.contains("Linux 6.1")), "{egress}");
}

#[test]
fn a_daemon_that_is_denied_bpf_says_so() {
    let fence = fence(EMPTY);
    says(&fence, without(fence.another_daemon(), None, libc::EPERM), "bpf(2) is denied to us");
}

#[test]
fn a_daemon_on_a_kernel_without_bpf_says_so() {
    let fence = fence(EMPTY);
    says(&fence, without(fence.another_daemon(), None, libc::ENOSYS), "this kernel has no bpf(2)");
}

#[test]
fn a_daemon_on_a_kernel_without_a_hook_names_it() {
    let fence = fence(EMPTY);
    let outcome = without(fence.another_daemon(), Some(LINK_CREATE), libc::EINVAL);
    says(&fence, outcome, "failed to attach `egress`: Invalid argument");
}

#[test]
fn a_daemon_on_a_host_without_cgroup2_says_so() {
    let fence = fence(EMPTY);
    let daemon = fence.another_daemon();
    let mut command = fence.lab().bare_command("unshare");
    let hide = "grep -w cgroup2 /proc/mounts | cut -d' ' -f2 | xargs -r umount -l; exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", hide]).arg(daemon.get_program()).args(daemon.get_args());
    says(&fence, program::run(command), "no cgroup2 hierarchy is mounted");
}

/// It says why it does not start, and the daemon that is there goes on.
fn says(fence: &Fence, outcome: Outcome, why: &str) {
    assert!(!outcome.succeeded() && outcome.says(why), "it should say `{why}`: {outcome:#?}");
    assert!(fence.ctl(&["status", "-q"]).succeeded(), "the other daemon is untouched");
}

/// Runs `command` where bpf(2), or one command of it, ends with `errno`.
fn without(mut command: Command, bpf_command: Option<u64>, errno: i32) -> Outcome {
    let is_command = |number| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number);
    let rules = bpf_command.map(|number| {
        let condition = is_command(number).expect("a condition");
        SeccompRule::new(vec![condition]).expect("a rule")
    });
    let rules = BTreeMap::from([(libc::SYS_bpf, rules.into_iter().collect())]);
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).expect("a filter");
    let filter: BpfProgram = filter.try_into().expect("a filter");
    // SAFETY: between fork and exec, the filter is handed to the kernel and nothing else is done.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into())
        })
    };
    program::run(command)
}

/// include/uapi/linux/bpf.h, enum bpf_cmd.
const LINK_CREATE: u64 = 28;

fn report(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
}

fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    finding(report, name)["state"].as_str().unwrap_or("not there")
}

fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("a list");
    findings.iter().find(|finding| finding["name"] == name).unwrap_or(&Value::Null)
}
