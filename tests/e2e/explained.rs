//! What `egressctl explain` says, held against what the whole firewall does: random policies, and every flow of
//! a small world by each of them.

use crate::{
    AGENT,
    fence::Fence,
    fence_in,
    lab::Lab,
    places::{ALT, DB, EVIL, OK, PLACES, SHARED, SHARED_EVIL},
    policies::{self, EMPTY},
};
use serde_json::Value;
use std::collections::HashMap;

#[test]
fn what_is_explained_is_what_happens() {
    let fence = fence_in(Lab::new(), EMPTY);
    let flows = flows();
    let unfenced = flows.iter().map(|flow| flow.line()).collect::<String>();
    let outcome = fence.lab().run(&format!("printf '{unfenced}' | python3 {FLOWS}"));
    assert!(!outcome.stdout.contains("deny"), "without a firewall every flow works: {outcome:#?}");
    let mut seen = HashMap::new();
    for seed in 1..=POLICIES {
        let policy = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).policy();
        let reloaded = fence.reload(&policy);
        assert!(reloaded.succeeded(), "policy {seed}: {reloaded:#?}\n{policy}");
        let done = fence.agent(AGENT).run(&format!("printf '{unfenced}' | python3 {FLOWS}"));
        let done: Vec<&str> = done.stdout.lines().collect();
        assert_eq!(done.len(), flows.len(), "policy {seed}: every flow was tried");
        for (flow, done) in flows.iter().zip(done) {
            let said = said(&fence, flow);
            assert_eq!(said, done, "policy {seed}: explained and done differ of {flow:?}\n{policy}");
            *seen.entry((flow.protocol, said)).or_insert(0) += 1;
        }
    }
    for protocol in ["tls", "http", "tcp", "udp"] {
        for verdict in ["allow", "deny"] {
            assert!(seen.contains_key(&(protocol, verdict)), "no flow proves anything: {protocol} {verdict}");
        }
    }
}

/// How many policies are tried: each takes a second.
const POLICIES: u64 = 24;

const FLOWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/flows.py");

#[derive(Debug, Clone)]
struct Flow {
    protocol: &'static str,
    host: String,
    port: u16,
}

impl Flow {
    fn line(&self) -> String {
        format!("{} {} {}\\n", self.protocol, self.host, self.port)
    }
}

/// Addresses first: what a name earned once is open to its address, which no rule says.
fn flows() -> Vec<Flow> {
    let mut flows = Vec::new();
    for place in [OK, ALT, DB, EVIL] {
        for host in [place.v4.to_string(), place.v6.to_string()] {
            flows.push(Flow { protocol: "tcp", host: host.clone(), port: 9000 });
            flows.push(Flow { protocol: "udp", host, port: 5432 });
        }
    }
    // Names that share no address: what speaks no name goes by what any of them earned.
    for name in [OK.name, ALT.name, DB.name] {
        flows.push(Flow { protocol: "tcp", host: name.to_owned(), port: 5432 });
        flows.push(Flow { protocol: "udp", host: name.to_owned(), port: 9000 });
    }
    for name in [OK.name, ALT.name, SHARED.name, SHARED_EVIL, "a.ok.test", "b.a.ok.test"] {
        flows.push(Flow { protocol: "tls", host: name.to_owned(), port: 443 });
        flows.push(Flow { protocol: "http", host: name.to_owned(), port: 80 });
    }
    flows
}

/// By name first; where its rules do not open what says no name, by the addresses that it has, as the flow goes.
fn said(fence: &Fence, flow: &Flow) -> &'static str {
    let by_name = explained(fence, flow);
    let networks = by_name["networks"].as_array().expect("explain names networks");
    let place = PLACES.into_iter().find(|place| flow.host.ends_with(place.name));
    let addresses = match (place, networks.is_empty()) {
        (Some(place), false) => vec![place.v4.to_string(), place.v6.to_string()],
        (Some(_) | None, _) => Vec::new(),
    };
    let by_address = |host: &String| explained(fence, &Flow { host: host.clone(), ..flow.clone() });
    let is_allowed = |answer: &Value| answer["verdict"] == "allow";
    match is_allowed(&by_name) || addresses.iter().map(by_address).any(|answer| is_allowed(&answer)) {
        true => "allow",
        false => "deny",
    }
}

fn explained(fence: &Fence, Flow { protocol, host, port }: &Flow) -> Value {
    let destination = if host.contains("::") { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let asked = ["explain", "-o", "json", "--agent", AGENT, "--protocol", *protocol, destination.as_str()];
    let outcome = fence.ctl(&asked);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"))
}

/// A small generator of numbers (xorshift64*), so that a policy is the same again when its number is.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.throw(of.len())]
    }

    fn policy(&mut self) -> String {
        let allowed: Vec<String> = (0..1 + self.throw(7)).map(|_| self.allowed()).collect();
        let denied: Vec<String> = (0..self.throw(4)).map(|_| self.denied()).collect();
        let texts =
            |rules: &[String]| rules.iter().map(String::as_str).collect::<Vec<_>>().join("\n      - ");
        let mut policy = policies::with(&[&texts(&allowed)]);
        if !denied.is_empty() {
            policy = policies::with_denied(&[&texts(&allowed)], &[&texts(&denied)]);
        }
        policy
    }

    fn allowed(&mut self) -> String {
        if self.throw(4) == 0 {
            let network = self.one(&NETWORKS);
            return format!("{{cidr: '{network}', {}}}", self.one(&RAW));
        }
        let host = self.one(&HOSTS);
        let spoken = match self.throw(2) {
            0 => self.one(&NAMED),
            _ => self.one(&RAW),
        };
        format!("{{host: '{host}', private: true, {spoken}}}")
    }

    fn denied(&mut self) -> String {
        let subject = match self.throw(3) {
            // At addresses without a name: of a name, the address that it has would decide.
            0 => "cidr: 10.99.0.66/32".to_owned(),
            _ => format!("host: '{}'", self.one(&HOSTS)),
        };
        match self.throw(3) {
            0 => format!("{{{subject}}}"),
            1 => format!("{{{subject}, ports: [443, 9000]}}"),
            _ => format!("{{{subject}, protocol: {}}}", self.one(&["tls", "http", "tcp", "udp"])),
        }
    }
}

const HOSTS: [&str; 8] =
    ["ok.test", "alt.test", "db.test", "ok2.test", "evil2.test", "*.ok.test", "**.ok.test", "*.alt.test"];
const NETWORKS: [&str; 6] =
    ["10.99.0.10/32", "10.99.0.8/30", "10.99.0.0/24", "fd99::10/128", "fd99::/64", "10.99.0.66/32"];
const NAMED: [&str; 5] = [
    "protocol: tls",
    "protocol: http",
    "protocol: tls, gate: proxy",
    "protocol: tls, ech: refuse",
    "ports: [443]",
];
const RAW: [&str; 5] = [
    "protocol: tcp, ports: [5432]",
    "protocol: tcp, ports: [9000, 5432]",
    "protocol: udp, ports: [9000]",
    "protocol: udp, ports: [5432]",
    "protocol: udp, ports: [5430-5440]",
];
