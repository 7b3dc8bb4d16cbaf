//! Imports open nothing that the other tool leaves shut.

use crate::world::{allows, options, translate, translate_with};
use egressd::authoring::{
    Fate,
    import::{ImportError, Kind, Options, Widening, import},
};

#[test]
fn a_network_opens_nothing_where_a_tool_knows_names_only() {
    for (kind, text) in [
        (Kind::Codex, "[network]\nallowed_domains = ['10.0.0.0/8']\n"),
        (Kind::Srt, r#"{"network": {"allowedDomains": ["10.0.0.0/8"]}}"#),
        (Kind::ClaudeCode, r#"{"sandbox": {"network": {"allowedDomains": ["10.0.0.0/8"]}}}"#),
        (Kind::GhAw, "network: {allowed: [\"10.0.0.0/8\"]}\n"),
        (Kind::Copilot, "10.0.0.0/8\n"),
        (
            Kind::HardenRunner,
            "- uses: step-security/harden-runner@v2\n  with: {allowed-endpoints: 10.0.0.0/8}\n",
        ),
        (Kind::Docker, "docker sandbox network proxy x --policy deny --allow-host 10.0.0.0/8\n"),
        (Kind::Squid, "acl s dstdomain 10.0.0.0/8\nhttp_access allow s\nhttp_access deny all\n"),
        (Kind::Squid, "acl s dstdomain 10.0.0.0/8\nhttp_access deny !s\nhttp_access allow localhost\n"),
    ] {
        let translation = translate(kind, text);
        translation.denies(&["10.1.2.3:443/tcp", "10.1.2.3:80/tcp"]);
        assert!(translation.says(Fate::Lost, "10.0.0.0/8").contains("means a network"), "{kind}");
    }
    let known = "sbx policy allow network 10.0.0.0/8:22\n";
    translate(Kind::Docker, known).is_exact().allows(&["10.1.2.3:22/tcp"]);
}

#[test]
fn an_address_opens_nothing_in_gh_aw_and_a_network_that_is_denied_stays_so() {
    let translation = translate(Kind::GhAw, "network: {allowed: [192.0.2.7, a.test]}\n");
    translation.allows(&["a.test"]).denies(&["192.0.2.7:443/tcp"]).says(Fate::Lost, "192.0.2.7");
    let settings = r#"{"network": {"allowedDomains": ["192.0.2.7"], "deniedDomains": ["192.0.2.0/24"]}}"#;
    translate(Kind::Srt, settings).denies(&["192.0.2.7:443/tcp"]).says(Fate::Narrowed, "192.0.2.0/24");
}

#[test]
fn an_ecosystem_of_gh_aw_opens_no_host_that_only_our_list_has() {
    let workflow = "network: {allowed: [go, rust, ruby, threat-detection]}\n";
    let translation = translate(Kind::GhAw, workflow);
    translation
        .allows(&["go.dev", "sum.golang.org", "sh.rustup.rs", "rubygems.org", "api.githubcopilot.com"])
        .denies(&["dl.google.com", "www.rust-lang.org", "www.ruby-lang.org", "mirror.test"])
        .denies(&["raw.githubusercontent.com", "go.dev:80/http"]);
    assert!(translation.says(Fate::Lost, "rust").contains("packages: [rust]"));
    let wide = translate_with(Kind::GhAw, workflow, &widening());
    wide.allows(&["dl.google.com", "www.ruby-lang.org", "mirror.test"]).says(Fate::Widened, "go");
}

#[test]
fn the_hosts_of_an_ecosystem_are_in_our_list_about_it() {
    for identifier in [
        "claude",
        "codex",
        "copilot",
        "copilot-vendor",
        "dotnet",
        "gemini",
        "github",
        "go",
        "haskell",
        "java",
        "node",
        "python",
        "python-native",
        "ruby",
        "rust",
        "swift",
        "threat-detection",
        "zig",
    ] {
        let workflow = format!("network: {{allowed: [{identifier}]}}\n");
        let narrow = translate(Kind::GhAw, &workflow);
        let wide = translate_with(Kind::GhAw, &workflow, &widening());
        assert!(!narrow.policy.allow().is_empty(), "{identifier}");
        for rule in narrow.policy.allow() {
            let host = rule.subject.to_string();
            assert!(allows(&wide.policy, &host), "{identifier}: {host}");
        }
    }
}

#[test]
fn what_docker_commands_take_back_is_shut_again() {
    let commands = "sbx policy set-default deny-all\nsbx policy allow network a.test,b.test\n\
                    sbx policy allow network c.test\nsbx policy rm network --resource A.test\n";
    let translation = translate(Kind::Docker, commands);
    translation.allows(&["b.test", "c.test"]).denies(&["a.test"]);
    assert_eq!(translation.says(Fate::Exact, "a.test"), "taken back at f:4");
    assert!(!translation.imported.needs_a_look(), "{:#?}", translation.imported.report);
    for all in [
        "sbx policy reset",
        "sbx policy rm network --id 2d3c1f0e",
        "sudo sbx policy rm network --resource c.test",
    ] {
        let text = format!("{commands}{all}\nsbx policy allow network d.test\n");
        translate(Kind::Docker, &text).allows(&["d.test"]).denies(&["a.test", "b.test", "c.test"]);
    }
    let denied = "sbx policy deny network a.test\nsbx policy rm network --resource a.test\nsbx policy allow network a.test\n";
    translate(Kind::Docker, denied).denies(&["a.test"]).says(Fate::Narrowed, "rm network --resource a.test");
}

#[test]
fn a_docker_line_that_is_not_read_and_may_deny_shuts_everything() {
    for line in [
        "sudo sbx policy deny network evil.test",
        "for h in evil.test; do sbx policy deny network $h; done",
        "sbx policy deny network \"$EVIL\"",
        "SBX policy deny network evil.test",
        "sbx policy deny network evil.test; true",
        "sbx policy deny network --unheard-of evil.test",
    ] {
        let translation = translate(Kind::Docker, &format!("sbx policy allow network '**.test'\n{line}\n"));
        translation.denies(&["evil.test", "a.test"]).says(Fate::Lost, "**.test");
        let wide = format!("sbx policy allow network a.example.com\n{line}\n");
        translate_with(Kind::Docker, &wide, &widening()).allows(&["a.example.com"]);
    }
    let chained = "sbx policy allow network a.example.com\nsbx policy allow network b.example.com && echo c.example.com\n";
    translate(Kind::Docker, chained).allows(&["a.example.com"]).denies(&["b.example.com", "c.example.com"]);
}

#[test]
fn rules_of_sbx_and_lists_of_docker_sandbox_are_not_mixed() {
    let text = "sbx policy allow network '**.example.com'\nsbx policy deny network evil.example.com\n\
                docker sandbox network proxy x --policy deny --allow-host a.test\n";
    let error = import(Kind::Docker, "f", text, &options()).unwrap_err();
    assert!(matches!(&error, ImportError::Syntax { place, .. } if place == "f:1"), "{error}");
}

#[test]
fn docker_rules_that_say_more_than_is_known_deny_all_or_allow_nothing() {
    let deny = |rule: &str| {
        format!(
            r#"{{"rules": [{{"actions": ["connect:tcp"], "resources": ["**.example.com"], "decision": "allow"}}, {{{rule}}}]}}"#
        )
    };
    for rule in [
        r#""actions": ["connect:*"], "resources": ["evil.example.com"], "decision": "deny""#,
        r#""actions": ["http"], "resources": ["evil.example.com"], "decision": "deny""#,
        r#""actions": ["connect:tcp"], "resources": ["evil.example.com"], "decision": "ask""#,
        r#""actions": ["connect:tcp"], "resources": ["evil.example.com"], "decision": "deny", "enabled": false"#,
    ] {
        let translation = translate(Kind::Docker, &deny(rule));
        translation.allows(&["a.example.com"]).denies(&["evil.example.com"]);
        assert!(translation.says(Fate::Narrowed, "evil.example.com").contains("is not known here"), "{rule}");
    }
    let nameless = deny(r#""actions": ["connect:tcp"], "resource": "evil.example.com", "decision": "deny""#);
    translate(Kind::Docker, &nameless).denies(&["a.example.com"]);
    for bound in [r#""conditions": {"user": "bob"}"#, r#""enabled": false"#] {
        let rule =
            format!(r#""actions": ["connect:tcp"], "resources": ["b.test"], "decision": "allow", {bound}"#);
        translate(Kind::Docker, &deny(&rule)).denies(&["b.test"]).says(Fate::Lost, "b.test");
    }
    let files = deny(r#""actions": ["read"], "resources": ["/data"], "decision": "deny""#);
    assert!(!translate(Kind::Docker, &files).imported.needs_a_look());
}

#[test]
fn a_squid_line_goes_on_behind_a_backslash() {
    let conf = "acl bad dstdomain .evil.corp.test \\\n# why\n   .worse.corp.test\nacl good dstdomain .corp.test\n\
                http_access deny bad\nhttp_access allow good\nhttp_access deny all\n";
    let translation = translate(Kind::Squid, conf);
    translation.allows(&["a.corp.test"]).denies(&["a.evil.corp.test", "worse.corp.test"]);
    let torn = "acl a dstdomain a.test\nhttp_access allow a\nhttp_access deny all\nacl a dstdomain b.test \\";
    translate(Kind::Squid, torn).allows(&["a.test"]).denies(&["b.test"]).says(Fate::Exact, "the last line");
}

#[test]
fn a_squid_list_that_goes_on_behind_its_use_counts_whole() {
    let conf = "acl bad dstdomain evil.corp.test\nacl good dstdomain .corp.test\nhttp_access deny bad\n\
                http_access allow good\nhttp_access deny all\n";
    let later = format!("{conf}acl bad dstdomain worse.corp.test\nacl good dstdomain .late.test\n");
    let translation = translate(Kind::Squid, &later);
    translation.allows(&["a.corp.test", "a.late.test"]);
    translation.denies(&["evil.corp.test", "worse.corp.test"]);
    // What is included may go on with a list, too.
    let included = format!("{conf}include /etc/squid/more.conf\n");
    translate(Kind::Squid, &included).denies(&["a.corp.test"]).says(Fate::Lost, "include");
    let unknown = "acl good dstdomain .corp.test\nhttp_access deny bad\nhttp_access allow good\nacl bad dstdomain x.test\n";
    translate(Kind::Squid, unknown).denies(&["a.corp.test"]).says(Fate::Lost, "deny bad");
}

#[test]
fn what_squid_denies_to_all_but_some_clients_is_denied_unless_the_agent_is_one_of_them() {
    let conf = |lines: &str| {
        format!(
            "acl w dstdomain .corp.test\nacl adm src 10.0.0.1\nacl x dstdomain x.corp.test\nacl y dstdomain y.corp.test\n\
             acl odd port 8443\n{lines}http_access deny all\n"
        )
    };
    let anybody = translate(Kind::Squid, &conf("http_access deny x !adm\nhttp_access allow w\n"));
    anybody.allows(&["a.corp.test"]).denies(&["x.corp.test"]).says(Fate::Narrowed, "deny x !adm");
    let ports = translate(Kind::Squid, &conf("http_access deny odd !adm\nhttp_access allow w odd\n"));
    ports.denies(&["a.corp.test:8443/tcp"]).says(Fate::Narrowed, "deny odd !adm");
    let names = translate(Kind::Squid, &conf("http_access deny !x !adm\nhttp_access allow w\n"));
    names.allows(&["x.corp.test"]).denies(&["a.corp.test"]).says(Fate::Narrowed, "deny !x !adm");
    for lines in [
        "http_access deny x !adm\nhttp_access allow adm w\n",
        "http_access deny !adm\nhttp_access deny x !adm\nhttp_access allow w\n",
    ] {
        translate(Kind::Squid, &conf(lines)).allows(&["x.corp.test", "a.corp.test"]);
    }
    let chosen = conf("http_access deny x !adm\nhttp_access allow localhost y\nhttp_access allow adm w\n");
    translate_with(Kind::Squid, &chosen, &only("adm")).allows(&["x.corp.test"]);
    translate_with(Kind::Squid, &chosen, &only("localhost"))
        .allows(&["y.corp.test"])
        .denies(&["x.corp.test"]);
}

#[test]
fn what_opens_all_of_a_host_comes_before_what_opens_a_part_of_it() {
    for list in ["https://contoso.test/sub\ncontoso.test\n", "contoso.test\nhttps://contoso.test/sub\n"] {
        let translation = translate(Kind::Copilot, list);
        translation.is_exact();
        let first = translation.policy.allow().iter().find(|rule| rule.subject.to_string() == "contoso.test");
        assert!(first.unwrap().tls.inspection.is_none(), "{}", translation.imported.policy);
    }
    let deny = "https://sub.contoso.test/a\n*.contoso.test\n";
    let translation = translate(Kind::Copilot, deny);
    assert!(translation.policy.allow()[0].tls.inspection.is_none(), "{}", translation.imported.policy);
}

#[test]
fn parts_of_one_host_stand_in_one_rule() {
    let translation = translate(Kind::Copilot, "https://a.test/one\nhttps://b.test/x\nhttps://a.test/two\n");
    let judges = |path: &str| {
        let mut rules = translation.policy.allow().iter();
        let first = rules.find(|rule| rule.subject.to_string() == "a.test").unwrap();
        first.tls.inspection.as_ref().unwrap().judge("GET", path).is_ok()
    };
    assert!(judges("/one") && judges("/two/x") && !judges("/x"), "{}", translation.imported.policy);
    assert_eq!(translation.policy.allow().len(), 2);
    let report = &translation.imported.report;
    assert_eq!(report[0].became, report[2].became, "{report:#?}");
    let commands = "sbx policy allow network '*.example.com' --method GET\n\
                    sbx policy allow network a.example.com --method POST\n";
    let bounded = translate(Kind::Docker, commands).says(Fate::Narrowed, "a.example.com");
    assert!(bounded.contains("only its requests pass"), "{bounded}");
}

#[test]
fn every_policy_of_a_file_can_be_chosen() {
    let step = |host: &str| {
        format!(
            "      - uses: step-security/harden-runner@v2\n        with: {{egress-policy: block, allowed-endpoints: {host}}}\n"
        )
    };
    let job = format!("jobs:\n  b:\n    steps:\n{}{}", step("one.test"), step("two.test"));
    let loose = format!("steps:\n{}{}", step("one.test"), step("two.test"));
    let spec = |app: &str, host: &str| {
        format!(
            "- endpointSelector: {{matchLabels: {{app: {app}}}}}\n  egress: [{{toFQDNs: [{{matchName: {host}}}], toPorts: [{{ports: [{{port: \"443\", protocol: TCP}}]}}]}}]\n"
        )
    };
    let specs = format!(
        "kind: CiliumNetworkPolicy\nmetadata: {{name: multi}}\nspecs:\n{}{}",
        spec("x", "one.test"),
        spec("y", "two.test")
    );
    let cluster = |kind: &str, host: &str| {
        format!("kind: {kind}\nmetadata: {{name: p}}\nspecs:\n{}---\n", spec("x", host))
    };
    let kinds =
        cluster("CiliumNetworkPolicy", "one.test") + &cluster("CiliumClusterwideNetworkPolicy", "two.test");
    for (kind, text, names) in [
        (Kind::HardenRunner, &job, "b:1, b:2"),
        (Kind::HardenRunner, &loose, ":1, :2"),
        (Kind::Cilium, &specs, "default/multi:1, default/multi:2"),
        (Kind::Cilium, &kinds, "default/p, p"),
    ] {
        match import(kind, "f", text, &options()) {
            Err(ImportError::Several { names: told, .. }) => assert_eq!(told, names),
            other => panic!("{kind}: {other:?}"),
        }
        let second = names.split(", ").last().unwrap();
        translate_with(kind, text, &only(second)).is_exact().allows(&["two.test"]).denies(&["one.test"]);
    }
    let both = format!("{specs}{}", spec("x", "three.test"));
    translate_with(Kind::Cilium, &both, &only("default/multi:1")).allows(&["one.test", "three.test"]);
}

#[test]
fn what_claude_code_asks_about_is_asked_or_denied() {
    let settings = |ask: &str| {
        format!(
            r#"{{"permissions": {{"allow": ["WebFetch(domain:*.example.org)"], "ask": ["{ask}", "WebFetch(domain:other.test)"]}}}}"#
        )
    };
    let translation = translate(Kind::ClaudeCode, &settings("WebFetch(domain:ask.example.org)"));
    translation.allows(&["a.example.org"]).denies(&["ask.example.org", "other.test"]);
    assert!(translation.says(Fate::Narrowed, "ask.example.org").contains("it is denied"));
    translation.says(Fate::Exact, "other.test");
    assert!(translation.imported.policy.contains("{host: other.test, approval: required}"));
    assert!(!translation.imported.needs_a_look(), "{:#?}", translation.imported.report);
    for all in ["WebFetch", "WebFetch(domain:*)", "WebFetch(domain:a..b)"] {
        translate(Kind::ClaudeCode, &settings(all)).denies(&["a.example.org"]).says(Fate::Lost, all);
    }
    let part = translate(Kind::ClaudeCode, &settings("WebFetch(domain:a.*.example.org)"));
    part.denies(&["b.example.org", "a.x.example.org"]);
}

fn widening() -> Options {
    Options { widening: Widening::Allowed, ..options() }
}

fn only(name: &str) -> Options {
    Options { only: Some(name.to_owned()), ..options() }
}
