//! Policies and flows made by chance, from few names, so that they meet.

use egressd::policy::{Destination, Flow, Grant, Grants, HostName, Moment, Policy, Protocol};
use proptest::{collection::vec, prelude::*, sample::select};
use std::net::IpAddr;

/// What stands below the name of an agent.
pub fn section() -> impl Strategy<Value = String> {
    (vec(allowing(), 0..6), vec(denying(), 0..4), prop_oneof![Just(8192), Just(100)]).prop_map(
        |(allow, deny, budget)| {
            let list = |rules: Vec<String>| -> String {
                rules.into_iter().map(|rule| format!("  - {{{rule}}}\n")).collect()
            };
            let key = |key: &str, rules: Vec<String>| match rules.is_empty() {
                true => format!("{key}: []\n"),
                false => format!("{key}:\n{}", list(rules)),
            };
            format!("{}{}leak_budget: {budget}\n", key("rules", allow), key("deny", deny))
        },
    )
}

/// A flow of each kind, to a name, to an address, and to a name at an address.
pub fn flow() -> impl Strategy<Value = Flow> {
    let destination = prop_oneof![
        name().prop_map(Destination::Name),
        name().prop_map(Destination::Name),
        address().prop_map(Destination::Address)
    ];
    (destination, select(PORTS.to_vec()), select(Protocol::ALL.to_vec()), proptest::option::of(address()))
        .prop_map(|(destination, port, protocol, address)| {
            let address = address.filter(|_| matches!(destination, Destination::Name(_)));
            Flow { destination, port, protocol, address }
        })
}

/// Whether `policy` lets `flow` leave, after a lookup of its name was answered with its address.
pub fn allows(policy: &Policy, flow: &Flow) -> bool {
    policy.decide(flow, &grants(policy, flow), Moment(1)).is_ok()
}

/// What an agent holds after a lookup of the name of `flow` was answered with its address.
pub fn grants(policy: &Policy, flow: &Flow) -> Grants {
    let mut grants = Grants::default();
    if let (Destination::Name(name), Some(address)) = (&flow.destination, flow.address)
        && let Ok(leave) = policy.lookup(name)
    {
        let earned: Vec<Grant> = policy
            .openings_at(address, &leave)
            .map(|opening| Grant {
                name: name.clone(),
                address,
                port: opening.port,
                protocol: opening.protocol,
                rule: opening.rule,
                expires: Moment(2),
            })
            .collect();
        grants.insert(&earned, Moment(1)).unwrap();
    }
    grants
}

const PORTS: [u16; 4] = [80, 443, 444, 5432];

fn allowing() -> impl Strategy<Value = String> {
    let terms = select(vec!["", ", private: true", ", types: [TXT]", ", reason: why", ", for: 1h"]);
    let tls = select(vec![
        "",
        ", ech: refuse",
        ", gate: proxy",
        ", inspect: true",
        ", inspect: true, allow: [GET /]",
    ]);
    let wildcard = prop_oneof![Just(""), Just(", leak_budget: 10")];
    prop_oneof![
        (pattern(), ports(), terms.clone(), tls, wildcard).prop_map(|(host, ports, terms, tls, budget)| {
            let budget = if host.contains('*') { budget } else { "" };
            format!("host: \"{host}\", danger_public_suffix: true, ports: [{ports}]{terms}{tls}{budget}")
        }),
        (pattern(), ports(), select(vec!["http", "tcp", "udp", "quic"]), terms).prop_map(
            |(host, ports, protocol, terms)| format!(
                "host: \"{host}\", danger_public_suffix: true, protocol: {protocol}, ports: [{ports}]{terms}"
            )
        ),
        (network(), ports(), select(vec!["tcp", "udp"])).prop_map(|(cidr, ports, protocol)| format!(
            "cidr: \"{cidr}\", protocol: {protocol}, ports: [{ports}]"
        )),
    ]
}

fn denying() -> impl Strategy<Value = String> {
    let subject = prop_oneof![
        pattern().prop_map(|host| format!("host: \"{host}\"")),
        network().prop_map(|cidr| format!("cidr: \"{cidr}\""))
    ];
    let ports = prop_oneof![Just(String::new()), ports().prop_map(|ports| format!(", ports: [{ports}]"))];
    let protocol = prop_oneof![Just(""), Just(", protocol: tls"), Just(", protocol: tcp")];
    (subject, ports, protocol).prop_map(|(subject, ports, protocol)| format!("{subject}{ports}{protocol}"))
}

fn ports() -> impl Strategy<Value = String> {
    select(vec!["443", "80", "5432", "80, 443"]).prop_map(str::to_owned)
}

fn pattern() -> impl Strategy<Value = String> {
    (select(vec!["", "", "*.", "**."]), host()).prop_map(|(stars, host)| format!("{stars}{host}"))
}

fn name() -> impl Strategy<Value = HostName> {
    host().prop_map(|host| HostName::parse(&host).unwrap())
}

/// Two resolvers are among them.
fn host() -> impl Strategy<Value = String> {
    let made = (vec(select(vec!["a", "b"]), 0..4), select(vec!["a.test", "b.test"]))
        .prop_map(|(labels, zone)| labels.iter().map(|label| format!("{label}.")).collect::<String>() + zone);
    let known =
        select(vec!["dns.google", "a.dns.google", "google", "www.google", "test"]).prop_map(str::to_owned);
    prop_oneof![8 => made, 1 => known]
}

fn network() -> impl Strategy<Value = String> {
    select(vec![
        "0.0.0.0/0",
        "8.0.0.0/6",
        "9.9.9.0/24",
        "9.9.9.9/32",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3/32",
        "::/0",
        "2000::/3",
        "2600::/16",
        "2001:db8::/32",
    ])
    .prop_map(str::to_owned)
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(vec![
        "1.1.1.1",
        "9.9.9.9",
        "9.9.9.1",
        "10.0.0.1",
        "10.1.2.3",
        "10.1.0.0",
        "127.0.0.1",
        "169.254.169.254",
        "::ffff:9.9.9.9",
        "2600::1",
        "2001:db8::1",
        "2800::1",
        "::1",
    ])
    .prop_map(|address| address.parse().unwrap())
}
