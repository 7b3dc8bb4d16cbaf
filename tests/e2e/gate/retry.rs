//! A second hello, which a server may ask for, is held to the name of the first.

use super::{CGROUP, gated, servers, stops, works};
use crate::{
    AGENT,
    lab::Lab,
    places::OK,
    program::{self, Program},
};
use std::process::Stdio;

#[test]
fn a_second_hello_for_the_same_name_is_answered() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent(AGENT).with(CGROUP);
    for (version, how) in
        ["4", "6"].into_iter().flat_map(|version| SAME.into_iter().map(move |how| (version, how)))
    {
        works(&agent, OK, &[&format!("{{trick}} gate.retried {version} {{host}} 4432 {{mark}} {how}")]);
    }
}

#[test]
fn a_second_hello_for_another_name_does_not_leave() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    for version in ["4", "6"] {
        let tricks = OTHER.map(|how| format!("{{trick}} gate.retried {version} ok.test 4432 {{mark}} {how}"));
        stops(&fence.agent(AGENT).with(CGROUP), &tricks.each_ref().map(String::as_str));
    }
}

#[test]
fn a_second_hello_for_another_name_is_heard_of_and_recorded() {
    let fence = gated("kernel");
    let _servers = servers(fence.lab());
    let agent = fence.agent("changed").with(CGROUP);
    let mark = crate::sniffer::mark();
    let trick = format!("{{trick}} gate.retried 4 ok.test 4432 {mark} other_after_change");
    let outcome = agent.run(&crate::attack::script(&trick, OK, &mark));
    super::heard_in_time(&trick, &outcome);
    let record = agent.denial("the second hello", |record| record["gate"] == "server-name");
    assert_eq!(record["reason"], "server-name-changed", "{record:#}");
    assert_eq!(record["path"], "kernel", "{record:#}");
    assert_eq!(record["destination"]["port"], 4432, "{record:#}");
    assert_eq!(record["destination"]["name"], format!("{mark}.evil.test"), "the second name: {record:#}");
}

#[test]
fn real_clients_are_asked_for_a_second_hello_and_answered() {
    let fence = gated("kernel");
    // It takes no group that clients have a key of ready.
    let _server = openssl(fence.lab(), &["-www", "-groups", "P-384"]);
    let agent = fence.agent(AGENT).with(CGROUP);
    let fetches = [
        "curl -4 -sSf -m 5 https://{host}:4430/ | grep -i 'HTTP\\|cipher'",
        "curl -6 -sSf -m 5 https://{host}:4430/ | grep -i 'HTTP\\|cipher'",
        "echo Q | timeout 5 openssl s_client -connect {host}:4430 -verify_return_error",
        "curl -sSf -m 5 --tls-max 1.2 https://{host}:4430/ | grep -i 'HTTP\\|cipher'",
    ];
    works(&agent, OK, &fetches);
    let asked = fence.lab().run("openssl s_client -connect ok.test:4430 -trace < /dev/null");
    assert!(asked.says("HelloRetryRequest") || asked.stdout.matches("ClientHello").count() > 1, "{asked:#?}");
}

#[test]
fn a_resumed_session_with_early_data_is_answered() {
    let fence = gated("kernel");
    let _server = openssl(fence.lab(), &["-early_data", "-max_early_data", "4096"]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let session = folder.path().join("session");
    let session = session.display();
    let first = format!(
        "(until [ -s {session} ]; do sleep 0.05; done; echo Q) \
         | timeout 10 openssl s_client -connect {{host}}:4430 -tls1_3 -sess_out {session}"
    );
    let second = format!(
        "cd {}; echo early > early; \
         (until grep -qis 'early data was' said; do sleep 0.05; done; echo Q) \
         | timeout 10 openssl s_client -connect {{host}}:4430 -tls1_3 -sess_in {session} -early_data early > said; \
         grep -i 'early data was accepted' said",
        folder.path().display()
    );
    works(&fence.agent(AGENT).with(CGROUP), OK, &[&format!("{first}; {second}")]);
}

/// `openssl s_server`, until it is dropped.
fn openssl(lab: &Lab, flags: &[&str]) -> Program {
    let mut command = lab.inet_command("openssl");
    command.current_dir(lab.folder()).args(["s_server", "-accept", "4430"]);
    command.args(["-cert", "ok.test.pem", "-key", "key.pem"]).args(flags);
    // It ends with its input.
    command.stdin(Stdio::piped());
    let server = Program::start(command);
    program::poll("the server", || server.stdout().contains("ACCEPT").then_some(()));
    server
}

/// See `gate.py`, `retried`.
const SAME: [&str; 3] = ["same", "same_after_change", "same_by_octets"];
const OTHER: [&str; 10] = [
    "other",
    "other_after_change",
    "other_by_octets",
    "raw",
    "raw_after_change",
    "changes",
    "records",
    "both",
    "data",
    "copied",
];
