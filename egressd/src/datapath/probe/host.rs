//! What is around agents on this host: looked up, not tried.

use super::{Finding, Level};
use std::{fs, path::Path};

pub fn findings() -> Vec<Finding> {
    vec![
        forwarding(),
        ipv6(),
        user_namespaces(),
        io_uring(),
        abstract_sockets(),
        yama(),
        terminals(),
        devices(),
    ]
}

fn forwarding() -> Finding {
    let line = Finding::new(Level::Host, "ip forwarding", "direct flows of sealed agents");
    match read("/proc/sys/net/ipv4/ip_forward").trim() {
        "1" => line.ok("on"),
        _ => line.ok("off: egressd turns it on for its agents alone, while there are any"),
    }
}

fn ipv6() -> Finding {
    let line = Finding::new(Level::Host, "ipv6", "flows over IPv6");
    match read("/proc/sys/net/ipv6/conf/all/disable_ipv6").trim() {
        "0" => line.ok("on, and fenced like IPv4"),
        _ => line.ok("off: agents have none either"),
    }
}

fn user_namespaces() -> Finding {
    let line =
        Finding::new(Level::Host, "user namespaces", "capabilities that reach no further than an agent");
    match read("/proc/sys/user/max_user_namespaces").trim().parse::<u64>() {
        Ok(most) if most > 0 => line.ok(format!("{most} are allowed")),
        Ok(_) | Err(_) => line.degraded("none are allowed", "`sysctl user.max_user_namespaces=1024`"),
    }
}

fn io_uring() -> Finding {
    let line = Finding::new(Level::Host, "io_uring", "sockets that no filter sees");
    match read("/proc/sys/kernel/io_uring_disabled").trim() {
        "2" => line.ok("off for everybody"),
        _ => line.ok("on; agents are denied it by seccomp"),
    }
}

fn abstract_sockets() -> Finding {
    let line = Finding::new(Level::Host, "abstract sockets", "services that could send for an agent");
    let text = read("/proc/net/unix");
    let names =
        text.lines().filter_map(|line| line.split_whitespace().last()).filter(|word| word.starts_with('@'));
    match names.count() {
        0 => line.ok("none"),
        count => line.degraded(
            format!("{count}, within reach of agents in cgroup mode"),
            "use sealed mode, whose agents have a network namespace of their own",
        ),
    }
}

fn yama() -> Finding {
    let line = Finding::new(Level::Host, "yama", "processes of the agent's user");
    match read("/proc/sys/kernel/yama/ptrace_scope").trim() {
        "" => line.ok("not there; agents see no process but their own"),
        "0" => line.ok("ptrace_scope is 0; agents see no process but their own"),
        scope => line.ok(format!("ptrace_scope is {scope}")),
    }
}

fn terminals() -> Finding {
    let line =
        Finding::new(Level::Host, "legacy_tiocsti", "the terminal that an agent shares with your shell");
    match read("/proc/sys/dev/tty/legacy_tiocsti").trim() {
        "0" => line.ok("off"),
        _ => line.ok("on; agents are denied it by seccomp"),
    }
}

fn devices() -> Finding {
    let line = Finding::new(Level::Host, "devices", "machines and tunnels of an agent's own");
    let there = ["/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/vsock"];
    let there: Vec<&str> = there.into_iter().filter(|device| Path::new(device).exists()).collect();
    match there.is_empty() {
        true => line.ok("none of those that make links"),
        false => {
            line.ok(format!("{}; what leaves by them is judged, or needs what agents lack", there.join(", ")))
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
