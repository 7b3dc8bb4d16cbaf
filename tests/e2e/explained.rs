//! What `egressctl explain` says, held against what the whole firewall does: random policies, and every flow of
//! a small world by each of them.

use crate::{
    AGENT,
    fence::{Agent, Fence},
    fence_in,
    lab::Lab,
    loans::went_to,
    places::{ALT, DB, EVIL, OK, OPEN, PLACES, SHARED, SHARED_EVIL},
    policies::{self, EMPTY},
    program::{Program, poll},
    sniffer::mark,
};
use serde_json::Value;
use std::{collections::HashMap, io::Write, net::IpAddr};

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
            let said = said(&fence, AGENT, flow);
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

/// The same of what is bounded, on trial, over, lent, or for people to approve: asked before each flow, for each
/// uses something up.
#[test]
fn what_is_explained_of_bounds_trials_and_terms_is_what_happens() {
    let fence = fence_in(Lab::new(), EMPTY);
    let mut seen = HashMap::new();
    for seed in 1..=BOUNDED_POLICIES {
        let mut dice = Dice(seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let policy = dice.bounded_policy();
        let reloaded = fence.reload(&policy);
        assert!(reloaded.succeeded(), "policy {seed}: {reloaded:#?}\n{policy}");
        let agent = format!("bounded{seed}");
        let mode = if seed % 2 == 0 { "sealed" } else { "cgroup" };
        let mut flows = Flows::start(fence.agent(&agent).with(&["--mode", mode]));
        for lent in (0..dice.throw(3)).map(|_| dice.one(&LENT)) {
            let words = [&["allow", "--agent", &agent], &lent.split(' ').collect::<Vec<_>>()[..]].concat();
            // What a rule denies, nobody lends.
            let _ = fence.ctl(&words);
        }
        for flow in bounded_flows().iter().cycle().take(3 * bounded_flows().len()) {
            let answer = explained(&fence, &agent, flow);
            // Observation ends at private addresses, and that one has none is not known before it is asked for.
            let is_unknown = answer["resolver"]["answer"] == "asked" && flow.host != OPEN.name;
            if is_unknown && !answer["observed"].is_null() {
                continue;
            }
            let (said, done) = (said(&fence, &agent, flow), flows.try_out(flow));
            assert_eq!(
                said, done,
                "policy {seed}: explained and done differ of {flow:?}\n{policy}\n{answer:#}"
            );
            let why = answer["reason"].as_str().unwrap_or(match answer["observed"].as_str() {
                Some(_) => "observed",
                None => "allowed",
            });
            *seen.entry(why.to_owned()).or_insert(0) += 1;
        }
    }
    for why in ["allowed", "observed", "budget-spent", "rate-exceeded", "rule-expired", "approval-required"] {
        assert!(seen.contains_key(why), "no flow proves anything about `{why}`: {seen:?}");
    }
}

#[test]
fn an_explanation_says_at_which_gate_and_why_and_asks_nobody() {
    let fence = fence_in(
        Lab::new(),
        &policies::with(&[
            "{host: db.test, protocol: tcp, ports: [9000], private: true, max_connections: 1}",
            "{host: '*.ok.test', private: true}",
            "{host: alt.test}",
            "{host: '*.alt.test', approval: required}",
        ]),
    );
    let mut flows = Flows::start(fence.agent(AGENT));
    let db = Flow { protocol: "tcp", host: DB.name.to_owned(), port: 9000 };
    assert_eq!(flows.try_out(&db), "allow");
    let spent = fence.ctl(&["explain", "db.test:9000", "--agent", AGENT]);
    assert_eq!(spent.code, 1, "{spent:#?}");
    for words in
        ["answers without asking anybody: 10.99.0.12", "budget     denied", "1 of 1 connections, 0 left"]
    {
        assert!(spent.says(words), "{words}: {spent:#?}");
    }
    assert!(
        spent.says("raise `max_connections` of the rule at") && spent.says("policy.yaml:5"),
        "{spent:#?}"
    );
    assert_eq!(flows.try_out(&db), "deny");
    let mark = mark();
    let wildcard = fence.ctl(&["explain", &format!("{mark}.ok.test"), "--agent", AGENT]);
    assert_eq!(wildcard.code, 0, "{wildcard:#?}");
    assert!(
        wildcard.says("is asked for upstream, of 10.99.0.53:53") && wildcard.says("costs "),
        "{wildcard:#?}"
    );
    let held = fence.ctl(&["explain", &format!("{mark}.alt.test"), "--agent", AGENT]);
    assert_eq!(held.code, 1, "{held:#?}");
    assert!(held.says("resolver   held") && held.says("egressctl approvals"), "{held:#?}");
    let private = fence.ctl(&["explain", "alt.test", "--agent", AGENT]);
    assert_eq!(private.code, 1, "{private:#?}");
    assert!(private.says("REFUSED, EDE 15 (Blocked): address-special-purpose"), "{private:#?}");
    assert!(private.says("- {host: alt.test, private: true}"), "{private:#?}");
    assert_eq!(flows.try_out(&Flow { protocol: "tls", host: ALT.name.to_owned(), port: 443 }), "deny");
    assert_eq!(went_to(&fence, &mark), [] as [IpAddr; 0], "an explanation lets no name out");
    assert!(!fence.ctl(&["approvals"]).says(&mark), "and bothers nobody");
    allow_once(&fence, "ok.test:9000");
    let lent = Flow { protocol: "tcp", host: OK.name.to_owned(), port: 9000 };
    assert_eq!((said(&fence, AGENT, &lent), flows.try_out(&lent)), ("allow", "allow".to_owned()));
    let spent = fence.ctl(&["explain", "ok.test:9000", "--protocol", "tcp", "--agent", AGENT]);
    assert!(
        spent.code == 1 && spent.says("grant:1") && spent.says("for now    egressctl allow"),
        "{spent:#?}"
    );
    assert_eq!(flows.try_out(&lent), "deny");
}

fn allow_once(fence: &Fence, destination: &str) {
    let words = ["allow", destination, "--protocol", "tcp", "--private", "--uses", "1", "--agent", AGENT];
    let allowed = fence.ctl(&words);
    assert!(allowed.succeeded(), "{allowed:#?}");
}

/// An agent that tries flows one after the other.
struct Flows {
    program: Program,
    tried: usize,
}

impl Flows {
    fn start(agent: Agent) -> Self {
        Self { program: agent.spawn(&["python3", FLOWS]), tried: 0 }
    }

    fn try_out(&mut self, Flow { protocol, host, port }: &Flow) -> String {
        let line = format!("{protocol} {host} {port}\n");
        self.program.stdin().write_all(line.as_bytes()).expect("the agent reads");
        self.tried += 1;
        poll("the flow", || {
            let text = self.program.stdout();
            assert!(!self.program.has_ended(), "the agent ended: {text}{}", self.program.stderr());
            text.lines()
                .nth(self.tried - 1)
                .filter(|line| matches!(*line, "allow" | "deny"))
                .map(str::to_owned)
        })
    }
}

/// How many policies with bounds are tried: each takes some seconds.
const BOUNDED_POLICIES: u64 = 10;

/// What somebody allows for a time.
const LENT: [&str; 4] = [
    "alt.test:5432 --protocol tcp --private --uses 1",
    "alt.test:443 --private --uses 2",
    "10.99.0.66:9000 --protocol tcp --uses 1",
    "db.test:9000 --protocol udp --private --bytes 28",
];

/// To places that share no address; of each kind few, for each is tried three times.
fn bounded_flows() -> Vec<Flow> {
    let flow = |protocol, host: &str, port| Flow { protocol, host: host.to_owned(), port };
    vec![
        flow("tcp", "db.test", 5432),
        flow("tcp", "alt.test", 5432),
        flow("udp", "db.test", 9000),
        flow("tcp", "10.99.0.66", 9000),
        flow("udp", "10.99.0.66", 5432),
        flow("tls", "ok.test", 443),
        flow("tls", "alt.test", 443),
        flow("http", "ok.test", 80),
        flow("tcp", "20.99.0.77", 9000),
        flow("tls", "open.test", 443),
    ]
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
fn said(fence: &Fence, agent: &str, flow: &Flow) -> &'static str {
    let by_name = explained(fence, agent, flow);
    let networks = by_name["networks"].as_array().expect("explain names networks");
    let place = PLACES.into_iter().find(|place| flow.host.ends_with(place.name));
    let addresses = match (place, networks.is_empty()) {
        (Some(place), false) => vec![place.v4.to_string(), place.v6.to_string()],
        (Some(_) | None, _) => Vec::new(),
    };
    let by_address = |host: &String| explained(fence, agent, &Flow { host: host.clone(), ..flow.clone() });
    let is_allowed = |answer: &Value| answer["verdict"] == "allow";
    match is_allowed(&by_name) || addresses.iter().map(by_address).any(|answer| is_allowed(&answer)) {
        true => "allow",
        false => "deny",
    }
}

fn explained(fence: &Fence, agent: &str, Flow { protocol, host, port }: &Flow) -> Value {
    let destination = if host.contains("::") { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let asked = ["explain", "-o", "json", "--agent", agent, "--protocol", *protocol, destination.as_str()];
    let outcome = fence.ctl(&asked);
    let answer: Value =
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:#?}"));
    let ends = |gate: &&Value| gate["step"] == "denied" || gate["step"] == "held";
    let ended = answer["gates"].as_array().expect("explain names gates").iter().filter(ends).count();
    assert_eq!(ended, usize::from(answer["verdict"] == "deny"), "one gate denies: {answer:#}");
    assert_eq!(outcome.code, i32::from(answer["verdict"] == "deny"), "{outcome:#?}");
    answer
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

    /// With few rules, most of which are bounded in some way.
    fn bounded_policy(&mut self) -> String {
        let mut rules = Vec::new();
        for rule in BOUNDED {
            if self.throw(5) != 0 {
                rules.push(format!("{{{rule}{}}}", self.one(&TERMS)));
            }
        }
        let asked =
            self.one(&["", "", "{cidr: 10.99.0.66/32, protocol: udp, ports: [5432], approval: required}"]);
        let rules =
            rules.iter().map(String::as_str).chain([asked].into_iter().filter(|rule| !rule.is_empty()));
        let policy = policies::with(&rules.collect::<Vec<_>>());
        let own = self.one(&["", "", "    mode: observe\n", "    max_connections: 6\n", "    rate: 8/h\n"]);
        policy.replace("  default:\n", &format!("  default:\n{own}"))
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

const BOUNDED: [&str; 6] = [
    "host: db.test, private: true, protocol: tcp, ports: [5432]",
    "host: db.test, private: true, protocol: udp, ports: [9000], max_bytes: 28",
    "host: '**.ok.test', private: true",
    "host: ok.test, private: true",
    "host: ok.test, private: true, protocol: http",
    "cidr: 10.99.0.66/32, protocol: tcp, ports: [9000]",
];
const TERMS: [&str; 6] = [
    "",
    ", max_connections: 1",
    ", max_connections: 2",
    ", rate: 2/h",
    ", expires: 2020-01-01",
    ", mode: observe",
];
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
