//! What is no flow of IP and is denied all the same: other families, abstract Unix sockets,
//! io_uring and bpf(2). By the security hooks where the kernel runs programs on them, else by the
//! launcher's filter.

use crate::{
    AGENT,
    attack::{TRICKS, stops, stops_only_fenced},
    fence,
    fence::{Agent, Fence},
    fence_with,
    places::EVIL,
    policies::COMMON,
    program::{self, Program},
    talker::Talker,
};
use serde_json::Value;

#[test]
fn sockets_of_other_families_are_denied() {
    for fence in [fence(COMMON), fence_with(COMMON, &[NO_HOOKS])] {
        for agent in [fence.agent(AGENT), fence.agent(AGENT).with(CGROUP)] {
            let made = |(family, _): &&(&str, &str)| is_denied(&agent, &format!("make_socket {family}"));
            let made = FAMILIES.iter().filter(made).count();
            assert!(made >= 3, "this kernel has too few families for this to prove anything");
        }
    }
}

#[test]
fn io_uring_and_bpf_are_denied() {
    for fence in [fence(COMMON), fence_with(COMMON, &[NO_HOOKS])] {
        let agent = fence.agent(AGENT);
        for call in ["make_ring", "make_map"] {
            assert!(is_denied(&agent, call), "`{call}` proves nothing: this kernel does not know it");
        }
        stops(&agent, EVIL, &["{trick} uring_socket {v4} 9000 {mark}"]);
    }
}

#[test]
fn what_the_security_hooks_deny_is_recorded() {
    let fence = fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    let families = if holds(&fence, "socket_create") { &FAMILIES[..] } else { &[] };
    for (family, name) in families {
        talker.fails(&format!("make_socket {family}"));
        let record = recorded(&fence, &format!("socket family {name}"));
        assert_eq!(record["reason"], "socket-type-not-allowed", "{record:#}");
        assert_eq!(record["destination"]["address"], Value::Null, "{record:#}");
    }
    let calls = [("uring_allowed", "make_ring", "io_uring_setup(2)"), ("bpf", "make_map", "bpf(2)")];
    for (_, call, detail) in calls.into_iter().filter(|(hook, ..)| holds(&fence, hook)) {
        talker.fails(call);
        let record = recorded(&fence, detail);
        assert_eq!(record["reason"], "system-call-not-allowed", "{record:#}");
        assert_eq!(record["protocol"], "none", "{record:#}");
    }
}

#[test]
fn sockets_that_every_program_needs_are_made() {
    for fence in [fence(COMMON), fence_with(COMMON, &[NO_HOOKS])] {
        let agent = fence.agent(AGENT);
        for script in ["ip -o address show lo", "ip route show", "{trick} speak_to_oneself own {mark}"] {
            let script = script.replace("{trick}", &trick("")).replace("{mark}", "x");
            let outcome = agent.run(&script);
            assert!(outcome.succeeded(), "`{script}` should work: {outcome:#?}");
        }
        assert_eq!(agent.denials(), Vec::<Value>::new(), "nothing of it is denied");
    }
}

#[test]
fn no_abstract_socket_outside_does_an_agents_sending() {
    let fence = fence(COMMON);
    if !abstract_names_are_scoped(&fence) {
        return;
    }
    let label = format!("{}-", fence.lab().name());
    let evil = EVIL.v4.to_string();
    let deputy = ["/usr/bin/python3", TRICKS, "deputy", &label, &evil];
    let deputy = Program::start(fence.lab().command(&deputy));
    program::poll("the deputy", || deputy.stdout().contains("ready").then_some(()));
    let asks = ["ask LABEL stream", "ask LABEL packets", "ask LABEL datagrams", "ask_unconnected LABEL"]
        .map(|ask| format!("{{trick}} {} {{mark}}", ask.replace("LABEL", &label)));
    for ask in &asks {
        // A sealed agent has abstract names of its own, so that no hook is asked.
        stops_only_fenced(&fence.agent(AGENT), EVIL, &[ask]);
        stops(&fence.agent(AGENT).with(CGROUP), EVIL, &[ask]);
    }
    if !holds(&fence, "unix_may_send") {
        return;
    }
    let named =
        |record: &&Value| record["detail"].as_str().is_some_and(|detail| detail.contains(&label[..8]));
    let denials = fence.agent(AGENT).denials();
    let records: Vec<&Value> = denials.iter().filter(named).collect();
    assert_eq!(records.len(), asks.len(), "{denials:#?}");
    for record in records {
        assert_eq!(record["reason"], "unix-socket-not-allowed", "{record:#}");
        assert_eq!(record["protocol"], "unix", "{record:#}");
        assert!(record["process"].to_string().contains("python"), "{record:#}");
    }
}

#[test]
fn no_socket_outside_at_a_path_does_an_agents_sending() {
    let fence = fence(COMMON);
    let label = fence.lab().folder().join("door-").display().to_string();
    let evil = EVIL.v4.to_string();
    let deputy = Program::start(fence.lab().command(&["/usr/bin/python3", TRICKS, "deputy", &label, &evil]));
    program::poll("the deputy", || deputy.stdout().contains("ready").then_some(()));
    for ask in ["ask LABEL stream", "ask LABEL packets", "ask LABEL datagrams", "ask_unconnected LABEL"] {
        let ask = format!("{{trick}} {} {{mark}}", ask.replace("LABEL", &label));
        for flags in [&[], CGROUP] {
            stops(&fence.agent(AGENT).with(flags), EVIL, &[&ask]);
        }
    }
    // Who needs an agent of keys, or a display, says so.
    let opened = COMMON.replace("  default:\n", "  default:\n    host_sockets: true\n");
    assert!(fence.reload(&opened).succeeded());
    let (mark, position) = (crate::sniffer::mark(), fence.lab().sniffer().position());
    let asked = fence.agent(AGENT).run(&trick(&format!("ask {label} stream {mark}")));
    assert!(asked.succeeded(), "{asked:#?}");
    program::poll("what the deputy sends", || {
        let frames = fence.lab().sniffer().since(position);
        frames.iter().any(|frame| frame.carries(mark.as_bytes())).then_some(())
    });
}

#[test]
fn no_abstract_socket_of_one_agent_is_of_use_to_another() {
    let fence = fence(COMMON);
    if !abstract_names_are_scoped(&fence) {
        return;
    }
    let label = format!("{}-", fence.lab().name());
    let waiting = ["/usr/bin/python3", TRICKS, "deputy", &label, "10.99.0.10"];
    let waiting = fence.agent("left").with(CGROUP).spawn(&waiting);
    program::poll("the one that waits", || waiting.stdout().contains("ready").then_some(()));
    for ask in ["ask LABEL stream x", "ask LABEL datagrams x", "ask_unconnected LABEL x"] {
        let script = trick(&ask.replace("LABEL", &label));
        let fenced = fence.agent("right").with(CGROUP).run(&script);
        assert!(fenced.says("PermissionError"), "`{script}` reaches another agent: {fenced:#?}");
        assert!(fence.lab().run(&script).succeeded(), "`{script}` proves nothing");
    }
}

#[test]
fn a_daemon_that_comes_back_keeps_the_security_hooks() {
    let mut fence = fence(COMMON);
    if !holds(&fence, "socket_create") {
        return;
    }
    let mut talker = Talker::start(&fence.agent(AGENT));
    let mut denied_by_hook = |fence: &Fence| {
        let before = count(fence);
        let answer = talker.tell("make_socket 16 3 12");
        assert!(answer.contains("PermissionError"), "{answer}");
        program::poll("the record", || (count(fence) > before).then_some(()));
    };
    denied_by_hook(&fence);
    fence.kill();
    fence.restart();
    denied_by_hook(&fence);
    fence.kill();
    // The agent's own filter leaves these to the hooks: a daemon that does not use them leaves them be.
    fence.restart_with(&[NO_HOOKS]);
    denied_by_hook(&fence);
}

#[test]
fn status_says_whether_the_security_hooks_are_used() {
    let fence = fence(COMMON);
    let (status, held) = (fence.ctl(&["status"]), HOOKS.iter().filter(|hook| holds(&fence, hook)).count());
    assert!(status.succeeded() && status.says(&format!("{held} hooks are attached")), "{status:#?}");
    let status = fence_with(COMMON, &[NO_HOOKS]).ctl(&["status"]);
    assert!(status.succeeded() && status.says("0 hooks are attached"), "{status:#?}");
    assert!(status.says("deny without records"), "{status:#?}");
}

/// Whether the fence denies `call` with EPERM, where it works without the fence.
fn is_denied(agent: &Agent, call: &str) -> bool {
    let script = trick(call);
    let works = agent.fence().lab().run(&script).succeeded();
    let fenced = agent.run(&script);
    assert!(fenced.says("PermissionError") || !works, "`{call}` is not denied: {fenced:#?}");
    works
}

fn recorded(fence: &Fence, detail: &str) -> Value {
    let is_meant = |record: &Value| record["detail"].as_str().is_some_and(|text| text.starts_with(detail));
    let record = fence.agent(AGENT).denial(detail, is_meant);
    assert_eq!(record["gate"], "address", "{record:#}");
    assert!(record["process"].to_string().contains("python"), "{record:#}");
    record
}

fn count(fence: &Fence) -> usize {
    let is_meant = |record: &&Value| record["detail"] == "socket family AF_NETLINK, protocol 12";
    fence.agent(AGENT).denials().iter().filter(is_meant).count()
}

/// Whether the kernel took our program for `hook`: not every kernel does.
fn holds(fence: &Fence, hook: &str) -> bool {
    let holds = fence.lab().folder().join(format!("run/bpf/links/lsm_{hook}")).exists();
    if !holds {
        println!("skipped: this kernel runs no program of ours on `{hook}`");
    }
    holds
}

/// Whether the kernel can tell whose an abstract name is: by a program of ours, or by Landlock.
fn abstract_names_are_scoped(fence: &Fence) -> bool {
    // SAFETY: to ask for the version takes no structure.
    let landlock = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    landlock >= 6 || holds(fence, "unix_may_send")
}

fn trick(words: &str) -> String {
    format!("/usr/bin/python3 {TRICKS} {words}")
}

const NO_HOOKS: &str = "--no-security-hooks";
const CGROUP: &[&str] = &["--mode", "cgroup"];

const HOOKS: [&str; 5] = ["socket_create", "unix_stream_connect", "unix_may_send", "uring_allowed", "bpf"];

/// Number, type and protocol, and the name in records.
const FAMILIES: [(&str, &str); 5] = [
    ("17 3 0", "AF_PACKET"),
    ("44 3 0", "AF_XDP"),
    ("40 1 0", "AF_VSOCK"),
    ("16 3 12", "AF_NETLINK, protocol 12"),
    ("38 5 0", "AF_ALG"),
];
