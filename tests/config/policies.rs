//! What a policy compiles to.

use egressd::{
    config::{Credential, CredentialSource, Loader, Policies, load_str},
    policy::{
        AgentName, Budget, LeakAction, LeakBudget, LeakFlag, LeakTerms, Mode, Policy, Protocol, Rate, Rule,
        Workload,
    },
};
use std::{path::Path, sync::Arc, time::Duration};

#[test]
fn a_rule_with_only_a_host_means_tls_on_443() {
    let rule = only_rule("- host: api.example.com");
    assert_eq!((rule.ports.as_slice(), rule.protocol), ([443].as_slice(), Some(Protocol::Tls)));
    assert!(!rule.private);
}

#[test]
fn http_has_port_80_by_default() {
    assert_eq!(only_rule("- {host: api.example.com, protocol: http}").ports, [80]);
}

#[test]
fn ports_are_sorted_and_without_duplicates() {
    assert_eq!(only_rule("- {host: api.example.com, ports: [8443, 443, 8443]}").ports, [443, 8443]);
}

#[test]
fn a_rule_knows_its_file_and_line() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    rules:\n      # why\n      - reason: so\n        host: a.example\n",
    );
    assert_eq!(of(&policies, "default").allow()[0].source.to_string(), "policy.yaml:6");
}

#[test]
fn an_included_rule_knows_the_line_of_its_allowlist() {
    let policies = compile("version: 1\nagents:\n  default:\n    include: [good]\n");
    let source = of(&policies, "default").allow()[0].source.to_string();
    assert!(source.ends_with("included/good.yaml:4"), "{source}");
}

#[test]
fn rules_that_say_the_same_are_one_rule() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    include: [good]\n    rules:\n      - host: SHARED.example.com\n      - host: shared.example.com.\n        ports: [443]\n",
    );
    let policy = of(&policies, "default");
    let sources: Vec<String> = policy.allow().iter().map(|rule| rule.subject.to_string()).collect();
    assert_eq!(sources, ["shared.example.com", "one.example.com"]);
    assert_eq!(&policy.allow()[0].source.file[..], "policy.yaml");
}

#[test]
fn a_list_of_hosts_is_a_rule_for_each_on_its_own_line() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    rules:\n      - hosts:\n          - a.example\n          - '*.b.example'\n        ports: [8443]\n    deny:\n      - hosts: [c.b.example, d.b.example]\n",
    );
    let policy = of(&policies, "default");
    let told = |rule: &Rule| format!("{} {} {:?}", rule.source, rule.subject, rule.ports);
    let allow: Vec<String> = policy.allow().iter().map(told).collect();
    assert_eq!(allow, ["policy.yaml:6 a.example [8443]", "policy.yaml:7 *.b.example [8443]"]);
    assert_eq!(policy.deny().len(), 2);
}

#[test]
fn ports_may_be_ranges() {
    let rule = only_rule("- {host: a.example, protocol: tcp, ports: [8002, 8000-8003, 22]}");
    assert_eq!(rule.ports, [22, 8000, 8001, 8002, 8003]);
}

#[test]
fn an_agent_has_what_its_roles_have_and_what_it_says_itself_counts_first() {
    let policies = compile(
        "version: 1\n\
         roles:\n  \
           base:\n    leak_budget: 100\n    host_sockets: true\n    capabilities: [net_raw]\n    \
             rules: [{host: base.example}]\n    deny: [{host: no.example}]\n  \
           web:\n    extends: [base]\n    leak_actions: {slow-drip: freeze}\n    include: [good]\n    \
             rules: [{host: web.example}]\n  \
           ring:\n    extends: [base]\n    \
             rules: [{host: ring.example}]\n\
         agents:\n  \
           build:\n    extends: [web, base]\n    leak_budget: 200\n    leak_actions: {slow-drip: flag}\n    \
             rules: [{host: own.example}]\n  \
           other:\n    extends: [ring]\n    host_sockets: false\n  \
           alone: {}\n",
    );
    let hosts = |agent| -> Vec<String> {
        of(&policies, agent).allow().iter().map(|rule| rule.subject.to_string()).collect()
    };
    assert_eq!(
        hosts("build"),
        ["own.example", "web.example", "one.example.com", "shared.example.com", "base.example"]
    );
    let build = of(&policies, "build");
    assert_eq!(build.deny().len(), 1);
    assert_eq!((build.capabilities().len(), build.host_sockets()), (1, true));
    assert_eq!(build.leaks().budget, LeakBudget::of_bytes(200).unwrap());
    assert_eq!(build.leaks().actions.at(LeakFlag::SlowDrip), LeakAction::Flag);
    assert_eq!(hosts("other"), ["ring.example", "base.example"]);
    assert!(!of(&policies, "other").host_sockets());
    assert_eq!(hosts("alone"), Vec::<String>::new());
}

#[test]
fn a_mode_is_that_of_the_nearest_section_and_of_each_rule() {
    let policies = compile(
        "version: 1\nroles:\n  tried: {mode: observe}\nagents:\n  default: {extends: [tried]}\n  strict:\n    extends: [tried]\n    mode: enforce\n    rules:\n      - {host: a.example, mode: observe}\n      - host: a.example\n    deny:\n      - {host: b.example, mode: observe}\n",
    );
    assert_eq!(of(&policies, "default").mode(), Mode::Observe);
    let strict = of(&policies, "strict");
    assert_eq!((strict.mode(), strict.observes()), (Mode::Enforce, true));
    let modes: Vec<Mode> = strict.allow().iter().map(|rule| rule.mode).collect();
    assert_eq!(modes, [Mode::Observe, Mode::Enforce], "they are two rules, and not one");
    assert_eq!(strict.deny()[0].mode, Mode::Observe);
}

#[test]
fn a_section_is_for_the_agent_of_its_name_then_for_whom_it_selects_and_default_for_all_others() {
    let policies = compile(
        "version: 1\nagents:\n  \
           default: {rules: [{host: default.example}]}\n  \
           web: {select: {labels: {team: web}}, rules: [{host: web.example}]}\n  \
           ci: {select: {name: 'ci-*', uid: 7}, rules: [{host: ci.example}]}\n  \
           services: {select: {cgroup: /system.slice/**}, rules: [{host: services.example}]}\n",
    );
    let workload = |name: &str, uid, cgroup: &str, label: &str| Workload {
        name: self::name(name),
        uid,
        cgroup: (!cgroup.is_empty()).then(|| cgroup.to_owned()),
        labels: label
            .split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
    };
    for (workload, host) in [
        (workload("web", None, "", ""), "web.example"),
        (workload("ci", Some(7), "", "team=web"), "ci.example"),
        (workload("any", None, "/system.slice/a.service", "team=web"), "web.example"),
        (workload("any", None, "/system.slice/a.service", "team=other"), "services.example"),
        (workload("ci-3", Some(7), "", ""), "ci.example"),
        (workload("ci-3", Some(8), "", ""), "default.example"),
    ] {
        let policy = policies.for_workload(&workload);
        assert_eq!(policy.allow()[0].subject.to_string(), host, "{workload:?}");
    }
}

#[test]
fn a_rule_keeps_its_id_when_its_file_changes_around_it() {
    let alone = only_rule("- host: api.example.com");
    let moved = compile(
        "version: 1\nagents:\n  default:\n    rules:\n      - host: other.example.com\n      - host: api.example.com\n        reason: new words\n",
    );
    assert_eq!(of(&moved, "default").allow()[1].id, alone.id);
    assert_ne!(of(&moved, "default").allow()[0].id, alone.id);
}

#[test]
fn what_a_rule_says_of_lookups_is_no_part_of_its_id_and_changes_its_policy() {
    let rule = "- host: '*.cdn.example'";
    let bounded = "- {host: '*.cdn.example', leak_budget: 640, types: [txt, MX, TXT]}";
    let (plain, with) = (only_rule(rule), only_rule(bounded));
    assert_eq!(with.id, plain.id, "flows that are open stay open");
    assert_eq!(with.names.leak_budget, LeakBudget::of_bytes(640));
    assert_eq!(with.names.types, [15, 16]);
    assert_ne!(compile(&default_of(rule)), compile(&default_of(bounded)), "a reload sees it");
}

#[test]
fn rules_that_say_the_same_of_flows_allow_the_types_of_all_of_them() {
    let policies = compile(&default_of(
        "- {host: '*.cdn.example', types: [TXT]}\n      - {host: '*.cdn.example', types: [MX], leak_budget: 7}",
    ));
    let policy = of(&policies, "default");
    assert_eq!(policy.allow().len(), 1);
    assert_eq!(policy.allow()[0].names.types, [15, 16]);
    assert_eq!(policy.allow()[0].names.leak_budget, LeakBudget::of_bytes(7));
}

#[test]
fn an_agent_has_a_budget_actions_and_secrets_of_its_own() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    leak_budget: 0\n    leak_actions: {slow-drip: freeze, secret: log}\n    honeytokens: [{name: canary, value: \"feed-me-seymour\"}]\n  other: {}\n",
    );
    let terms = of(&policies, "default").leaks().clone();
    assert_eq!(terms.budget.bytes(), 0);
    assert_eq!(terms.actions.at(LeakFlag::SlowDrip), LeakAction::Freeze);
    assert_eq!(terms.actions.at(LeakFlag::Secret), LeakAction::Log);
    assert_eq!(terms.actions.at(LeakFlag::ManyNames), LeakFlag::ManyNames.default_action());
    assert_eq!(terms.secrets.found_in("feed-me-seymour.example"), Some("canary"));
    assert_eq!(*of(&policies, "other").leaks(), LeakTerms::default());
}

#[test]
fn a_rule_that_says_something_else_has_another_id() {
    let ids = [
        "- host: api.example.com",
        "- host: '*.api.example.com'",
        "- {host: api.example.com, ports: [8443]}",
        "- {host: api.example.com, private: true}",
        "- {host: api.example.com, protocol: tcp, ports: [443]}",
        "- {cidr: 192.0.2.0/24, protocol: tcp, ports: [443]}",
        "- {cidr: 192.0.2.0/24, protocol: udp, ports: [443]}",
    ]
    .map(|rule| only_rule(rule).id);
    for (nth, id) in ids.iter().enumerate() {
        assert_ne!(id.0, 0);
        assert!(!ids[..nth].contains(id), "{nth}");
    }
}

#[test]
fn an_agent_without_a_policy_gets_the_default_one() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    rules: [{host: d.example}]\n  own:\n    rules: [{host: o.example}]\n",
    );
    assert_eq!(of(&policies, "own").allow()[0].subject.to_string(), "o.example");
    assert_eq!(of(&policies, "stranger").allow()[0].subject.to_string(), "d.example");
    let section = |agent| policies.section_for(&Workload::named(name(agent))).map(ToString::to_string);
    assert_eq!((section("own").as_deref(), section("stranger").as_deref()), (Some("own"), Some("default")));
    assert_eq!(policies.names().map(AgentName::as_str).collect::<Vec<_>>(), ["default", "own"]);
}

#[test]
fn without_a_default_a_stranger_may_reach_nothing() {
    let policies = compile("version: 1\nagents:\n  own:\n    rules: [{host: o.example}]\n");
    assert_eq!(*of(&policies, "stranger"), Policy::default());
}

#[test]
fn empty_lists_allow_nothing() {
    for agent in ["{}", "{rules: []}", "{rules: [], deny: [], include: []}", ""] {
        let policies = compile(&format!("version: 1\nagents:\n  default: {agent}\n"));
        assert_eq!(*of(&policies, "default"), Policy::default(), "{agent}");
    }
}

#[test]
fn a_deny_rule_without_ports_covers_all_of_them() {
    let policies = compile(
        "version: 1\nagents:\n  default:\n    deny:\n      - host: a.example\n      - cidr: 10.0.0.0/8\n        ports: [22]\n",
    );
    let policy = of(&policies, "default");
    assert!(policy.deny()[0].covers_port(1) && policy.deny()[0].covers_protocol(Protocol::Udp));
    assert!(policy.deny()[1].covers_port(22) && !policy.deny()[1].covers_port(23));
}

#[test]
fn a_wildcard_at_a_public_suffix_needs_the_word_danger() {
    only_rule("- {host: '*.github.io', danger_public_suffix: true}");
}

#[test]
fn a_rule_that_inspects_says_which_requests_pass_and_what_is_sent_with_them() {
    let rule = only_rule(INSPECTING);
    assert!(rule.tls.needs_proxy());
    let inspection = rule.tls.inspection.clone().unwrap();
    let allowed: Vec<String> = inspection.allow.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(allowed, ["GET /repos/**", "* /graphql"]);
    assert_eq!((inspection.max_body, inspection.max_bodies), (Some(1_000_000), Some(65536)));
    let injected = inspection.inject.first().unwrap();
    assert_eq!((injected.header.as_str(), injected.credential.as_str()), ("authorization", "forge"));
    // Another term is another rule, so that a reload cuts the flows of the one before.
    assert_ne!(only_rule(&INSPECTING.replace("GET", "POST")).id, rule.id);
    assert!(!only_rule("- {host: api.example.com, inspect: false}").tls.needs_proxy());
}

#[test]
fn an_agent_and_a_rule_have_the_budgets_of_the_nearest_who_names_them() {
    let policies = compile(
        "version: 1\nroles:\n  base:\n    max_bytes: 10MB\n    rate: 600/min\n    \
         rules:\n      - {host: a.example, max_bytes: 1kB, max_connections: 7}\n\
         agents:\n  build:\n    extends: [base]\n    max_bytes: 2GB\n    \
         rules:\n      - {host: a.example, max_bytes: 3kB, rate: 1000/h}\n",
    );
    let policy = of(&policies, "build");
    let rate = |flows, seconds| Some(Rate { flows, per: Duration::from_secs(seconds) });
    let own = Budget { max_bytes: Some(2_000_000_000), max_connections: None, rate: rate(600, 60) };
    assert_eq!(policy.budget(), own);
    let of_rule = Budget { max_bytes: Some(3_000), max_connections: Some(7), rate: rate(1000, 3600) };
    assert_eq!(policy.allow().iter().map(|rule| rule.budget).collect::<Vec<_>>(), [of_rule]);
}

#[test]
fn a_rule_with_another_budget_is_the_same_rule_so_that_a_reload_cuts_nobody() {
    let of = |bounds: &str| only_rule(&format!("- {{host: a.example{bounds}}}")).id;
    assert_eq!(of(", max_bytes: 1kB, rate: 2/s"), of(""));
}

#[test]
fn a_rule_injects_none_but_the_credentials_of_the_daemon() {
    let credential = |name: &str| Credential {
        name: name.to_owned(),
        source: CredentialSource::Environment("X".to_owned()),
        around: Default::default(),
    };
    let load = |credentials: &[Credential]| {
        let loader = Loader::new(&[]).with_credentials(credentials);
        loader.load_str("p.yaml", &default_of(INSPECTING), Path::new(""))
    };
    assert!(load(&[credential("forge")]).is_ok());
    let error = load(&[credential("other")]).unwrap_err();
    assert!(error.to_string().contains("no credential `forge`"), "{error}");
    assert!(error.to_string().contains("credentials of egressd.yaml: other"), "{error}");
    assert_eq!(error.diagnostics()[0].line(), Some(5));
}

const INSPECTING: &str = "- {host: api.example.com, inspect: true, allow: [GET /repos/**, \"* /graphql\"], \
                          max_body: 1MB, max_bodies: 65536, inject: {header: Authorization, from: forge}}";

fn only_rule(rule: &str) -> Rule {
    of(&compile(&default_of(rule)), "default").allow()[0].clone()
}

fn default_of(rules: &str) -> String {
    format!("version: 1\nagents:\n  default:\n    rules:\n      {rules}\n")
}

fn of(policies: &Policies, agent: &str) -> Arc<Policy> {
    policies.for_agent(&name(agent))
}

fn name(text: &str) -> AgentName {
    AgentName::parse(text).unwrap()
}

fn compile(text: &str) -> Policies {
    let included = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config/errors/included");
    load_str("policy.yaml", text, &included, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_long_comment_is_no_mistake() {
    let text =
        format!("{}version: 1\nagents: {{}}\n{}", "# one line\n".repeat(500), "# another\n".repeat(500));
    load_str("p.yaml", &text, Path::new(""), &[]).unwrap();
}

#[test]
fn a_policy_with_too_many_rules_is_refused() {
    let hosts: Vec<String> = (0..4097).map(|number| format!("a{number}.example")).collect();
    let text = format!("version: 1\nagents: {{a: {{rules: [{{hosts: [{}]}}]}}}}\n", hosts.join(", "));
    let error = load_str("p.yaml", &text, Path::new(""), &[]).unwrap_err().to_string();
    assert!(error.contains("agent `a` has too much: 4097 rules, at most 4096 are allowed"), "{error}");
}
