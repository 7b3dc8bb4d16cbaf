//! Each export: that it says what the policy says, never lets more pass, and tells what it cannot say.

use crate::world::{allows, compile, options, translate};
use egressd::{
    authoring::{
        Fate,
        export::{Exported, Target, export},
        import::Kind,
    },
    policy::{AgentName, Policy},
};
use ipnet::IpNet;
use proptest::prelude::*;
use std::{collections::HashMap, process::Command};

const POLICY: &str = r#"version: 1
agents:
  default:
    rules:
      - host: api.example.com
      - {host: "*.one.example.com", ports: [443, 8443]}
      - {host: "**.deep.example.com", protocol: http, leak_budget: 640}
      - {host: db.example.com, protocol: tcp, ports: [5432]}
      - {host: read.example.com, inspect: true, allow: [GET /a/**]}
      - {host: h3.example.com, protocol: quic}
      - {host: soon.example.com, expires: 2999-12-31}
      - {cidr: 0.0.0.0/0, protocol: udp, ports: [123]}
      - {cidr: 198.51.100.0/24, protocol: tcp, ports: [22]}
    deny:
      - host: "**.bad.deep.example.com"
      - {cidr: 8.8.8.0/24, ports: [22, 123]}
"#;

#[test]
fn squid_gets_denials_first_and_names_without_their_apex() {
    let exported = of(Target::Squid, POLICY);
    for line in [
        r"acl egressd_allow_2 dstdom_regex -n -i ^[^.]+\.one\.example\.com$",
        r"acl egressd_allow_3 dstdom_regex -n -i ^([^.]+\.)+deep\.example\.com$",
        "http_access allow egressd_allow_1 egressd_allow_1_port egressd_connect !egressd_special !egressd_special_6",
        "http_access allow egressd_allow_3 egressd_allow_3_port !egressd_connect !egressd_special !egressd_special_6",
        "acl egressd_allow_9 dst -n 198.51.100.0/24",
    ] {
        assert!(exported.text.lines().any(|own| own == line), "{line}\n{}", exported.text);
    }
    let place = |line: &str| exported.text.find(line).unwrap_or_else(|| panic!("{line}\n{}", exported.text));
    assert!(place("http_access deny egressd_deny_1") < place("http_access allow egressd_allow_1"));
    assert!(exported.text.ends_with("http_access deny all\n"));
    lost(&exported, "read.example.com 443/tls", "requests are not judged");
    lost(&exported, "soon.example.com 443/tls", "for ever");
    lost(&exported, "h3.example.com 443/quic", "only TCP");
    lost(&exported, "0.0.0.0/0 123/udp", "only TCP");
    lost(&exported, "leak_budget", "not bounded");
    assert!(!exported.text.contains("acl egressd_allow_5"), "what is lost is not written");
}

#[test]
fn cilium_gets_networks_with_holes_and_no_wildcard_that_a_denial_takes_from() {
    let exported = of(Target::Cilium, POLICY);
    lost(&exported, "**.deep.example.com 80/http", "p.yaml:15 denies a part of it");
    for part in [
        "- matchName: \"api.example.com\"\n      toPorts:",
        "- matchPattern: \"*.one.example.com\"\n      toPorts:\n        - ports:\n            - {port: \"443\", protocol: TCP}\n            - {port: \"8443\", protocol: TCP}\n",
        "- {port: \"443\", protocol: UDP}",
        "- cidr: \"198.51.100.0/24\"\n      toPorts:\n        - ports:\n            - {port: \"22\", protocol: TCP}\n",
        "- cidr: \"198.51.100.0/24\"\n      toPorts:\n        - ports:\n            - {port: \"1\", endPort: 21, protocol: TCP}\n",
        "  egressDeny:\n    # p.yaml:16\n    - toCIDRSet:\n        - cidr: \"8.8.8.0/24\"\n",
    ] {
        assert!(exported.text.contains(part), "{part}\n{}", exported.text);
    }
    let translation = translate(Kind::Cilium, &exported.text);
    translation
        .allows(&[
            "api.example.com",
            "a.one.example.com",
            "h3.example.com/quic",
            "db.example.com:5432/tcp",
            "9.9.9.9:123/udp",
        ])
        .denies(&[
            "a.deep.example.com:80/http",
            "10.0.0.1:123/udp",
            "8.8.8.8:123/udp",
            "198.51.100.1:443/tcp",
        ]);
}

#[test]
fn nftables_gets_networks_as_rules_and_names_as_comments() {
    let exported = of(Target::Nftables, POLICY);
    for line in [
        "# api.example.com tcp/443 (p.yaml:5)",
        "# h3.example.com udp/443 (p.yaml:10)",
        "ip daddr 198.51.100.0/24 tcp dport { 22 } accept",
        "ip daddr 8.8.8.0/24 tcp dport { 22, 123 } drop",
        "ip daddr 8.8.8.0/24 udp dport { 22, 123 } drop",
    ] {
        assert!(exported.text.lines().any(|own| own.trim() == line), "{line}\n{}", exported.text);
    }
    assert!(
        exported.text.contains("ip daddr 0.0.0.0/0 ip daddr != { 0.0.0.0/8, 10.0.0.0/8,"),
        "{}",
        exported.text
    );
    assert!(exported.text.trim_end().ends_with("drop\n\t}\n}"));
}

#[test]
fn a_wildcard_above_resolvers_keeps_them_closed() {
    let policy = "version: 1\nagents:\n  default:\n    rules:\n      - host: \"**.quad9.net\"\n      - host: ok.test\n";
    let squid = of(Target::Squid, policy);
    assert!(squid.text.contains("acl egressd_resolvers dstdomain -n .dns.quad9.net\n"), "{}", squid.text);
    assert!(
        squid.text.contains("egressd_connect !egressd_special !egressd_special_6 !egressd_resolvers\n"),
        "{}",
        squid.text
    );
    lost(&of(Target::Cilium, policy), "**.quad9.net 443/tls", "would be open");
}

#[test]
fn private_addresses_are_opened_only_to_names_that_may_have_them() {
    let policy = "version: 1\nagents:\n  default:\n    rules:\n      - {host: db.corp.test, private: true}\n      - host: ok.test\n";
    let squid = of(Target::Squid, policy);
    assert!(
        squid.text.contains("egressd_allow_1_port egressd_connect !egressd_never !egressd_never_6\n"),
        "{}",
        squid.text
    );
    assert!(
        squid.text.contains("egressd_allow_2_port egressd_connect !egressd_special !egressd_special_6\n"),
        "{}",
        squid.text
    );
    lost(&of(Target::Cilium, policy), "ok.test 443/tls", "would open private addresses");
}

#[test]
fn what_a_target_can_say_comes_back_without_a_remark() {
    let rules = [
        "{host: corp.test}",
        "{host: \"*.one.corp.test\"}",
        "{host: \"**.any.corp.test\"}",
        "{host: web.corp.test, protocol: http}",
        "{host: db.corp.test, protocol: tcp, ports: [22, 5432]}",
        "{cidr: 1.2.0.0/16, protocol: tcp, ports: [22, 80, 443]}",
    ]
    .map(str::to_owned);
    let deny = ["{cidr: 1.2.3.0/24, ports: [22]}", "{host: corp.test, ports: [8443]}"].map(str::to_owned);
    let policy = file(&rules, &deny);
    for (target, kind) in [(Target::Squid, Kind::Squid), (Target::Cilium, Kind::Cilium)] {
        let exported = of(target, &policy);
        assert!(
            exported.report.iter().all(|line| line.fate == Fate::Exact),
            "{target}: {:#?}",
            exported.report
        );
        translate(kind, &exported.text)
            .is_exact()
            .allows(&[
                "corp.test",
                "a.one.corp.test",
                "b.a.any.corp.test",
                "web.corp.test:80/http",
                "db.corp.test:22/tcp",
                "1.2.0.1:22/tcp",
            ])
            .denies(&[
                "b.a.one.corp.test",
                "any.corp.test",
                "web.corp.test",
                "1.2.3.4:22/tcp",
                "1.2.0.1:23/tcp",
            ]);
    }
}

#[test]
fn what_only_counts_with_a_yes_a_budget_or_an_end_is_in_no_export() {
    let own = "    rules:
      - {host: asked.test, approval: required}
      - {cidr: 192.0.2.0/24, protocol: tcp, ports: [22], approval: required}
      - {host: bytes.test, max_bytes: 1MB}
      - {host: flows.test, max_connections: 4}
      - {host: often.test, rate: 10/s}
      - {cidr: 198.51.100.0/24, protocol: tcp, ports: [22], for: 1h}
";
    let open =
        "    rules:\n      - host: asked.test\n      - {cidr: 192.0.2.0/24, protocol: tcp, ports: [22]}\n";
    let mut policies = vec![own.to_owned()];
    policies.extend(
        ["max_bytes: 1MB", "max_connections: 4", "rate: 10/s"].map(|all| format!("    {all}\n{open}")),
    );
    for (target, agent) in
        Target::ALL.into_iter().flat_map(|target| policies.iter().map(move |agent| (target, agent)))
    {
        let policy = format!("version: 1\nagents:\n  default:\n{agent}");
        let exported = of(target, &policy);
        let body: String = exported.text.lines().filter(|line| !line.trim().starts_with('#')).collect();
        for opens in ["http_access allow", "toPorts", "daddr", "asked.test", "bytes.test"] {
            assert!(!body.contains(opens), "{target}: {}", exported.text);
        }
        lost(&exported, "asked.test 443/tls", "there");
        lost(&exported, "192.0.2.0/24 22/tcp", "there");
    }
    lost(
        &of(Target::Nftables, &format!("version: 1\nagents:\n  default:\n{}", policies[1])),
        "budget",
        "nothing keeps",
    );
}

#[test]
fn what_is_left_out_opens_no_addresses_to_names_in_cilium() {
    let policy = |term: &str| {
        format!(
            "version: 1\nagents:\n  default:\n    rules:\n      - host: ok.test\n      - {{cidr: 10.0.0.0/8, protocol: tcp, ports: [443]{term}}}\n"
        )
    };
    assert!(
        of(Target::Cilium, &policy("")).text.contains("port: \"1\", endPort: 442"),
        "the twin is open at 443"
    );
    for term in [", max_bytes: 1MB", ", approval: required", ", for: 1h"] {
        let text = of(Target::Cilium, &policy(term)).text;
        assert!(text.contains("- cidr: \"10.0.0.0/8\"\n") && !text.contains("endPort"), "{term}\n{text}");
    }
}

#[test]
fn what_holds_of_an_agent_as_a_whole_is_told() {
    let policy = "version: 1
agents:
  default:
    mode: observe
    approve_unknown: true
    host_sockets: true
    capabilities: [net_raw]
    leak_budget: 64
    honeytokens: [{name: canary, value: not-a-real-key}]
    rules: [{host: ok.test}]
    deny: [{host: no.test, mode: observe}]
";
    let on_trial = "version: 1\nagents:\n  default:\n    rules:\n      - {cidr: 198.51.100.0/24, protocol: tcp, ports: [22], mode: observe}\n";
    for target in Target::ALL {
        lost(&of(target, on_trial), "mode: observe", "is not told from what is allowed");
        let exported = of(target, policy);
        for (was, fate) in [
            ("mode: observe", Fate::Narrowed),
            ("approve_unknown", Fate::Narrowed),
            ("host_sockets", Fate::Narrowed),
            ("capabilities", Fate::Narrowed),
            ("leak_budget, leak_actions", Fate::Lost),
            ("secrets", Fate::Lost),
        ] {
            let line = exported.report.iter().find(|line| line.was == was && line.place == "agent default");
            assert_eq!(line.map(|line| line.fate), Some(fate), "{target} {was}");
        }
        assert!(!exported.text.contains("deny egressd_deny_1"), "it denies nothing: {}", exported.text);
    }
}

#[test]
fn no_list_for_squid_holds_networks_of_which_it_ignores_one_or_reads_as_others() {
    let policy = "version: 1
agents:
  default:
    rules:
      - host: ok.test
      - {host: inner.test, private: true}
      - {cidr: 0.0.0.0/0, protocol: tcp, ports: [22]}
      - {cidr: \"::/0\", protocol: tcp, ports: [22]}
    deny:
      - {cidr: 0.0.0.0/0, ports: [25]}
      - {cidr: \"::/0\", ports: [25]}
";
    let text = of(Target::Squid, policy).text;
    let mut lists: HashMap<&str, Vec<IpNet>> = HashMap::new();
    for line in text.lines().filter(|line| line.starts_with("acl ") && line.contains(" dst ")) {
        let mut words = line.split(' ').skip(1);
        let list = lists.entry(words.next().unwrap()).or_default();
        list.extend(words.filter_map(|word| word.parse::<IpNet>().ok()));
    }
    assert!(lists.len() >= 8, "{text}");
    let mapped: IpNet = "::ffff:0:0/96".parse().unwrap();
    for (name, networks) in lists {
        assert!(networks.iter().all(|network| network.prefix_len() > 0), "{name} is every address");
        let v4 = networks.iter().filter(|network| matches!(network, IpNet::V4(_))).count();
        assert!(v4 == 0 || v4 == networks.len(), "{name} is of one family");
        assert!(!networks.iter().any(|network| network.contains(&mapped)), "{name} holds all of IPv4");
        let mut sorted = networks.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| !pair[0].contains(&pair[1])), "{name} holds a part twice");
    }
    let loopback: IpNet = "::1/128".parse().unwrap();
    for name in ["egressd_special_6", "egressd_never_6"] {
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("acl {name} dst ")));
        let holds = |word: &str| word.parse::<IpNet>().is_ok_and(|network| network.contains(&loopback));
        assert!(lines.any(|line| line.split(' ').any(holds)), "{name} holds ::1: {text}");
    }
}

/// Reads the lines with Squid itself, where it is installed.
#[test]
fn squid_has_nothing_to_say_about_its_lines() {
    let all = POLICY.replace(
        "    deny:\n",
        "      - {cidr: \"::/0\", protocol: tcp, ports: [22]}\n      - {cidr: 0.0.0.0/0, protocol: tcp, ports: [22]}\n    deny:\n      - {cidr: \"::/0\", ports: [25]}\n      - {cidr: 0.0.0.0/0, ports: [25]}\n",
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("squid.conf");
    std::fs::write(&file, format!("http_port 127.0.0.1:3128\n{}", of(Target::Squid, &all).text)).unwrap();
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let run = Command::new("squid").env("PATH", path).args(["-k", "parse", "-f"]).arg(&file).output();
    let Ok(run) = run else { return eprintln!("skipped: squid is not installed") };
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("Processing: acl egressd_special_6"), "{said}");
    for word in ["WARNING", "ERROR", "NOTICE", "FATAL"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn an_agent_that_may_reach_nothing_is_exported_as_one() {
    let policy = "version: 1\nagents:\n  default:\n    rules: []\n";
    for (target, kind) in [(Target::Squid, Kind::Squid), (Target::Cilium, Kind::Cilium)] {
        let exported = of(target, policy);
        assert!(!exported.needs_a_look());
        translate(kind, &exported.text).denies(&["a.test", "192.0.2.1:22/tcp"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_policy_comes_back_as_it_went_and_never_allows_more(allow in prop::collection::vec(allow(), 0..6), deny in prop::collection::vec(deny(), 0..4)) {
        comes_back(&file(&allow, &deny));
    }
}

/// Through each language that can be read, too: nothing more passes, and if no word is said, nothing less.
fn comes_back(text: &str) {
    let policy = compile(text, &options().agent);
    for (target, kind) in [(Target::Squid, Kind::Squid), (Target::Cilium, Kind::Cilium)] {
        // Cilium tells HTTP from other bytes by its port, and so does an import from it.
        if target == Target::Cilium && text.contains("8080") {
            continue;
        }
        let exported = export(target, &policy, &options().agent);
        let back = translate(kind, &exported.text);
        let mut report = exported.report.iter().chain(&back.imported.report);
        let is_exact = report.all(|line| line.fate == Fate::Exact);
        for destination in destinations() {
            let (before, after) = (allows(&policy, &destination), allows(&back.policy, &destination));
            let shown = format!("{destination}\n{text}\n{}\n{}", exported.text, back.imported.policy);
            assert!(before || !after, "{target} allows {shown}");
            assert!(!is_exact || before == after, "{target} loses {shown}");
        }
    }
}

/// A rule by which protocols and ports come back as they went.
fn allow() -> impl Strategy<Value = String> {
    let terms = prop::sample::select(vec![
        "",
        ", protocol: http",
        ", protocol: tcp, ports: [22, 5432]",
        ", protocol: http, ports: [80, 8080]",
    ]);
    let host = (pattern(), terms).prop_map(|(pattern, terms)| format!("{{host: \"{pattern}\"{terms}}}"));
    let ports = prop::sample::select(vec!["22", "443", "80, 443, 5432"]);
    let network = (network(), ports)
        .prop_map(|(network, ports)| format!("{{cidr: \"{network}\", protocol: tcp, ports: [{ports}]}}"));
    prop_oneof![3 => host, 1 => network]
}

fn deny() -> impl Strategy<Value = String> {
    let terms = prop::sample::select(vec!["", ", ports: [443]", ", ports: [22, 80]"]);
    let subject = prop_oneof![
        pattern().prop_map(|pattern| format!("host: \"{pattern}\"")),
        network().prop_map(|network| format!("cidr: \"{network}\"")),
    ];
    (subject, terms).prop_map(|(subject, terms)| format!("{{{subject}{terms}}}"))
}

fn pattern() -> impl Strategy<Value = String> {
    let stars = prop::sample::select(vec!["", "*.", "**."]);
    let labels = prop::sample::select(vec!["", "a.", "b.", "a.a.", "b.a."]);
    (stars, labels).prop_map(|(stars, labels)| format!("{stars}{labels}corp.test"))
}

fn network() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "1.2.0.0/16",
        "1.2.3.0/24",
        "1.2.3.4/32",
        "0.0.0.0/0",
        "::/0",
        "2606:4700::/32",
        "10.0.0.0/8",
    ])
}

fn destinations() -> Vec<String> {
    let names = [
        "corp.test",
        "a.corp.test",
        "b.corp.test",
        "a.a.corp.test",
        "b.a.corp.test",
        "c.b.a.corp.test",
        "x.test",
    ];
    let named = names.iter().flat_map(|name| {
        ["443/tls", "443/tcp", "80/http", "8080/http", "22/tcp", "5432/tcp", "443/quic"]
            .map(|end| format!("{name}:{end}"))
    });
    let addresses = ["1.2.3.4", "1.2.3.5", "1.2.9.9", "9.9.9.9", "10.0.0.1", "127.0.0.1", "[2606:4700::1]"];
    let bare = addresses
        .iter()
        .flat_map(|address| ["443", "80", "22", "5432"].map(|port| format!("{address}:{port}/tcp")));
    named.chain(bare).collect()
}

fn file(allow: &[String], deny: &[String]) -> String {
    let list = |rules: &[String]| rules.iter().map(|rule| format!("      - {rule}\n")).collect::<String>();
    let rules = if allow.is_empty() { " []\n".to_owned() } else { format!("\n{}", list(allow)) };
    let deny = if deny.is_empty() { String::new() } else { format!("    deny:\n{}", list(deny)) };
    format!("version: 1\nagents:\n  default:\n    rules:{rules}{deny}")
}

fn of(target: Target, policy: &str) -> Exported {
    let agent = AgentName::parse("default").unwrap();
    let policy: &Policy = &compile(policy, &agent);
    export(target, policy, &agent)
}

fn lost(exported: &Exported, was: &str, why: &str) {
    let mut lines = exported.report.iter();
    let found = lines.find(|line| line.was == was && line.fate == Fate::Lost);
    let found = found.unwrap_or_else(|| panic!("{was} is not lost: {:#?}", exported.report));
    assert!(found.why.as_deref().unwrap_or_default().contains(why), "{found}");
    assert!(exported.text.contains(&format!("# {found}\n")), "{found} is a comment");
}
