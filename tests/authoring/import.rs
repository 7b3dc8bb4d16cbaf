//! Each kind of import: who passes, who does not, and what is said of the rest.

use crate::world::{allows, options, translate, translate_with};
use egressd::authoring::{
    Fate,
    import::{ImportError, Kind, Options, Widening, import},
};
use proptest::prelude::*;

#[test]
fn harden_runner_endpoints_are_hosts_with_ports_and_suffixes() {
    let workflow = "\
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: step-security/harden-runner@v2
        with:
          egress-policy: block
          allowed-endpoints: >
            api.github.com:443
            ports.example.com:8080
            *.cdn.example.com:443
            api-*.example.com:443
            192.0.2.7:22
            bare.example.com
            mirror.example.com:80
            ${{ vars.HOST }}:443
      - run: make
";
    let translation = translate(Kind::HardenRunner, workflow);
    translation
        .allows(&[
            "api.github.com",
            "bare.example.com",
            "mirror.example.com:80/http",
            "ports.example.com:8080/tcp",
        ])
        .allows(&["a.cdn.example.com", "b.a.cdn.example.com", "192.0.2.7:22/tcp"])
        .denies(&[
            "github.com",
            "cdn.example.com",
            "api-1.example.com",
            "ports.example.com",
            "api.github.com:22/tcp",
        ]);
    assert!(
        translation.says(Fate::Lost, "api-*.example.com:443").contains("`**.example.com` would be wider")
    );
    assert!(translation.says(Fate::Lost, "${{").contains("expression"));
    let lost = translation.imported.report.iter().find(|line| line.was == "api-*.example.com:443").unwrap();
    assert_eq!(lost.place, "f:13", "its own line within the block");
    assert!(translation.imported.needs_a_look());
}

#[test]
fn a_step_that_only_watches_is_said_to_deny_here() {
    let step = "- uses: step-security/harden-runner@0a1b\n  with: {egress-policy: audit, allowed-endpoints: a.test}\n";
    let translation = translate(Kind::HardenRunner, step);
    translation.allows(&["a.test"]).says(Fate::Narrowed, "egress-policy: audit");
    assert!(!translation.imported.needs_a_look());
}

#[test]
fn endpoints_that_are_stored_elsewhere_or_nowhere_are_told() {
    let step = |with: &str| {
        format!("- uses: step-security/harden-runner@v2\n  with: {{egress-policy: block{with}}}\n")
    };
    for stored in [", use-policy-store: true", ", policy: mine"] {
        let translation = translate(Kind::HardenRunner, &step(stored));
        translation.denies(&["a.test"]).says(Fate::Lost, "a policy of the policy store");
    }
    let none = translate(Kind::HardenRunner, &step(""));
    none.is_exact().denies(&["a.test"]).says(Fate::Exact, "no allowed-endpoints");
}

#[test]
fn sockets_of_the_host_in_codex_are_told() {
    let text = "[permissions.work.network]\nallow_local_binding = true\ndangerously_allow_all_unix_sockets = true\n\
                [permissions.work.network.domains]\n\"a.test\" = \"allow\"\n\
                [permissions.work.network.unix_sockets]\n\"/run/a.sock\" = \"allow\"\n";
    let translation = translate(Kind::Codex, text);
    for key in ["allow_local_binding", "dangerously_allow_all_unix_sockets", "unix_sockets"] {
        translation.says(Fate::Lost, key);
    }
    let closed = text.replace("true", "false").replace("\"/run/a.sock\" = \"allow\"", "");
    let translation = translate(Kind::Codex, &closed);
    assert!(!translation.imported.needs_a_look(), "{:#?}", translation.imported.report);
}

#[test]
fn one_of_several_policies_has_to_be_chosen() {
    let job = |name, host| {
        format!(
            "  {name}:\n    steps:\n      - uses: step-security/harden-runner@v2\n        with: {{egress-policy: block, allowed-endpoints: {host}}}\n"
        )
    };
    let workflow = format!("jobs:\n{}{}", job("build", "a.test"), job("deploy", "b.test"));
    let error = import(Kind::HardenRunner, "f", &workflow, &options()).unwrap_err();
    assert!(matches!(&error, ImportError::Several { names, .. } if names == "build, deploy"), "{error}");
    let only = Options { only: Some("deploy".to_owned()), ..options() };
    translate_with(Kind::HardenRunner, &workflow, &only).is_exact().allows(&["b.test"]).denies(&["a.test"]);
}

#[test]
fn gh_aw_domains_hold_for_what_is_below_them_and_ecosystems_are_included() {
    let workflow = "\
---
engine: copilot
network:
  allowed:
    - defaults
    - go
    - python
    - api.example.com
    - \"*.files.example.com\"
    - https://tls.example.com
    - http://old.example.com/
  blocked:
    - ads.api.example.com
---
# A workflow
";
    let translation = translate(Kind::GhAw, workflow);
    translation
        .allows(&["api.example.com", "a.b.api.example.com", "api.example.com:80/http", "x.files.example.com"])
        .allows(&["tls.example.com", "old.example.com:80/http", "go.dev", "pip.pypa.io"])
        .denies(&[
            "ads.api.example.com",
            "x.ads.api.example.com",
            "files.example.com",
            "tls.example.com:80/http",
        ])
        .denies(&["old.example.com", "example.com", "mirror.test"]);
    assert_eq!(
        translation.says(Fate::Narrowed, "*.files.example.com"),
        "its page counts `files.example.com` in, its firewall does not"
    );
    translation.says(Fate::Narrowed, "go");
    translation.says(Fate::Lost, "defaults");
    assert!(translation.says(Fate::Lost, "python").contains("`packages: [python]` opens it"));
}

#[test]
fn what_is_denied_and_cannot_be_said_closes_everything_unless_widening_is_allowed() {
    let workflow = "network:\n  allowed: [api.example.com]\n  blocked: [node]\n";
    let translation = translate(Kind::GhAw, workflow);
    translation.denies(&["api.example.com"]).says(Fate::Lost, "node");
    assert_eq!(
        translation.says(Fate::Lost, "api.example.com"),
        "the denial at f:3 comes first, and no rule says it"
    );
    let translation = translate_with(Kind::GhAw, workflow, &widening());
    translation.allows(&["api.example.com"]).says(Fate::Widened, "node");
    assert!(translation.imported.needs_a_look());
}

#[test]
fn copilot_urls_open_their_path_and_domains_what_is_below_them() {
    let list = "packages.contoso.corp, https://api.contoso.corp/project-1/\nhttps://one.contoso.corp\nhttp://old.contoso.corp/x # why\nftp://f.contoso.corp\n";
    let translation = translate(Kind::Copilot, list);
    translation
        .allows(&[
            "packages.contoso.corp",
            "prod.packages.contoso.corp:80/http",
            "api.contoso.corp",
            "one.contoso.corp",
        ])
        .denies(&[
            "x.api.contoso.corp",
            "one.contoso.corp:80/http",
            "old.contoso.corp:80/http",
            "f.contoso.corp:21/tcp",
        ]);
    let rule = translation.policy.allow().iter().find(|rule| rule.tls.inspection.is_some()).unwrap();
    let judge = |path| rule.tls.inspection.as_ref().unwrap().judge("GET", path).is_ok();
    assert!(judge("/project-1/") && judge("/project-1/tags/latest") && !judge("/project-2") && !judge("/"));
    translation.says(Fate::Lost, "http://old.contoso.corp/x");
    translation.says(Fate::Lost, "ftp://f.contoso.corp");
}

#[test]
fn codex_stars_are_what_is_below_a_name_and_two_stars_also_the_name() {
    let config = "\
model = 'gpt'
default_permissions = 'work'
[permissions.work.network]
enabled = true
[permissions.work.network.domains]
'*.openai.com' = 'allow'
'**.example.com' = 'allow'
'region*.v2.example.org' = 'allow'
'api.example.net' = 'allow'
'bad.example.com' = 'deny'
[permissions.other.network.domains]
'other.test' = 'allow'
";
    let translation = translate(Kind::Codex, config);
    translation
        .allows(&[
            "a.openai.com",
            "b.a.openai.com",
            "example.com",
            "x.example.com",
            "api.example.net:80/http",
        ])
        .denies(&[
            "openai.com",
            "bad.example.com",
            "region1.v2.example.org",
            "other.test",
            "api.example.net:22/tcp",
        ]);
    translation.says(Fate::Lost, "region*.v2.example.org");
    translation.says(Fate::Narrowed, "names without a port");
    let built_in = config.replace("'work'", "':workspace'");
    assert!(matches!(import(Kind::Codex, "f", &built_in, &options()), Err(ImportError::Several { .. })));
    let translation = translate_with(Kind::Codex, config, &widening());
    translation.allows(&["region1.v2.example.org"]).says(Fate::Widened, "region*.v2.example.org");
}

#[test]
fn codex_lists_of_old_and_its_limited_mode_are_read() {
    let config = "[network_proxy]\nmode = 'limited'\n[network_proxy.policy]\nallowed_domains = ['api.test', '*']\ndenied_domains = ['evil.test']\n";
    let translation = translate(Kind::Codex, config);
    translation.allows(&["api.test"]).denies(&["api.test:80/http", "evil.test"]).says(Fate::Lost, "*");
    let inspection = translation.policy.allow()[0].tls.inspection.clone().unwrap();
    assert!(inspection.judge("GET", "/").is_ok() && inspection.judge("GET", "/a/b?c").is_ok());
    assert!(inspection.judge("POST", "/").is_err());
}

#[test]
fn claude_code_adds_the_domains_of_its_rules_to_those_of_its_sandbox() {
    let settings = r#"{
      "sandbox": {"enabled": true, "network": {"allowedDomains": ["*.github.com", "api.example.com:8443"],
        "deniedDomains": ["gist.github.com"], "allowUnixSockets": ["/run/x.sock"]}},
      "permissions": {"allow": ["WebFetch(domain:docs.example.com)", "Bash(ls)", "WebFetch"],
        "ask": ["WebFetch(domain:ask.example.com)"], "deny": ["WebFetch(domain:*.evil.test)"]}
    }"#;
    let translation = translate(Kind::ClaudeCode, settings);
    translation
        .allows(&["api.github.com", "a.b.github.com", "docs.example.com", "api.example.com:8443/tcp"])
        .denies(&["github.com", "gist.github.com", "ask.example.com", "api.example.com", "a.evil.test"]);
    let place =
        |was: &str| translation.imported.report.iter().find(|line| line.was == was).unwrap().place.clone();
    assert_eq!(place("*.github.com"), "f: sandbox.network.allowedDomains[0]");
    assert_eq!(place("WebFetch(domain:docs.example.com)"), "f: permissions.allow[0]");
    translation.says(Fate::Lost, "allowUnixSockets");
    translation.says(Fate::Exact, "WebFetch(domain:ask.example.com)");
    assert!(
        translation.says(Fate::Lost, "WebFetch").contains("nobody")
            || !translation.imported.report.is_empty()
    );
}

#[test]
fn the_sandbox_runtime_denies_what_it_lists_by_name_address_and_port() {
    let settings = r#"{"network": {"allowedDomains": ["*.example.com", "example.com:443", "192.0.2.7:22", "[2001:db8::1]:443", "localhost"],
        "deniedDomains": ["db.example.com", "*.example.com:80"]}}"#;
    let translation = translate(Kind::Srt, settings);
    translation
        .allows(&["a.example.com", "example.com", "192.0.2.7:22/tcp", "[2001:db8::1]:443/tcp"])
        .denies(&["db.example.com", "a.example.com:80/http", "example.com:80/http", "192.0.2.7:443/tcp"]);
    assert_eq!(translation.says(Fate::Lost, "localhost"), "no name opens this host itself");
    let everything = r#"{"network": {"allowedDomains": ["a.test"], "deniedDomains": ["*"]}}"#;
    translate(Kind::Srt, everything).denies(&["a.test"]).says(Fate::Lost, "*");
}

#[test]
fn docker_commands_are_read_as_their_own_dialect() {
    let commands = "\
# the policy
$ sbx policy allow network \"api.example.com,*.cdn.example.com:443\" --sandbox x
sbx policy allow network '**.deep.example.com' \\
  10.1.2.3:22
sbx policy deny network bad.deep.example.com
sbx policy allow network --protocol udp dns.example.com:853
sbx policy allow network api.github.com --method GET,HEAD --path '/repos/org/**'
sbx policy allow network \"**\"
sbx run --deny-network ads.example.com claude
";
    let translation = translate(Kind::Docker, commands);
    translation
        .allows(&["api.example.com", "api.example.com:80/http", "a.cdn.example.com", "b.a.deep.example.com"])
        .allows(&["10.1.2.3:22/tcp", "dns.example.com:853/udp", "api.github.com"])
        .denies(&[
            "b.a.cdn.example.com",
            "a.cdn.example.com:80/http",
            "bad.deep.example.com",
            "deep.example.com",
        ])
        .denies(&["other.test", "api.github.com:80/http", "dns.example.com:853/tcp"]);
    translation.says(Fate::Lost, "**");
    assert_eq!(
        translation.imported.report.iter().find(|line| line.was == "10.1.2.3:22").unwrap().place,
        "f:3"
    );
}

#[test]
fn of_docker_proxy_entries_the_most_specific_decides() {
    let commands = "\
docker sandbox network proxy mine --policy deny \\
  --allow-host '*.example.com' --block-host ads.example.com \\
  --block-host '*.evil.test' --allow-host good.evil.test:443 \\
  --block-host ads.wide.test --allow-host ads.wide.test:8443 --allow-host '*.wide.test'
";
    let translation = translate(Kind::Docker, commands);
    translation
        .allows(&["a.example.com", "good.evil.test", "ads.wide.test:8443/tcp", "a.wide.test"])
        .denies(&["ads.example.com", "b.a.example.com", "bad.evil.test", "bad.mixed.test", "x.test"]);
    translation.says(Fate::Narrowed, "*.wide.test");
    let open = "docker sandbox network proxy mine --block-host evil.test\n";
    translate(Kind::Docker, open).denies(&["a.test"]).says(Fate::Lost, "--policy allow, or none");
}

#[test]
fn docker_rules_in_json_and_kits_are_read() {
    let rules = r#"{"name": "p", "rules": [
        {"name": "a", "actions": ["connect:tcp", "connect:udp"], "resources": ["a.test", "b.test:853"], "decision": "allow"},
        {"name": "b", "actions": ["connect:tcp"], "resources": ["evil.a.test"], "decision": "deny"},
        {"name": "c", "actions": ["read"], "resources": ["/data"], "decision": "allow"}]}"#;
    let translation = translate(Kind::Docker, rules);
    translation.allows(&["a.test", "b.test:853/tcp", "b.test:853/udp"]).denies(&["x.a.test", "b.test"]);
    assert_eq!(
        translation.imported.report.len(),
        4,
        "files are no network: {:#?}",
        translation.imported.report
    );
    let kit =
        "kind: agent\nnetwork:\n  allowedDomains: [\"github.com:443\"]\n  deniedDomains: [gist.github.com]\n";
    translate(Kind::Docker, kit).is_exact().allows(&["github.com"]).denies(&["gist.github.com"]);
}

const CILIUM: &str = "\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: agent}
spec:
  endpointSelector: {matchLabels: {app: agent}}
  egress:
    - toEndpoints:
        - matchLabels: {k8s-app: kube-dns}
      toPorts:
        - ports: [{port: \"53\", protocol: ANY}]
          rules: {dns: [{matchPattern: \"*\"}]}
    - toFQDNs:
        - matchName: api.example.com
        - matchPattern: \"*.one.example.com\"
        - matchPattern: \"**.deep.example.com\"
        - matchPattern: \"sub*.example.com\"
        - matchPattern: \"*\"
      toPorts:
        - ports:
            - {port: \"443\", protocol: TCP}
            - {port: \"8000\", endPort: 8002, protocol: TCP}
            - {port: \"443\", protocol: UDP}
    - toCIDRSet:
        - {cidr: 10.0.0.0/8, except: [10.96.0.0/12]}
      toPorts: [{ports: [{port: \"5432\", protocol: TCP}]}]
    - toFQDNs: [{matchName: l7.example.com}]
      toPorts:
        - ports: [{port: \"80\", protocol: TCP}]
          rules: {http: [{method: GET, path: /public}]}
    - toFQDNs: [{matchName: all.example.com}]
    - toEntities: [world]
  egressDeny:
    - toCIDR: [10.1.0.0/16]
      toPorts: [{ports: [{port: \"5432\", protocol: TCP}]}]
";

#[test]
fn cilium_names_networks_ports_and_denials_are_read() {
    let translation = translate(Kind::Cilium, CILIUM);
    translation
        .allows(&["api.example.com", "api.example.com:8001/tcp", "api.example.com/quic", "a.one.example.com"])
        .allows(&[
            "b.a.deep.example.com",
            "10.0.0.1:5432/tcp",
            "10.112.0.1:5432/tcp",
            "all.example.com",
            "all.example.com:80/http",
        ])
        .denies(&[
            "b.a.one.example.com",
            "one.example.com",
            "deep.example.com",
            "sub1.example.com",
            "other.test",
        ])
        .denies(&["10.96.0.1:5432/tcp", "10.111.255.1:5432/tcp", "10.1.0.1:5432/tcp", "10.0.0.1:443/tcp"])
        .denies(&["l7.example.com:80/http", "api.example.com:8003/tcp", "api.example.com:80/http"]);
    translation.says(Fate::Lost, "sub*.example.com");
    translation.says(Fate::Lost, "matchPattern: *");
    translation.says(Fate::Lost, "l7.example.com");
    translation.says(Fate::Lost, "toEntities: world");
    translation.says(Fate::Narrowed, "all.example.com");
    translation.says(Fate::Exact, "kube-dns");
    let deep = translation.imported.report.iter().find(|line| line.was.contains("**.deep")).unwrap();
    assert_eq!((deep.place.as_str(), deep.fate), ("f:15", Fate::Exact));
}

#[test]
fn cilium_policies_of_other_endpoints_are_not_mixed() {
    let of = |name: &str, app: &str, host: &str| {
        format!(
            "kind: CiliumNetworkPolicy\nmetadata: {{name: {name}}}\nspec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n  egress: [{{toFQDNs: [{{matchName: {host}}}], toPorts: [{{ports: [{{port: \"443\", protocol: TCP}}]}}]}}]\n"
        )
    };
    let two = format!("{}---\n{}", of("one", "x", "a.test"), of("two", "x", "b.test"));
    translate(Kind::Cilium, &two).is_exact().allows(&["a.test", "b.test"]);
    let mixed = format!("{}---\n{}", of("one", "x", "a.test"), of("two", "y", "b.test"));
    assert!(matches!(import(Kind::Cilium, "f", &mixed, &options()), Err(ImportError::Several { .. })));
    let only = Options { only: Some("two".to_owned()), ..options() };
    translate_with(Kind::Cilium, &mixed, &only).allows(&["b.test"]).denies(&["a.test"]);
}

#[test]
fn policies_that_are_about_others_are_never_mixed() {
    let cilium = |kind: &str, place: &str, host: &str| {
        format!(
            "kind: {kind}\nmetadata: {{{place}}}\nspec:\n  endpointSelector: {{}}\n  egress: [{{toFQDNs: [{{matchName: {host}}}], toPorts: [{{ports: [{{port: \"443\", protocol: TCP}}]}}]}}]\n---\n"
        )
    };
    let namespaces = cilium("CiliumNetworkPolicy", "name: p, namespace: one", "a.test")
        + &cilium("CiliumNetworkPolicy", "name: p, namespace: two", "b.test")
        + &cilium("CiliumClusterwideNetworkPolicy", "name: wide", "c.test");
    let sandboxes = "sbx policy allow network --sandbox alpha a.test\nsbx policy allow network --sandbox=beta b.test\n\
                     sbx policy allow network -g all.test\n";
    let proxies = "docker sandbox network proxy one --policy deny --allow-host a.test:443\n\
                   docker sandbox network proxy --policy deny two --allow-host b.test:443\n";
    let clients = "acl admins src 10.0.0.5/32\nacl localnet src 10.0.0.0/8\nacl secret dstdomain a.test\nacl sites dstdomain b.test\n\
                   acl shared dstdomain all.test\nhttp_access allow shared\nhttp_access allow admins secret\n\
                   http_access allow localnet sites\nhttp_access allow localhost\nhttp_access deny all\n";
    for (kind, text, first, names) in [
        (Kind::Cilium, namespaces.as_str(), "one/p", "one/p, two/p, wide"),
        (Kind::Docker, sandboxes, "alpha", "alpha, beta"),
        (Kind::Docker, proxies, "one", "one, two"),
        (Kind::Squid, clients, "admins", "admins, localnet"),
    ] {
        match import(kind, "f", text, &options()) {
            Err(ImportError::Several { names: told, .. }) => assert_eq!(told, names),
            other => panic!("{kind}: {other:?}"),
        }
        let translation = translate_with(kind, text, &only(first));
        translation.allows(&["a.test"]).denies(&["b.test", "c.test"]);
        assert_eq!(allows(&translation.policy, "all.test"), text.contains("all.test"), "{kind}");
    }
    let same = clients.replace("allow admins secret", "allow admins sites");
    translate(Kind::Squid, &same).allows(&["b.test", "all.test"]).denies(&["a.test"]);
}

#[test]
fn what_was_chosen_is_there_or_nothing_is_translated() {
    let nowhere = only("nowhere");
    let codex = "[permissions.one.network.domains]\n\"a.test\" = \"allow\"\n";
    for (kind, text, names) in [
        (Kind::Copilot, "a.test\n", ""),
        (Kind::GhAw, "network: {allowed: [a.test]}\n", ""),
        (Kind::ClaudeCode, "{\"sandbox\": {\"network\": {\"allowedDomains\": [\"a.test\"]}}}", ""),
        (Kind::Srt, "{\"network\": {\"allowedDomains\": [\"a.test\"]}}", ""),
        (Kind::Docker, "sbx policy allow network a.test\n", ""),
        (Kind::Docker, "sbx policy allow network --sandbox x a.test\n", "x"),
        (Kind::Docker, "network:\n  allowedDomains: [a.test]\n", ""),
        (Kind::Squid, "acl s dstdomain a.test\nhttp_access allow s\nhttp_access deny all\n", ""),
        (Kind::Cilium, "kind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec: {}\n", "default/p"),
        (Kind::Codex, "[network]\nallowed_domains = [\"a.test\"]\n", ""),
        (
            Kind::HardenRunner,
            "jobs:\n  build:\n    steps:\n      - uses: step-security/harden-runner@v2\n",
            "build",
        ),
    ] {
        match import(kind, "f", text, &nowhere) {
            Err(ImportError::NoSuch { names: told, .. }) => assert_eq!(told, names, "{kind}"),
            other => panic!("{kind}: {other:?}"),
        }
    }
    assert!(matches!(import(Kind::Codex, "f", codex, &nowhere), Err(ImportError::Several { .. })));
}

#[test]
fn squid_lines_that_end_tls_by_its_server_name_deny() {
    let squid = |act: &str| {
        format!(
            "acl evil ssl::server_name evil.test\nacl sites dstdomain .test\nhttp_access allow sites\n\
             http_access deny all\nssl_bump peek all\nssl_bump {act} evil\nssl_bump splice all\n"
        )
    };
    let text = squid("terminate");
    translate(Kind::Squid, &text)
        .denies(&["a.test", "evil.test"])
        .says(Fate::Lost, "ssl_bump terminate evil");
    let widening = Options { widening: Widening::Allowed, ..options() };
    translate_with(Kind::Squid, &text, &widening).says(Fate::Widened, "ssl_bump terminate evil");
}

#[test]
fn a_part_of_a_cilium_rule_that_is_not_understood_takes_all_of_it() {
    let policy = "kind: CiliumNetworkPolicy\nspec:\n  egress:\n    - toFQDNs: [{matchName: a.test}]\n      toRequires: [{matchLabels: {a: b}}]\n    - {}\n  egressDeny:\n    - toEndpoints: [{}]\n";
    translate(Kind::Cilium, policy).denies(&["a.test"]).says(Fate::Lost, "toRequires");
}

const SQUID: &str = "\
# the usual beginning
acl localnet src 10.0.0.0/8
acl SSL_ports port 443
acl Safe_ports port 80 443 8080
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access deny manager
http_access deny to_localhost

acl blocked dstdomain .ads.example.com
acl allowed dstdomain .example.com api.example.org   # both
acl allowed dstdomain 192.0.2.7
acl regexes dstdom_regex -i ^cdn[0-9]+\\.example\\.net$ (^|\\.)deep\\.example\\.net$
acl worktime time MTWHF 09:00-17:00
http_access deny blocked
http_access allow localnet allowed
http_access allow localnet regexes
http_access allow worktime allowed
http_access deny all
http_access allow allowed
";

#[test]
fn squid_lines_decide_in_their_order_by_names_and_ports() {
    let translation = translate(Kind::Squid, SQUID);
    translation
        .allows(&[
            "example.com",
            "a.b.example.com",
            "api.example.org",
            "api.example.org:80/http",
            "x.deep.example.net",
        ])
        .allows(&["example.com:8080/http", "deep.example.net", "192.0.2.7:443/tcp"])
        .denies(&[
            "ads.example.com",
            "x.ads.example.com",
            "x.api.example.org",
            "cdn1.example.net",
            "example.com:8443/tcp",
        ])
        .denies(&["example.com:22/tcp", "other.test", "notexample.com"]);
    translation.says(Fate::Lost, "^cdn[0-9]+");
    translation.says(Fate::Lost, "worktime");
    assert!(translation.says(Fate::Exact, "deny !Safe_ports").contains("ports of the lines behind"));
}

#[test]
fn a_squid_denial_behind_what_it_would_deny_takes_nothing_from_it() {
    let conf = "\
acl good dstdomain api.evil.corp.test
acl evil dstdomain .evil.corp.test
acl test dstdomain .corp.test
acl wide port 443
http_access allow good wide
http_access deny evil
http_access allow test wide
http_access deny all
";
    let translation = translate(Kind::Squid, conf);
    translation.allows(&["api.evil.corp.test"]).denies(&["x.evil.corp.test", "a.corp.test"]);
    assert!(translation.says(Fate::Lost, "allow test wide").contains("an earlier line allows a part"));
}

#[test]
fn squid_names_outside_of_a_list_are_denied_by_its_negation() {
    let conf = "acl list dstdomain .example.com api.test\nacl some dstdomain www.example.com other.test\nacl p port 443\nhttp_access deny !list\nhttp_access allow some p\nhttp_access allow localhost p\nhttp_access deny all\n";
    let translation = translate(Kind::Squid, conf);
    translation.is_exact().allows(&["a.example.com", "api.test", "www.example.com"]).denies(&["other.test"]);
}

#[test]
fn what_squid_allows_by_default_is_lost_and_so_is_what_stands_behind_a_riddle() {
    let conf = "acl evil dstdomain .evil.test\nhttp_access deny evil\n";
    translate(Kind::Squid, conf).denies(&["a.test"]).says(Fate::Lost, "the last line denies");
    let conf = "acl a dstdomain a.test\nacl b dstdomain b.test\nacl night time 00:00-06:00\nhttp_access allow a\nhttp_access deny night\nhttp_access allow b\n";
    let translation = translate(Kind::Squid, conf);
    translation.allows(&["a.test"]).denies(&["b.test"]);
    translate_with(Kind::Squid, conf, &widening())
        .allows(&["a.test", "b.test"])
        .says(Fate::Widened, "deny night");
    let conf = "acl a dstdomain a.test\nacl evil dstdomain \"/etc/evil\"\nhttp_access deny evil\nhttp_access allow a\n";
    assert!(
        translate(Kind::Squid, conf).denies(&["a.test"]).says(Fate::Lost, "deny evil").contains("/etc/evil")
    );
}

#[test]
fn wildcards_above_strangers_names_need_the_word_of_whoever_imports() {
    let settings = r#"{"network": {"allowedDomains": ["*.github.io"]}}"#;
    let translation = translate(Kind::Srt, settings);
    translation.denies(&["a.github.io"]);
    assert!(translation.says(Fate::Lost, "*.github.io").contains("strangers can register names"));
    translate_with(Kind::Srt, settings, &widening())
        .allows(&["a.github.io"])
        .says(Fate::Widened, "*.github.io");
}

#[test]
fn nothing_of_a_foreign_file_gets_out_of_its_comment() {
    let entries = r#"["a.test:\n      - host: evil.test\n#", "\n      - host: evil.test", "a\r\u2028- host: evil.test.*"]"#;
    let settings = format!("{{\"network\": {{\"allowedDomains\": {entries}, \"deniedDomains\": []}}}}");
    let imported = import(Kind::Srt, "f\n      - host: evil.test\n#", &settings, &options()).unwrap();
    assert!(imported.report.len() >= 3);
    let lines = imported.policy.lines();
    assert!(lines.clone().all(|line| !line.trim_start().starts_with("- host")), "{}", imported.policy);
}

#[test]
fn a_long_report_is_still_a_policy() {
    let list: String = (0..300).map(|number| format!("a{number}-*.example.com\n")).collect();
    let translation = translate(Kind::Copilot, &format!("{list}ok.example.com\n{list}"));
    translation.allows(&["ok.example.com"]).denies(&["a1-x.example.com"]);
    assert!(translation.imported.policy.contains("a299-*.example.com"));
    let workflow = format!("{}network: {{allowed: [a.example.com]}}\n", "# a comment\n".repeat(100));
    translate(Kind::GhAw, &workflow).allows(&["a.example.com"]);
}

#[test]
fn files_that_are_too_large_or_something_else_are_refused() {
    let large = "#".repeat((1 << 20) + 1);
    for kind in Kind::ALL {
        assert!(matches!(import(kind, "f", &large, &options()), Err(ImportError::TooLarge(_))), "{kind}");
        let other = import(kind, "f", "", &options());
        assert!(kind == Kind::Copilot || other.is_err(), "{kind}: {other:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_an_import_panic_or_write_what_does_not_compile(text in "\\PC{0,200}|[ -~\n]{0,300}", wide: bool) {
        for kind in Kind::ALL {
            never_fails_by_itself(kind, &text, wide);
        }
    }

    #[test]
    fn no_entry_makes_an_import_write_what_does_not_compile(entries in prop::collection::vec(entry(), 0..6), wide: bool) {
        for (kind, text) in files_of(&entries) {
            never_fails_by_itself(kind, &text, wide);
        }
    }
}

/// A file of each kind in which `entries` stand wherever hosts do; the first two are denied, too.
fn files_of(entries: &[String]) -> Vec<(Kind, String)> {
    let quoted: Vec<String> = entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
    let (list, half) = (quoted.join(", "), quoted[..quoted.len().min(2)].join(", "));
    let words = entries.join(" ");
    let quoted_words = serde_json::to_string(&words).unwrap();
    let network = format!("\"network\": {{\"allowedDomains\": [{list}], \"deniedDomains\": [{half}]}}");
    let patterns: Vec<String> = quoted.iter().map(|entry| format!("{{matchPattern: {entry}}}")).collect();
    let flag = |entry: &String| {
        format!("docker sandbox network proxy x --policy deny --allow-host {entry} --block-host {entry}\n")
    };
    vec![
        (
            Kind::HardenRunner,
            format!(
                "- uses: step-security/harden-runner@v2\n  with: {{allowed-endpoints: {quoted_words}}}\n"
            ),
        ),
        (Kind::GhAw, format!("network: {{allowed: [{list}], blocked: [{half}]}}")),
        (Kind::Copilot, entries.join("\n")),
        (Kind::Codex, format!("[network]\nallowed_domains = [{list}]\ndenied_domains = [{half}]\n")),
        (Kind::ClaudeCode, format!("{{\"sandbox\": {{{network}}}}}")),
        (Kind::Srt, format!("{{{network}}}")),
        (Kind::Docker, format!("{{{network}}}")),
        (Kind::Docker, entries.iter().map(flag).collect()),
        (
            Kind::Cilium,
            format!(
                "kind: CiliumNetworkPolicy\nspec:\n  egress: [{{toFQDNs: [{}], toCIDR: [{list}]}}]\n  \
                 egressDeny: [{{toCIDR: [{half}]}}]\n",
                patterns.join(", ")
            ),
        ),
        (
            Kind::Squid,
            format!(
                "acl a dstdomain {words}\nacl r dstdom_regex {words}\nacl d dst {words}\n\
                 http_access deny d a\nhttp_access deny r\nhttp_access allow a !r\n\
                 http_access allow d\nhttp_access deny all\n"
            ),
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_squid_lines_opens_what_the_first_of_them_denies(lines in prop::collection::vec(squid_line(), 1..7)) {
        squid_order_holds(&lines);
    }
}

type SquidLine = (&'static str, Vec<&'static str>, bool);

/// Nothing passes that the first line which fits denies; and if nothing was lost, what it allows passes.
fn squid_order_holds(lines: &[SquidLine]) {
    let mut conf = String::new();
    for (index, (act, domains, is_negated)) in lines.iter().enumerate() {
        let bang = if *is_negated { "!" } else { "" };
        let domains = domains.join(" ");
        conf.push_str(&format!("acl a{index} dstdomain {domains}\nhttp_access {act} {bang}a{index}\n"));
    }
    conf.push_str("http_access deny all\n");
    let translation = translate(Kind::Squid, &conf);
    // A line that allows all but some names denies these to later lines, too.
    let allows_all_but = lines.iter().any(|(act, _, is_negated)| *act == "allow" && *is_negated);
    let is_kept = !translation.imported.needs_a_look() && !allows_all_but;
    for name in ["corp.test", "a.corp.test", "b.corp.test", "a.a.corp.test", "b.a.corp.test", "other.test"] {
        let fits = |line: &&SquidLine| line.1.iter().any(|domain| squid_matches(domain, name)) != line.2;
        let is_allowed = lines.iter().find(fits).is_some_and(|(act, _, _)| *act == "allow");
        let passes = allows(&translation.policy, name);
        let shown = format!("{name}\n{conf}\n{}", translation.imported.policy);
        assert!(is_allowed || !passes, "{shown}");
        assert!(!is_kept || is_allowed == passes, "{shown}");
    }
}

fn squid_line() -> impl Strategy<Value = SquidLine> {
    let domain = prop::sample::select(vec![
        ".corp.test",
        "corp.test",
        "a.corp.test",
        ".a.corp.test",
        "b.corp.test",
        "a.a.corp.test",
    ]);
    (
        prop::sample::select(vec!["allow", "deny"]),
        prop::collection::vec(domain, 1..3),
        prop::bool::weighted(0.2),
    )
}

fn squid_matches(domain: &str, name: &str) -> bool {
    match domain.strip_prefix('.') {
        Some(zone) => name == zone || name.ends_with(domain),
        None => name == domain,
    }
}

/// Entries as people write them, with what they get wrong.
fn entry() -> impl Strategy<Value = String> {
    let label = prop::sample::select(vec![
        "a",
        "b",
        "example",
        "*",
        "**",
        "api-*",
        "",
        "localhost",
        "com",
        "github",
        "io",
        "xn--a",
        "1",
        "é",
    ]);
    let host = prop::collection::vec(label, 1..5).prop_map(|labels| labels.join("."));
    let address = prop::sample::select(vec![
        "192.0.2.7",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::1",
        "[2001:db8::1]",
        "::ffff:1.2.3.4",
        "fe80::/10",
    ]);
    let port =
        prop::sample::select(vec!["", ":443", ":80", ":53", ":0", ":99999", ":x", "/path/", "/a/../b"]);
    let scheme = prop::sample::select(vec!["", "https://", "http://", ".", "^", "WebFetch(domain:"]);
    let end = prop::sample::select(vec!["", "$", ")", "."]);
    (scheme, prop_oneof![host, address.prop_map(str::to_owned)], port, end)
        .prop_map(|(scheme, host, port, end)| format!("{scheme}{host}{port}{end}"))
}

fn never_fails_by_itself(kind: Kind, text: &str, wide: bool) {
    let options = if wide { widening() } else { options() };
    match import(kind, "f", text, &options) {
        Ok(imported) => {
            let inexact = imported.report.iter().filter(|line| line.fate == Fate::Widened).count();
            assert!(wide || inexact == 0, "{kind}: nothing widens unasked: {imported:?}");
        }
        Err(ImportError::Refused(error)) => panic!("{kind}: {error}\n{text}"),
        Err(
            ImportError::TooLarge(_)
            | ImportError::TooMany(_)
            | ImportError::Syntax { .. }
            | ImportError::Nothing(..)
            | ImportError::Several { .. }
            | ImportError::NoSuch { .. },
        ) => {}
    }
}

fn widening() -> Options {
    Options { widening: Widening::Allowed, ..options() }
}

fn only(name: &str) -> Options {
    Options { only: Some(name.to_owned()), ..options() }
}
