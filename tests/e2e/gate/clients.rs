//! What people run: real clients, real handshakes, and no proxy between.

use super::{CGROUP, permits};
use crate::{
    AGENT,
    attack::{tells_apart, works},
    fence,
    fence::{Agent, Fence},
    places::OK,
    policies::COMMON,
    program::{self, poll_for},
};
use std::{path::PathBuf, time::Duration};

#[test]
fn real_clients_reach_allowed_names_through_the_kernel_and_no_other() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(CGROUP);
    for (tool, script) in CLIENTS {
        if !fence.lab().run(tool).succeeded() {
            println!("skipped, for `{tool}` fails here: {script}");
            continue;
        }
        tells_apart(&agent, &[script]);
    }
    is_by_kernel(&agent, AGENT, "ok.test");
    assert!(permits(&agent, AGENT).iter().all(|record| record["path"] == "kernel"));
}

#[test]
fn git_clones_through_the_kernel() {
    let fence = fence(COMMON);
    let prepared = fence.lab().run(&format!(
        "cd {} && git init -q work && cd work && git -c user.name=a -c user.email=a@b.test commit -q --allow-empty -m one \
         && git clone -q --bare . ../repository.git && git -C ../repository.git update-server-info",
        fence.lab().folder().display()
    ));
    assert!(prepared.succeeded(), "{prepared:#?}");
    let agent = fence.agent(AGENT).with(CGROUP);
    let clone = "export HOME=$(mktemp -d) GIT_SSL_CAINFO=$SSL_CERT_FILE; cd; \
                 timeout 10 git clone -q https://{host}/repository.git cloned && git -C cloned log | grep one";
    works(&agent, OK, &[clone]);
    is_by_kernel(&agent, AGENT, "ok.test");
}

#[test]
fn a_go_program_reaches_allowed_names_through_the_kernel_and_no_other() {
    let fence = fence(COMMON);
    let Some(program) = go_client(&fence) else {
        println!("skipped: there is no Go here");
        return;
    };
    let fetch = format!("{} https://{{host}}/ | grep 'hello from {{host}}'", program.display());
    let agent = fence.agent(AGENT).with(CGROUP);
    tells_apart(&agent, &[&fetch]);
    is_by_kernel(&agent, AGENT, "ok.test");
}

#[test]
fn every_client_hears_that_its_name_is_denied() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(CGROUP);
    for (tool, script) in DENIED_CLIENTS {
        if !fence.lab().run(tool).succeeded() {
            println!("skipped, for `{tool}` fails here: {script}");
            continue;
        }
        let outcome = agent.run(&crate::attack::script(script, OK, &crate::sniffer::mark()));
        let ended_by_itself = ![0, 124, 137].contains(&outcome.code);
        assert!(ended_by_itself, "`{script}` should hear that it is denied: {outcome:#?}");
    }
}

#[test]
fn flows_are_counted_where_they_are_many() {
    let fence = fence(COMMON);
    let agent = fence.agent("busy").with(CGROUP);
    const FETCHES: u64 = 40;
    let urls = format!("https://{{host}}/[1-{FETCHES}]");
    let fetches = format!("curl -4 -sSf --http1.1 -H 'Connection: close' -o /dev/null {urls}");
    works(&agent, OK, &[&fetches]);
    let count =
        || -> u64 { permits(&agent, "busy").iter().filter_map(|record| record["count"].as_u64()).sum() };
    let counted = poll_for(Duration::from_secs(5), || (count() == FETCHES).then_some(()));
    assert!(counted.is_some(), "{} of {FETCHES} are counted: {:#?}", count(), permits(&agent, "busy"));
}

/// The record says that the kernel read the name, and who asked.
fn is_by_kernel(agent: &Agent, name: &str, host: &str) {
    let record = program::poll("the record of a permit", || {
        permits(agent, name).into_iter().find(|record| record["destination"]["name"] == host)
    });
    assert_eq!(record["path"], "kernel", "{record:#}");
    assert_eq!(record["protocol"], "tls", "{record:#}");
    assert_eq!(record["destination"]["port"], 443, "{record:#}");
    assert!(record["rule"].as_str().is_some_and(|rule| rule.contains("policy.yaml:")), "{record:#}");
}

/// A program in Go that fetches its argument; None where there is no Go.
fn go_client(fence: &Fence) -> Option<PathBuf> {
    let (folder, source) = (fence.lab().folder(), fence.lab().folder().join("fetch.go"));
    std::fs::write(&source, GO).expect("a program can be written");
    let program = folder.join("fetch");
    let build = format!(
        "command -v go && HOME={0} GOFLAGS=-mod=mod go build -o {1} {2}",
        folder.display(),
        program.display(),
        source.display()
    );
    let built = fence.lab().run(&build);
    (built.code != 1 || !built.stdout.is_empty()).then(|| assert!(built.succeeded(), "{built:#?}"))?;
    Some(program)
}

const GO: &str = r#"
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	body, _ := io.ReadAll(answer.Body)
	fmt.Print(string(body))
}
"#;

#[test]
fn a_real_client_with_a_hello_over_many_packets_reaches_allowed_names_through_the_kernel_and_no_other() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT).with(CGROUP);
    let fetch = "/usr/bin/python3 -c 'import socket, ssl; terms = ssl.create_default_context(cafile=__import__(\"os\").environ[\"SSL_CERT_FILE\"]); \
         terms.set_alpn_protocols([\"http/1.1\"] + [\"a protocol of nobody %04d\" % number for number in range(540)]); \
         flow = terms.wrap_socket(socket.create_connection((\"{host}\", 443), 5), server_hostname=\"{host}\"); \
         flow.sendall(b\"GET / HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n\"); \
         print(flow.makefile(\"rb\").read())' | grep 'hello from {host}'";
    tells_apart(&agent, &[fetch]);
    is_by_kernel(&agent, AGENT, "ok.test");
    assert!(permits(&agent, AGENT).iter().all(|record| record["path"] == "kernel"));
}

/// What has to be there, and how it fetches.
const CLIENTS: &[(&str, &str)] = &[
    (
        "curl --version",
        "curl -4 -sSf -m 5 --tlsv1.2 --tls-max 1.2 https://{host}/ | grep 'hello from {host}'",
    ),
    (
        "curl --version",
        "curl -6 -sSf -m 5 --tlsv1.2 --tls-max 1.2 https://{host}/ | grep 'hello from {host}'",
    ),
    ("curl --version", "curl -4 -sSf -m 5 --tlsv1.3 https://{host}/ | grep 'hello from {host}'"),
    ("curl --version", "curl -6 -sSf -m 5 --tlsv1.3 https://{host}/ | grep 'hello from {host}'"),
    ("curl --version", "curl -sSf -m 5 --http2 https://{host}/ | grep 'hello from {host}'"),
    ("curl --version", "curl -sSf -m 5 https://{host}/a https://{host}/b | grep -c hello | grep 2"),
    (
        "openssl version",
        "printf 'GET / HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' | timeout 5 openssl s_client -quiet \
         -verify_return_error -connect {host}:443 | grep 'hello from {host}'",
    ),
    ("python3 --version", "{trick} fetch https://{host}/"),
    ("python3 --version", "{trick} hello_dribbled {host} 443 {host}"),
    (
        "/usr/bin/python3 -c 'import requests'",
        "REQUESTS_CA_BUNDLE=$SSL_CERT_FILE /usr/bin/python3 -c 'import requests; \
         print(requests.get(\"https://{host}/\", timeout=5).text)' | grep 'hello from {host}'",
    ),
    (
        "wget --version",
        "wget -q -T 5 -t 1 --ca-certificate=$SSL_CERT_FILE -O - https://{host}/ | grep 'hello from {host}'",
    ),
    (
        "node --version",
        "NODE_EXTRA_CA_CERTS=$SSL_CERT_FILE timeout 5 node -e 'fetch(\"https://{host}/\").then(a => a.text())\
         .then(console.log)' | grep 'hello from {host}'",
    ),
    (
        "gnutls-cli --version",
        "printf 'GET / HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' | timeout 5 gnutls-cli --x509cafile=$SSL_CERT_FILE \
         {host} | grep 'hello from {host}'",
    ),
];

/// How they ask an allowed address for a name that is denied.
const DENIED_CLIENTS: &[(&str, &str)] = &[
    (
        "curl --version",
        "curl -s https://{host}/; timeout 5 curl -sk --resolve {mark}.evil.test:443:{v4} https://{mark}.evil.test/",
    ),
    (
        "openssl version",
        "timeout 5 openssl s_client -connect {host}:443 -servername {mark}.evil.test < /dev/null; [ $? = 1 ] && exit 1",
    ),
    (
        "wget --version",
        // To an address, whose hello names nobody.
        "curl -s https://{host}/; timeout 5 wget -q -t 1 -O - --no-check-certificate https://{v4}/",
    ),
    (
        "node --version",
        "timeout 5 node -e 'const tls = require(\"tls\"); const flow = tls.connect({host: \"{host}\", port: 443, \
         servername: \"{mark}.evil.test\", rejectUnauthorized: false}, () => process.exit(0)); \
         flow.on(\"error\", error => { console.log(error.code); process.exit(7) })'",
    ),
    (
        "gnutls-cli --version",
        "timeout 5 gnutls-cli --insecure --sni-hostname {mark}.evil.test {host} < /dev/null",
    ),
    ("python3 --version", "{trick} gate.say whole 4 {host} 443 {mark}.evil.test"),
];
