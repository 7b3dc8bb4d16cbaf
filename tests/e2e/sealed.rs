//! Agents in namespaces of their own, behind a link whose other end judges every frame.

use crate::{
    AGENT,
    attack::{leaks, stops_only_fenced, tells_apart, works},
    lab::Lab,
    places::{EVIL, OK},
    policies::{COMMON, EMPTY},
    program::poll,
    talker::Talker,
};
use std::{fs, path::PathBuf};

#[test]
fn a_sealed_agent_has_namespaces_of_its_own() {
    let fence = crate::fence(EMPTY);
    for namespace in ["net", "mnt", "pid", "ipc", "cgroup", "user"] {
        let look = format!("readlink /proc/self/ns/{namespace}");
        let inside = fence.agent(AGENT).run(&look);
        // Of the daemon, which lives: the number of a namespace that is gone is used again.
        let daemon = format!("/proc/{}/ns/{namespace}", fence.daemon().pid());
        let outside = fs::read_link(daemon).expect("the daemon lives").display().to_string();
        assert!(inside.succeeded(), "{inside:#?}");
        assert_ne!(inside.stdout.trim(), outside, "the agent shares its {namespace} namespace");
        let light = fence.agent(AGENT).with(&["--mode", "cgroup"]).run("readlink /proc/self/ns/net");
        let net = fence.lab().run("readlink /proc/self/ns/net");
        assert_eq!(light.stdout, net.stdout, "in cgroup mode the network is the host's");
    }
}

#[test]
fn a_sealed_agent_sees_its_own_network_and_cgroups_alone() {
    let fence = crate::fence(EMPTY);
    let outcome = fence.agent(AGENT).run(
        "test \"$(ls /sys/class/net | tr '\\n' ' ')\" = 'eth0 lo ' && ! ls -d /sys/fs/cgroup/*egressd* \
         && grep -q '^nameserver 127.0.0.1$' /etc/resolv.conf && ! mkdir /sys/fs/cgroup/x",
    );
    assert!(outcome.succeeded(), "{outcome:#?}");
}

#[test]
fn an_agents_own_loopback_is_its_own() {
    let fence = crate::fence(EMPTY);
    let mut server = Talker::start(&fence.agent("server"));
    server.does("listen 8000");
    for host in ["127.0.0.1", "127.0.0.2"] {
        server.does(&format!("tcp_send_only {host} 8000 hello"));
    }
    let mut other = Talker::start(&fence.agent("other"));
    other.fails("tcp_send_only 127.0.0.1 8000 hello");
    // What is ours there is reached by redirect only.
    let dns = server.tell("tcp_send_only 127.0.0.1 53 hello");
    let listeners = "ss -Htln | grep -v :53 | awk '{print $4}' | grep -o '[0-9]*$' | sort -u";
    assert!(dns == "ok" || dns.contains("error"), "the resolver answers or refuses: {dns}");
    let outcome = fence.agent(AGENT).run(&format!(
        "for port in $({listeners}); do timeout 1 bash -c \"exec 3<>/dev/tcp/127.0.0.1/$port\" && exit 1; done; true"
    ));
    assert!(outcome.succeeded(), "an agent speaks to a listener that it was not sent to: {outcome:#?}");
}

#[test]
fn root_of_the_network_namespace_gets_no_frame_out() {
    let fence = crate::fence(&privileged(COMMON));
    let agent = fence.agent(AGENT);
    let frames = [
        "{trick} packet {v4} {mark}",
        "{trick} packet_bypass {v4} {mark}",
        "{trick} packet_datagram {v4} {mark}",
        "{trick} raw_header {v4} {mark}",
        "{trick} raw_icmp {v4} {mark}",
        "{trick} raw_icmp {v6} {mark}",
        "{trick} forged_source {v4} 9000 {mark}",
        "ip address add 10.99.0.77/32 dev eth0; {trick} forged_source {v4} 9000 {mark}",
        "ip link set eth0 address 02:00:00:00:00:99; {trick} packet {v4} {mark}",
        "ip link add link eth0 name v type vlan id 7; ip link set v up; LINK=v {trick} packet {v4} {mark}",
        "ip link add x type vxlan id 7 remote {v4} dstport 4789; ip link set x up; LINK=x {trick} packet {v4} {mark}",
        "ip link add g type gre remote {v4}; ip link set g up; ip route add 10.0.0.0/8 dev g; \
         {trick} udp_sendto 10.1.2.3 9000 {mark}",
    ];
    stops_only_fenced(&agent, EVIL, &frames);
    leaks(fence.lab(), EVIL, &["{trick} packet {v4} {mark}", "{trick} raw_header {v4} {mark}"]);
    tells_apart(&agent, &["{trick} tcp {v4} 9000 {mark}", "{trick} udp_sendto {v6} 9000 {mark}"]);
}

#[test]
fn either_judge_of_frames_denies_without_the_other() {
    let frames = ["{trick} packet {v4} {mark}", "{trick} raw_header {v4} {mark}"];
    for (judge, gone) in
        [("the chain", "rm {pins}/devices/*"), ("the program", "nft delete table netdev egressd_{name}")]
    {
        let fence = crate::fence(&privileged(COMMON));
        // Whoever starts keeps a cell ready: the one that is attacked has been judged by one of two.
        let agent = fence.agent(AGENT);
        let mut talker = Talker::start(&agent);
        talker.does("tcp 10.99.0.10 9000 here");
        let pins = fence.lab().folder().join("run/bpf").display().to_string();
        let remove = gone.replace("{pins}", &pins).replace("{name}", fence.lab().name());
        let removed = fence.lab().run(&remove);
        assert!(removed.succeeded(), "`{remove}`: {removed:#?}");
        for trick in frames {
            let mark = crate::sniffer::mark();
            let trick = trick.replace("{trick} ", "").replace("{v4}", &EVIL.v4.to_string());
            let trick = trick.replace("{mark}", &mark);
            let (answer, seen) = crate::attack::violations(fence.lab(), &mark, || talker.tell(&trick));
            assert!(seen.is_empty(), "without the other, {judge} lets `{trick}` out ({answer}): {seen:#?}");
        }
        leaks(fence.lab(), EVIL, &frames);
    }
}

#[test]
fn capabilities_are_kept_only_behind_a_seal() {
    let fence = crate::fence(&privileged(COMMON));
    let refused = fence.agent(AGENT).with(&["--mode", "cgroup"]).run("true");
    assert_eq!(refused.code, 125, "{refused:#?}");
    assert!(refused.says("--mode sealed"), "it says what to do: {refused:#?}");
    let kept = fence.agent(AGENT).run("grep CapBnd /proc/self/status");
    assert!(kept.stdout.trim().ends_with("30fb"), "NET_RAW and NET_ADMIN are kept: {kept:#?}");
    // And only there: the host's settings and devices are somebody else's.
    for reach in ["nsenter --net=/proc/1/ns/net true", "ip netns exec x true", "ip link set eth0 netns 1"] {
        let outcome = fence.agent(AGENT).run(&format!("{reach}; ip link show eth0"));
        assert!(outcome.succeeded(), "`{reach}` moved the agent's link: {outcome:#?}");
    }
}

#[test]
fn a_cell_goes_with_its_agent() {
    let fence = crate::fence(COMMON);
    works(&fence.agent(AGENT), OK, &["{trick} tcp {v4} 9000 {mark}"]);
    let cells = || {
        let entries = fs::read_dir(fence.lab().folder().join("run/cells")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    let links = || fence.lab().run("ip -o link | grep -c ': egd'").stdout.trim().to_owned();
    // The one that is ready for the next agent stays.
    poll("the end of the cell", || (cells().len() == 1 && links() == "1").then_some(()));
    let chains =
        fence.lab().run(&format!("nft list table netdev egressd_{} | grep -c chain", fence.lab().name()));
    assert_eq!(chains.stdout.trim(), "1", "{chains:#?}");
}

#[test]
fn sealed_flows_go_on_without_the_daemon_and_end_with_their_rule() {
    let mut fence = crate::fence(COMMON);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("say before");
    fence.kill();
    talker.does("say meanwhile");
    fence.restart();
    talker.does("say after");
    talker.does("fetch https://ok.test/");
    assert!(fence.reload(EMPTY).succeeded());
    talker.fails("say never");
}

#[test]
fn a_host_that_is_no_router_becomes_one_for_its_agents_alone() {
    let lab = Lab::new();
    let settings = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
    let read = |lab: &Lab| {
        let values = lab.run(&format!("cat {}", settings.join(" ")));
        values.stdout.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for setting in settings {
        lab.on_host(|| fs::write(setting, "0")).expect("the setting can be written");
    }
    let mut fence = crate::fence_in(lab, COMMON);
    assert_eq!(read(fence.lab()), ["0", "0"], "nothing is changed before an agent needs it");
    works(&fence.agent(AGENT), OK, &["{trick} tcp {v4} 9000 {mark}", "{trick} tcp {v6} 9000 {mark}"]);
    assert_eq!(read(fence.lab()), ["1", "1"]);
    let guard =
        fence.lab().run("nft list table ip egressd_forwarding; nft list table ip6 egressd_forwarding");
    assert_eq!(
        guard.stdout.matches("policy drop").count(),
        2,
        "others' packets are not forwarded: {guard:#?}"
    );
    fence.shut_down();
    assert_eq!(read(fence.lab()), ["0", "0"], "what was changed is put back");
    assert!(!fence.lab().run("nft list tables | grep egressd_forwarding").succeeded());
}

/// The same policy, for agents that are root of their own network namespace.
fn privileged(policy: &str) -> String {
    policy.replace("  default:\n", "  default:\n    capabilities: [net_raw, net_admin]\n")
}
