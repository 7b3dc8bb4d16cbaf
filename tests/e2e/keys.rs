//! Programs that the kernel starts for whoever asks it to: outside every cgroup and namespace.

use crate::{AGENT, attack::TRICKS, fence, policies::EMPTY};

#[test]
fn no_agent_has_the_kernel_start_a_program_of_the_host() {
    let fence = fence(EMPTY);
    // On a host that has keyutils, the kernel has /sbin/request-key look the name up.
    let script = format!("/usr/bin/python3 {TRICKS} doors.request_key x.evil.test");
    for flags in [&["--mode", "cgroup"][..], &["--mode", "sealed"], &["--mode", "sealed", "--uid", "nobody"]]
    {
        let fenced = fence.agent(AGENT).with(flags).run(&script);
        assert!(fenced.says("PermissionError"), "the kernel was asked: {fenced:#?}");
    }
    let unfenced = fence.lab().run(&script);
    assert!(!unfenced.says("PermissionError"), "the call proves nothing: {unfenced:#?}");
}
