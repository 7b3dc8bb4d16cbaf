//! Devices: what an agent may open, whatever its user may.

use crate::{AGENT, attack::TRICKS, fence, fence::Fence, policies::COMMON};

#[test]
fn devices_that_carry_frames_or_reach_the_host_are_denied_and_recorded() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    let mut denied = 0;
    for (path, detail) in [
        ("/dev/net/tun", "device c 10:200 (/dev/net/tun)"),
        ("/dev/kvm", "device c 10:232 (/dev/kvm)"),
        ("/dev/kmsg", "device c 1:11 (/dev/kmsg)"),
        ("/dev/fuse", "device c 10:229 (/dev/fuse)"),
        ("/dev/console", "device c 5:1 (/dev/console)"),
        ("/dev/loop0", "device b 7:0"),
        ("/dev/vda", "device b "),
        ("/dev/sda", "device b "),
        ("/dev/tty1", "device c 4:1"),
    ] {
        if !opens(&fence, path) {
            println!("`{path}` has no twin: it does not open without the fence");
            continue;
        }
        let outcome = agent.run(&open(path));
        assert!(outcome.says("PermissionError"), "`{path}` opens: {outcome:#?}");
        let is_meant = |text: &str| text.starts_with(detail);
        let record = agent.denial(path, |record| record["detail"].as_str().is_some_and(is_meant));
        assert_eq!(record["reason"], "device-not-allowed", "{record:#}");
        assert_eq!(record["protocol"], "none", "{record:#}");
        assert_eq!(record["destination"]["address"], serde_json::Value::Null, "{record:#}");
        assert!(record["process"].to_string().contains("python"), "{record:#}");
        denied += 1;
    }
    assert!(denied >= 3, "this machine has too few devices for this to prove anything");
}

#[test]
fn devices_that_every_program_needs_are_open() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/ptmx"] {
        let outcome = agent.run(&open(path));
        assert!(outcome.succeeded(), "`{path}` should open: {outcome:#?}");
    }
    // A terminal of its own, and a program that speaks to it by its name.
    let terminal = agent.run("script -qec 'echo typed > /dev/tty' /dev/null < /dev/null");
    assert!(terminal.says("typed"), "{terminal:#?}");
    assert!(agent.denials().is_empty(), "{:#?}", agent.denials());
}

#[test]
fn no_device_is_made() {
    let fence = fence(COMMON);
    let path = fence.lab().folder().join("tun");
    let make = format!("mknod {0} c 10 200 && rm {0}", path.display());
    let fenced = fence.agent(AGENT).run(&make);
    assert!(!fenced.succeeded(), "a device was made: {fenced:#?}");
    assert!(fence.lab().run(&make).succeeded(), "`{make}` proves nothing");
}

#[test]
fn an_agent_that_makes_frames_opens_tunnels_and_no_way_around_its_link() {
    let fence = fence(KEEPS_ITS_NETWORK);
    let agent = fence.agent(AGENT);
    for door in
        ["open_device /dev/net/tun", "make_socket 16 3 12", "make_socket 17 3 0", "make_socket 44 3 0"]
    {
        let outcome = agent.run(&trick(door));
        assert!(outcome.succeeded(), "`{door}` should work: {outcome:#?}");
    }
    for door in ["open_device /dev/kmsg", "make_socket 40 1 0", "make_ring", "make_map"] {
        let outcome = agent.run(&trick(door));
        assert!(outcome.says("PermissionError"), "`{door}` works: {outcome:#?}");
        assert!(fence.lab().run(&trick(door)).succeeded(), "`{door}` proves nothing");
    }
}

const KEEPS_ITS_NETWORK: &str = "
version: 1
agents:
  default:
    capabilities: [net_raw, net_admin]
    rules: []
";

/// Whether `path` opens without the fence.
fn opens(fence: &Fence, path: &str) -> bool {
    fence.lab().run(&open(path)).succeeded()
}

fn open(path: &str) -> String {
    trick(&format!("open_device {path}"))
}

fn trick(words: &str) -> String {
    format!("/usr/bin/python3 {TRICKS} {words}")
}
