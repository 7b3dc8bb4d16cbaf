//! `egressctl` as people and scripts meet it: help, errors, exit codes, output.
#![allow(clippy::unwrap_used)]

#[path = "../control/events.rs"]
mod events;
mod failures;
#[path = "../control/fake.rs"]
mod fake;
mod policy;
mod program;
#[path = "../e2e/pty.rs"]
mod pty;

use egressd::audit::{RING, Recovered};
use events::{alert, change, denial};
use fake::Server;
use nix::sys::signal::Signal;
use program::{Program, run, run_in};
use pty::Pty;

/// `TRYCMD=overwrite` writes what the program says into the cases.
#[test]
fn help_and_errors_are_as_documented() {
    trycmd::TestCases::new().env("COLUMNS", "100").case("../tests/cli/cases/*.trycmd");
}

#[test]
fn metrics_are_text_for_monitors_and_lines_of_json_for_scripts() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    let text = run(&socket, &["metrics"]);
    assert_eq!((text.code, text.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert_eq!(lines[1], "# TYPE egressd_budget_used_bytes gauge");
    assert_eq!(lines[2], r#"egressd_budget_used_bytes{agent="build",rule="a\"b\\u{1b}[2J.yaml:6"} 1500"#);
    let json = run(&socket, &["metrics", "-o", "json"]);
    let metric: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((json.code, &metric["samples"][0]["labels"]["agent"]), (0, &"build".into()), "{json:?}");
    drop(server);
    assert_eq!(run(&socket, &["metrics"]).code, 2);
}

#[test]
fn explain_exits_0_where_allowed_1_where_denied_2_where_it_cannot_say() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let allowed = run(&socket, &["explain", "https://ok.test/path", "--agent", "build"]);
    assert_eq!((allowed.code, allowed.stderr.as_str()), (0, ""));
    assert_eq!(
        allowed.stdout,
        "allowed: ok.test:443, tls, agent `build`\n  rule       build.yaml:5\n  \
         resolver   ok           is asked for upstream\n  address    ok           open: 443/tls\n  \
         name gate  ok           the name is read\n  budget     not asked    nothing is bounded\n"
    );
    let denied = run(&socket, &["explain", "evil.test"]);
    assert_eq!(denied.code, 1);
    assert_eq!(
        denied.stdout,
        "denied: evil.test:443, tls, agent `default`\n  \
         reason     host-not-allowed: No rule allows this host.\n  \
         resolver   denied       refuses: host-not-allowed\n  address    not reached\n  \
         name gate  not reached\n  budget     not reached\n  remedy     - host: evil.test\n"
    );
    let unreadable = run(&socket, &["explain", "evil test"]);
    assert_eq!((unreadable.code, unreadable.stdout.as_str()), (2, ""));
}

#[test]
fn explain_asks_a_policy_file_without_a_daemon() {
    let (folder, socket) = socket();
    let policy = folder.path().join("p.yaml");
    let policy = policy.to_str().unwrap();
    std::fs::write(policy, "version: 1\nagents:\n  build:\n    rules:\n      - host: ok.test\n").unwrap();
    let explain = |host, agent| run(&socket, &["explain", host, "--policy", policy, "--agent", agent]);
    let allowed = explain("ok.test", "build");
    assert_eq!(allowed.code, 0, "{allowed:?}");
    assert!(allowed.stdout.contains(&format!("rule       {policy}:5")), "{allowed:?}");
    assert!(!allowed.stdout.contains("a day"), "what a rule spells out lets nothing out: {allowed:?}");
    assert_eq!(explain("evil.test", "build").code, 1);
    let other = explain("ok.test", "other");
    assert!(other.code == 2 && other.stderr.contains("no policy for agent `other`"), "{other:?}");
    assert!(other.stderr.contains("--agent: build"), "{other:?}");
    let only = run(&socket, &["explain", "ok.test", "--policy", policy]);
    assert!(only.code == 0 && only.stdout.contains("agent `build`"), "the only one is meant: {only:?}");
    std::fs::write(policy, "version: 1\nagents:\n  build:\n    ruels: []\n").unwrap();
    let broken = explain("ok.test", "build");
    assert_eq!((broken.code, broken.stdout.as_str()), (2, ""));
    assert!(broken.stderr.contains("p.yaml:4:5") && broken.stderr.contains("^^^^^"), "{}", broken.stderr);
}

#[test]
fn a_policy_is_suggested_from_an_audit_log_and_allows_what_was_seen_and_no_more() {
    let (folder, socket) = socket();
    let record = |seq: u64, verdict: &str, destination: &str, rest: &str| {
        format!(
            r#"{{"v":1,"seq":{seq},"time":"2026-11-21T10:15:0{seq}.000Z","agent":"build","verdict":"{verdict}","gate":"name","path":null,"process":{{"pid":42,"executable":"/usr/bin/cu\n rl","command":"curl"}},"destination":{destination},{rest},"explanation":null,"rule":null,"detail":null,"count":2}}"#
        )
    };
    let to = |name: &str, port: &str| format!(r#"{{"name":"{name}","address":null,"port":{port}}}"#);
    let denied = r#""protocol":"dns","reason":"host-not-allowed","remedy":"- host: x.example""#;
    let mut log: Vec<String> = vec![
        record(1, "deny", &to("api.example", "null"), denied),
        record(2, "allow", &to("api.example", "8443"), r#""protocol":"tls","reason":null,"remedy":null"#),
        record(3, "allow", &to("looked.example", "null"), r#""protocol":"dns","reason":null,"remedy":null"#),
        record(4, "allow", &to("db.example", "5432"), r#""protocol":"tcp","reason":null,"remedy":null"#),
        record(
            5,
            "deny",
            &to("gist.example", "null"),
            r#""protocol":"dns","reason":"denied-by-rule","remedy":null"#,
        ),
        record(
            6,
            "deny",
            &to("in.example", "443"),
            r#""protocol":"tls","reason":"address-special-purpose","remedy":"- {host: in.example, private: true}""#,
        ),
        record(
            7,
            "deny",
            r#"{"name":null,"address":"192.0.2.7","port":443}"#,
            r#""protocol":"tcp","reason":"address-not-granted","remedy":"- {cidr: 192.0.2.7/32, protocol: tcp, ports: [443]}""#,
        ),
        record(
            7,
            "allow",
            &to("open.example", "22"),
            r#""protocol":"tcp","reason":null,"observed":"address-not-granted","remedy":"- x""#,
        ),
        record(
            7,
            "allow",
            &to("quick.example", "443"),
            r#""protocol":"udp","reason":null,"observed":"address-not-granted","remedy":"- x""#,
        ),
        record(
            7,
            "allow",
            &to("gist.github.com", "443"),
            r#""protocol":"tls","reason":null,"observed":"host-not-allowed","remedy":"- host: gist.github.com""#,
        ),
        r#"{"v":1,"seq":8,"time":"2026-11-21T10:15:08.000Z","lost":3,"at":"queue","agent":null}"#.to_owned(),
    ];
    log.extend((0..5).map(|number| record(9, "deny", &to(&format!("e{number}.cdn.example"), "443"), denied)));
    let path = folder.path().join("audit.jsonl");
    std::fs::write(&path, log.join("\n") + "\n").unwrap();
    let suggested = run(&socket, &["suggest", "--log", path.to_str().unwrap(), "--agent", "build"]);
    assert_eq!(suggested.code, 0, "{suggested:?}");
    let gaps = format!("3 records are missing in `{}`, which has gaps for them\n", path.display());
    assert!(suggested.stderr.contains(&gaps), "{suggested:?}");
    let policy = folder.path().join("p.yaml");
    std::fs::write(&policy, &suggested.stdout).unwrap();
    for line in [
        "      - {host: api.example, ports: [443, 8443]}   # 4 flows, 2 of them denied, by cu??rl; 2026-11-21T10:15:01.000Z to 2026-11-21T10:15:02.000Z",
        "      # 5 of these names are right below cdn.example; \"*.cdn.example\" would cover them, and every other name there",
        "      - {host: open.example, protocol: tcp, ports: [22]}   # 2 flows, only observed, by cu??rl; 2026-11-21T10:15:07.000Z",
        "      - {host: quick.example, protocol: quic, ports: [443]}   # 2 flows, only observed, by cu??rl; 2026-11-21T10:15:07.000Z",
        "      # left out: gist.github.com: shared by strangers: anyone can post (2 flows, only observed, by cu??rl; 2026-11-21T10:15:07.000Z)",
        "      # left out: gist.example: A deny rule covers this destination (2 flows, denied, by cu??rl; 2026-11-21T10:15:05.000Z)",
        "      # left out: in.example: its address is private or special (2 flows, denied, by cu??rl; 2026-11-21T10:15:06.000Z)",
        "      # left out: 192.0.2.7 port 443/tcp: an address without a name (2 flows, denied, by cu??rl; 2026-11-21T10:15:07.000Z)",
    ] {
        assert!(suggested.stdout.lines().any(|own| own == line), "{line}\n{}", suggested.stdout);
    }
    let explain = |host: &str| {
        let arguments = ["explain", host, "--policy", policy.to_str().unwrap(), "--agent", "build"];
        run(&socket, &arguments).code
    };
    for host in ["api.example:443", "api.example:8443", "db.example:5432", "e4.cdn.example"] {
        assert_eq!(explain(host), 0, "{host}");
    }
    for host in ["looked.example", "gist.example", "in.example", "192.0.2.7:443", "e5.cdn.example"] {
        assert_eq!(explain(host), 1, "{host}");
    }
    let old = folder.path().join("old.yaml");
    let text = "version: 1\nagents:\n  build:\n    rules:\n      - host: api.example\n    deny: []\n";
    std::fs::write(&old, text).unwrap();
    let log = path.to_str().unwrap();
    let arguments = ["suggest", "--log", log, "--agent", "build", "--patch", old.to_str().unwrap()];
    let diff = run(&socket, &arguments).stdout;
    assert!(
        diff.contains("+      - {host: api.example, ports: [8443]}   # "),
        "only what is missing: {diff}"
    );
    std::fs::write(folder.path().join("d.patch"), &diff).unwrap();
    let mut git = std::process::Command::new("git");
    let applied = git.args(["apply", "d.patch"]).current_dir(folder.path()).output().unwrap();
    assert!(applied.status.success(), "{applied:?}");
    let nothing = run(&socket, &arguments);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""), "nothing is missing any more");
    assert!(nothing.stderr.contains("old.yaml` lacks no rule that agent `build` needs\n"), "{nothing:?}");
    assert!(nothing.stderr.contains(" left out, for somebody to think about: "), "{nothing:?}");
    let nothing =
        run(&socket, &["suggest", "--log", path.to_str().unwrap(), "--since", "2027-01-01T00:00:00Z"]);
    assert_eq!(nothing.stdout, "version: 1\nagents: {}\n");
    std::fs::write(&path, "{}\n").unwrap();
    let broken = run(&socket, &["suggest", "--log", path.to_str().unwrap()]);
    assert_eq!(broken.code, 2);
    assert!(broken.stderr.contains("holds no line of an audit log"), "{broken:?}");
}

#[test]
fn lines_of_a_log_that_are_torn_or_of_a_later_version_are_skipped_and_counted() {
    let (folder, socket) = socket();
    let path = folder.path().join("audit.jsonl");
    let suggest = |lines: &[&str]| {
        std::fs::write(&path, lines.join("\n")).unwrap();
        run(&socket, &["suggest", "--log", path.to_str().unwrap()])
    };
    let record = serde_json::to_string(&*denial(1, "a.test")).unwrap();
    let torn = &record[..record.len() / 2];
    let gap = r#"{"v":1,"seq":5,"time":"2026-11-22T09:00:00.000Z","lost":1,"at":"torn","agent":null}"#;
    let later = r#"{"v":1,"seq":6,"newkind":1}"#;
    let read = suggest(&[torn, gap, later, &record, torn]);
    assert!(read.code == 0 && read.stdout.contains("- host: a.test"), "{read:?}");
    assert_eq!(
        read.stderr,
        format!(
            "egressctl: lines that were skipped in `{}`: 2 torn, 1 of a kind that is not known\n",
            path.display()
        )
    );
    assert!(
        suggest(&[gap]).stderr.contains("1 record is missing in `"),
        "whose torn line is in the file before"
    );
    assert_eq!(
        suggest(&[later]).all(),
        (0, "version: 1\nagents: {}\n", &*read.stderr.replace("2 torn, ", ""))
    );
    assert_eq!(suggest(&[torn, "", torn]).code, 2);
}

/// Whatever the file is called by, the patch applies where it is said to.
#[test]
fn a_patch_applies_here_or_in_the_folder_that_is_told() {
    let (folder, socket) = socket();
    let log = folder.path().join("audit.jsonl");
    std::fs::write(&log, serde_json::to_string(&*denial(1, "a.test")).unwrap()).unwrap();
    let here = folder.path().join("here");
    std::fs::create_dir_all(here.join("below")).unwrap();
    let text = "version: 1\nagents:\n  build:\n    rules: []";
    for (file, told, place) in [
        ("p.yaml", false, "."),
        ("./below/../my p.yaml", false, "."),
        ("below/p.yaml", false, "."),
        ("../p.yaml", true, ".."),
    ] {
        std::fs::write(here.join(file), text).unwrap();
        let arguments = ["suggest", "--agent", "build", "--patch", file, "--log", log.to_str().unwrap()];
        let suggested = run_in(&here, &socket, &arguments);
        assert_eq!(suggested.stderr.contains("apply it there"), told, "{file}: {suggested:?}");
        let applies_in = here.join(place);
        std::fs::write(applies_in.join("d.patch"), &suggested.stdout).unwrap();
        let mut git = std::process::Command::new("git");
        let applied = git.args(["apply", "d.patch"]).current_dir(&applies_in).output().unwrap();
        assert!(applied.status.success(), "{file}: {applied:?} {suggested:?}");
        let patched = std::fs::read_to_string(here.join(file)).unwrap();
        assert!(
            patched.starts_with(&text.replace(" []", "\n      - host: a.test   # ")),
            "{file}: {patched}"
        );
    }
}

#[test]
fn explain_says_what_is_asked_of_requests_and_who_reads_a_server_name() {
    let (folder, socket) = socket();
    let file = folder.path().join("p.yaml");
    let path = file.to_str().unwrap();
    let text = "version: 1\nagents:\n  build:\n    rules:\n      \
                - {host: read.test, inspect: true, allow: [GET /a/**], max_body: 1kB, ech: allow}\n      \
                - {host: far.test, gate: proxy, risk: external, reason: partner of ours}\n    \
                deny:\n      - {host: no.test, reason: left in May}\n    \
                secrets:\n      - {name: key, file: /nonexistent/key}\n";
    std::fs::write(&file, text).unwrap();
    let explain = |host| run(&socket, &["explain", host, "--policy", path, "--agent", "build"]).stdout;
    assert!(
        explain("read.test").contains(
            "the name is read; ech: allow\n                          inspects GET /a/**\n                          \
             1000 bytes at most in the body of a request\n"
        ),
        "{}",
        explain("read.test")
    );
    assert!(
        explain("far.test").contains("  why        partner of ours\n  risk       external\n")
            && explain("no.test").contains("  why        left in May\n")
            && explain("far.test").contains("  name gate  ok           the proxy reads the name\n"),
        "{}",
        explain("far.test")
    );
}

#[test]
fn explain_says_what_may_leak_through_a_wildcard_and_why_a_resolver_is_denied() {
    let (folder, socket) = socket();
    let file = folder.path().join("p.yaml");
    let path = file.to_str().unwrap();
    let text = "version: 1\nagents:\n  build:\n    leak_budget: 1000\n    rules:\n      \
                - {host: '**.cdn.example', leak_budget: 640, types: [TXT]}\n      - host: '*.quad9.net'\n";
    std::fs::write(&file, text).unwrap();
    let explain = |host| run(&socket, &["explain", host, "--policy", path, "--agent", "build"]);
    assert_eq!(
        explain("a.b.cdn.example").stdout.replace(path, "p.yaml"),
        "allowed: a.b.cdn.example:443, tls, agent `build`\n  rule       p.yaml:6\n  \
         resolver   ok           is asked for upstream\n                          types A, AAAA, TXT\n                          \
         640 bytes a day at most through names below cdn.example (p.yaml:6),\n                          \
         1000 through names of all wildcards\n  address    ok           open: 443/tls\n  \
         name gate  ok           the name is read\n  budget     not asked    nothing is bounded\n"
    );
    let resolver = explain("dns.quad9.net");
    assert_eq!(resolver.code, 1);
    assert!(
        resolver.stdout.contains("reason     resolver-not-allowed: The name is a resolver's"),
        "{resolver:?}"
    );
    assert!(resolver.stdout.replace(path, "p.yaml").contains("rule       p.yaml:7"), "{resolver:?}");
}

#[test]
fn status_is_quiet_when_asked_and_tells_health_by_its_exit_code() {
    let (_folder, socket) = socket();
    let quiet = ["status", "-q"];
    assert_eq!(run(&socket, &quiet).all(), (1, "", ""));
    let _server = Server::start(&socket);
    assert_eq!(run(&socket, &quiet).all(), (0, "", ""));
    assert!(run(&socket, &["status"]).stdout.starts_with("egressd 0.1.0 is up\n"));
    let json = run(&socket, &["status", "-o", "json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["pid"], 4242);
}

#[test]
fn the_status_says_which_revision_of_which_repository_is_in_force() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let status = run(&socket, &["status"]).stdout;
    assert!(status.contains("https://git.example/policies.git main:policies, signed, asked "), "{status}");
    assert!(status.contains("revision aaaaaaaaaaaa in force since "), "{status}");
}

#[test]
fn history_lists_revisions_and_says_why_one_was_refused() {
    let (_folder, socket) = socket();
    assert_eq!(run(&socket, &["policy", "history"]).code, 2, "no daemon answers");
    let _server = Server::start(&socket);
    let history = run(&socket, &["policy", "history"]);
    assert_eq!((history.code, history.stderr.as_str()), (1, ""), "the newest was refused");
    let lines: Vec<&str> = history.stdout.lines().collect();
    assert!(lines[0].starts_with("COMMIT        TIME"), "{lines:#?}");
    assert!(lines[1].starts_with("bbbbbbbbbbbb  ") && lines[1].contains("  refused   -"), "{lines:#?}");
    assert!(lines[2].contains("  in force  ada@example.com  allow the mirror"), "{lines:#?}");
    assert!(lines[3].starts_with("cccccccccccc  "), "{lines:#?}");
    assert_eq!(
        lines[4..],
        ["", "bbbbbbbbbbbb was refused:", "  is not signed\\u{1b}[2J"],
        "what is in force is newer"
    );
    let json = run(&socket, &["policy", "history", "-n", "1", "-o", "json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[0]["outcome"], "refused");
}

#[test]
fn a_rollback_exits_0_where_it_is_in_force_and_2_where_it_is_not() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    for done in [&["policy", "rollback"][..], &["policy", "rollback", "aaaa"], &["policy", "follow"]] {
        let done = run(&socket, done);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        assert!(done.stdout.ends_with("the policy of 1 running agent(s) changed\n"), "{done:?}");
    }
    let refused = run(&socket, &["policy", "rollback", "cccc"]);
    assert!(refused.code == 2 && refused.stderr.contains("no revision that was in force"), "{refused:?}");
}

#[test]
fn agents_are_a_table_or_json() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let text = run(&socket, &["agents"]).stdout;
    assert!(text.starts_with("ID  AGENT  STARTED"), "{text}");
    assert!(text.contains("  cgroup  ") && text.contains("  adopted  "), "{text}");
    let json = run(&socket, &["agents", "-o", "json"]).stdout;
    let first = json.lines().next().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(first).unwrap()["name"], "build");
}

#[test]
fn reload_says_what_changed() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let reload = run(&socket, &["reload"]);
    assert_eq!(reload.code, 0);
    assert!(reload.stdout.contains("warning: no policy is called `default`"), "{reload:?}");
}

#[test]
fn tail_shows_the_last_denials_and_ends() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test"), denial(2, "b.test"), denial(3, "c.test")]);
    let tail = run(&socket, &["tail", "-n", "2"]);
    assert_eq!((tail.code, tail.stderr.as_str(), tail.stdout.lines().count()), (0, "", 2));
    let (_, line) = tail.stdout.lines().next().unwrap().split_once("  ").unwrap();
    assert_eq!(line, "build  curl[42]  b.test (192.0.2.7)  443   tls       host-not-allowed  - host: b.test");
    let json = run(&socket, &["tail", "-n", "1", "-o", "json"]).stdout;
    assert!(json.starts_with("{\"v\":1,\"seq\":3,"), "{json}");
    assert!(run(&socket, &["tail", "--summary"]).stdout.starts_with("egress was denied 3 times:\n"));
}

#[test]
fn tail_shows_alerts_among_the_records_and_counts_them() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test"), alert(2)]);
    let tail = run(&socket, &["tail"]);
    assert_eq!((tail.code, tail.stderr.as_str(), tail.stdout.lines().count()), (0, "", 2));
    let (_, line) = tail.stdout.lines().nth(1).unwrap().split_once("  ").unwrap();
    assert_eq!(
        line,
        "build  -         cdn.example         -     dns       ALERT E3 encoded-names  freeze: 5 names in 41 s, \
         such as `nbswy3dp`\\u{1b}[2J"
    );
    let json = run(&socket, &["tail", "-n", "1", "-o", "json"]).stdout;
    assert!(json.contains("\"flag\":\"encoded-names\",\"flag_id\":\"E3\""), "{json}");
    let summary = run(&socket, &["tail", "--summary"]).stdout;
    assert!(summary.contains("names that were looked up look like a leak:\n  E3 encoded-names"), "{summary}");
    assert!(!run(&socket, &["tail", "--reason", "not-tls"]).stdout.contains("ALERT"));
}

#[test]
fn tail_shows_who_allowed_what_among_the_records() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test"), change(2)]);
    let tail = run(&socket, &["tail"]);
    let (_, line) = tail.stdout.lines().nth(1).unwrap().split_once("  ").unwrap();
    assert_eq!(
        line,
        "build  uid 0 (login 1000)  api.example.com     443   tls       GRANT 7 allowed   \
         3 uses, a look\\u{1b}[2J"
    );
    let json = run(&socket, &["tail", "-n", "1", "-o", "json"]).stdout;
    assert!(json.contains("\"change\":\"allowed\",\"grant\":7"), "{json}");
    let summary = run(&socket, &["tail", "--summary"]).stdout;
    assert!(
        summary
            .ends_with("\nor, for a time and a running agent: egressctl allow HOST --agent NAME --for 1h\n"),
        "{summary}"
    );
    let denied = run(&socket, &["explain", "evil.test", "--agent", "build"]).stdout;
    assert!(denied.ends_with("  for now    egressctl allow evil.test --agent build --for 1h\n"), "{denied}");
}

#[test]
fn allow_says_what_is_open_until_when_and_how_to_take_it_back() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let wish = ["allow", "*.api.example.com:8443", "--agent", "build", "--uses", "1", "--bytes", "10MB"];
    let allowed = run(&socket, &wish);
    assert_eq!((allowed.code, allowed.stderr.as_str()), (0, ""));
    let until = allowed.stdout.split_once(" until ").unwrap().1.split_once(", 1 use").unwrap().0.to_owned();
    assert_eq!(
        allowed.stdout.replace(&until, "WHEN"),
        "allowed: *.api.example.com:8443, tls, for agent `build` until WHEN, 1 use, 10000000 bytes (grant 7)\n  \
         note: `ok.test` is allowed already by build.yaml:5\\u{1b}[2J, which comes first\n  \
         take it back with: egressctl revoke 7\n"
    );
    let json = run(&socket, &["allow", "192.0.2.7:22", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["destination"], &json["protocol"]), (&"192.0.2.7/32".into(), &"tcp".into()));
    assert!(json["by"]["command"].as_str().unwrap().contains("allow 192.0.2.7:22"), "{json}");
    let wide = run(&socket, &["allow", "*.com"]);
    assert_eq!((wide.code, wide.stdout.as_str()), (2, ""));
    assert!(
        wide.stderr.contains("wildcard `*.com` is too wide") && wide.stderr.contains("help:"),
        "{wide:?}"
    );
    assert_eq!(run(&socket, &["allow", "a.test", "--agent", "nobody"]).code, 2);
    assert_eq!(run(&socket, &["allow", "a.test", "--uses", "0"]).code, 2);
}

#[test]
fn grants_are_a_table_or_json_and_are_revoked_by_number_or_by_agent() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let grants = run(&socket, &["grants"]);
    let (titles, row) = grants.stdout.split_once('\n').unwrap();
    assert_eq!(titles.split_whitespace().next(), Some("ID"));
    assert!(row.starts_with("7   build  api.example.com:443  tls       "), "{row}");
    assert!(row.contains("  1 of 3 uses, 10000000 bytes  uid 0 (login 1000) at "), "{row}");
    assert!(row.ends_with("a look at #12\\u{1b}[2J\n"), "{row}");
    let none = run(&socket, &["grants", "--agent", "job"]);
    assert_eq!(none.all(), (0, "nothing is allowed beside the policies\n", ""));
    assert!(run(&socket, &["grants", "-o", "json"]).stdout.starts_with("{\"id\":7,\"agent\":\"build\","));
    let revoked = run(&socket, &["revoke", "7"]);
    assert_eq!(revoked.all(), (0, "revoked grant 7: api.example.com:443, of agent `build`\n", ""));
    assert_eq!(run(&socket, &["revoke", "--all", "--agent", "build"]).code, 0);
    let none = run(&socket, &["revoke", "--all", "--agent", "job"]);
    assert_eq!(none.all(), (1, "there was nothing to take back\n", ""));
    assert_eq!(run(&socket, &["revoke", "8"]).all(), (1, "", "egressctl: there is no grant 8\n"));
    assert_eq!(run(&socket, &["revoke", "--all", "--agent", "nobody"]).code, 2);
    for wrong in [&["revoke"][..], &["revoke", "--all"], &["revoke", "7", "--all", "--agent", "build"]] {
        assert_eq!(run(&socket, wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn approvals_are_listed_approved_and_denied() {
    let (folder, socket) = socket();
    let _server = Server::start(&socket);
    let list = run(&socket, &["approvals"]);
    assert_eq!((list.code, list.stderr.as_str()), (0, ""));
    let row = list.stdout.lines().nth(1).unwrap();
    assert!(
        row.starts_with(
            "3-kxwb  build  curl, git  example.com  api.example.com cdn.example.com:443\\u{1b}[2J"
        ),
        "{row}"
    );
    assert!(row.contains("  4, 1 waiting  ") && row.ends_with("  build.yaml:6"), "{row}");
    assert_eq!(run(&socket, &["approvals", "list"]).stdout, list.stdout);
    assert!(
        run(&socket, &["approvals", "-o", "json"])
            .stdout
            .starts_with("{\"id\":\"3-kxwb\",\"agent\":\"build\",")
    );
    let once = run(&socket, &["approvals", "approve", "3-kxwb", "--once"]);
    assert!(
        once.code == 0 && once.stdout.starts_with("allowed: api.example.com:443, tls, for agent"),
        "{once:?}"
    );
    let always = run(&socket, &["approvals", "approve", "3-kxwb", "--always"]);
    let lines = "to keep it, add to `rules:` of the policy:\n  - host: api.example.com\n";
    assert!(always.stdout.ends_with(lines), "{always:?}");
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "version: 1\nagents:\n  default:\n    rules:\n      - host: a.test\n").unwrap();
    let patch = ["approvals", "approve", "3-kxwb", "--always", "--patch", policy.to_str().unwrap()];
    let patch = run(&socket, &patch);
    assert!(patch.stdout.contains("\n+      - host: api.example.com\n"), "{patch:?}");
    let denied = run(&socket, &["approvals", "deny", "3-kxwb"]);
    assert_eq!(denied.all(), (0, "denied request 3-kxwb, and the same for 1h\n", ""));
    assert_eq!(run(&socket, &["approvals", "deny", "4-kxwb"]).code, 2);
    let first = run(&socket, &["approvals", "approve", "3-frst"]);
    assert!(first.stdout.ends_with("since 3-frst was listed: 3-kxwb still waits\n"), "{first:?}");
    let bare = run(&socket, &["approvals", "approve", "3"]);
    assert!(
        bare.code == 2 && bare.stderr.contains("such as `3-kxwb`"),
        "what was listed is not said: {bare:?}"
    );
    for wrong in [
        &["approve", "3-kxwb", "--once", "--always"][..],
        &["approve", "3-kxwb", "--patch", "p"],
        &["approve"],
    ] {
        assert_eq!(run(&socket, &[&["approvals"], wrong].concat()).code, 2, "{wrong:?}");
    }
    let watch = run(&socket, &["approvals", "watch"]);
    assert!(watch.code == 2 && watch.stderr.contains("needs a terminal"), "{watch:?}");
}

#[test]
fn a_watch_asks_until_it_can_read_the_answer_and_does_what_it_says() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let watch = || Pty::start(program::command(&socket, &["approvals", "watch"]));
    let mut terminal = watch();
    let shown = terminal.shows(PROMPT);
    assert!(shown.contains("request 3-kxwb: agent `build` asks for example.com"), "{shown}");
    assert!(shown.contains("curl, git, as the agent calls them"), "{shown}");
    assert!(shown.contains("api.example.com cdn.example.com:443\\u{1b}[2J"), "{shown}");
    assert!(!shown.contains("\u{1b}[2J") && shown.contains("build.yaml:6"), "{shown:?}");
    for word in ["", "y", "yes", "x", "approve 3-kxwb"] {
        terminal.types(&format!("{word}\n"));
        assert!(!terminal.shows(PROMPT).contains("allowed"), "{word:?}");
    }
    for (word, told) in
        [("o", "allowed"), ("hour", "allowed"), ("d", "denied"), ("a", "- host: api.example.com")]
    {
        terminal.types(&format!("{word}\n"));
        let shown = terminal.shows(PROMPT);
        assert!(shown.contains(told), "{word}: {shown}");
    }
    terminal.types("q\n");
    assert_eq!(terminal.wait(), (Some(0), None));
    let mut left = watch();
    left.shows(PROMPT);
    // The end of the input.
    left.types("\u{4}");
    assert_eq!(left.wait(), (Some(0), None));
}

#[test]
fn a_watch_that_is_interrupted_leaves_its_terminal_as_it_was() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    for answers in [&[][..], &["s"]] {
        let mut terminal = Pty::start(program::command(&socket, &["approvals", "watch"]));
        let before = terminal.settings();
        for answer in answers {
            terminal.shows(PROMPT);
            terminal.types(&format!("{answer}\n"));
        }
        if answers.is_empty() {
            terminal.shows(PROMPT);
        }
        terminal.types("\u{3}");
        assert_eq!(terminal.wait(), (None, Some(Signal::SIGINT as i32)));
        assert_eq!(terminal.settings(), before);
    }
    let mut terminal = Pty::start(program::command(&socket, &["approvals", "watch"]));
    terminal.shows(PROMPT);
    drop(server);
    terminal.types("s\n");
    terminal.shows("no daemon answers at");
    assert_eq!(terminal.wait(), (Some(2), None));
}

const PROMPT: &str = "[q]uit? ";

#[test]
fn leaks_shows_each_ledger_as_a_bar_and_what_to_do_next() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let leaks = run(&socket, &["leaks"]);
    assert_eq!((leaks.code, leaks.stderr.as_str()), (0, ""));
    let at = leaks.stdout.split_once(" at ").unwrap().1.split_once(", freeze").unwrap().0.to_owned();
    assert_eq!(leaks.stdout.replace(&at, "WHEN"), LEAKS);
    let job = run(&socket, &["leaks", "--agent", "job"]).stdout;
    assert_eq!(job, "job\n  all wildcards  [----------]  0 of 16384 bits  2048/h back\n");
    let json = run(&socket, &["leaks", "--agent", "build", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["accounts"][0]["level"]["used_bits"], 4096);
    assert_eq!(run(&socket, &["leaks", "--agent", "nobody"]).code, 2);
}

const LEAKS: &str = "\
build  QUARANTINED: only names that rules spell out are looked up
  cdn.example     [#####-----]  4096 of 8192 bits   1024/h back  5 names this hour, 40 today  \
FROZEN to 36 names seen before, 3 refused
    E3 encoded-names at WHEN, freeze: Five names in an hour look encoded.
      5 names in 41 s, such as `nbswy3dp`\\u{1b}[2J
  s3.example.com  [#---------]  101 of 8192 bits    1024/h back  0 names this hour, 1 today
  all wildcards   [##--------]  4197 of 16384 bits  2048/h back
  denied, so that nothing left: 12 names of evil.test: they look like a tunnel
  if these names are what the agent is for:
    egressctl leaks approve build cdn.example
    egressctl leaks approve build
  a rule that spells a name out costs nothing, and is never held up
job
  all wildcards  [----------]  0 of 16384 bits  2048/h back
";

#[test]
fn budgets_shows_what_is_used_and_left_of_each_bound() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    assert_eq!(run(&socket, &["budgets"]).all(), (0, BUDGETS, ""));
    let json = run(&socket, &["budgets", "--agent", "build", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["budgets"][1]["bytes"]["left"], 1_000);
    assert_eq!(run(&socket, &["budgets", "--agent", "nobody"]).code, 2);
}

const BUDGETS: &str = "\
build
  all flows                    [#####-----]  52.4 MB of 100 MB                     47.6 MB left
  api.example    build.yaml:7  [#########-]  9.9 MB of 10 MB                       1 kB left
                               [##########]  100 of 100 connections                0 left
                                             100 connections so far, 10/s at most
  *.cdn.example  build.yaml:9                1.2 kB so far, ends in 50m
job
  nothing is bounded
";

#[test]
fn what_flags_did_is_lifted_by_agent_or_by_zone() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let by_zone = run(&socket, &["leaks", "approve", "build", "**.cdn.example"]);
    assert_eq!(by_zone.all(), (0, "approved `cdn.example` for `build`\n", ""));
    assert_eq!(run(&socket, &["leaks", "approve", "build"]).all(), (0, "approved `build`\n", ""));
    let json = run(&socket, &["leaks", "approve", "build", "-o", "json"]).stdout;
    assert_eq!(json, "{\"agent\":\"build\",\"zone\":null}\n");
    assert_eq!(run(&socket, &["leaks", "approve", "nobody"]).code, 2);
    assert_eq!(run(&socket, &["leaks", "approve", "build", "not a zone"]).code, 2);
}

#[test]
fn an_agent_that_nobody_knows_is_said_to_be_none() {
    let (folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test")]);
    for verb in [&["tail"][..], &["tail", "--summary"], &["suggest"]] {
        let asked = |agent| run(&socket, &[verb, &["--agent", agent]].concat());
        assert_eq!(asked("build").code, 0, "{verb:?}");
        assert_eq!(asked("job").code, 0, "it runs, and nothing was denied: {verb:?}");
        let nobody = asked("nobody");
        assert_eq!((nobody.code, nobody.stdout.as_str()), (2, ""));
        assert_eq!(
            nobody.stderr,
            "egressctl: no agent `nobody` runs, and no record is of one: there is build, job\n"
        );
    }
    let log = folder.path().join("audit.jsonl");
    let line = serde_json::to_string(&*denial(1, "a.test")).unwrap();
    std::fs::write(&log, format!("{line}\n")).unwrap();
    let log = log.to_str().unwrap();
    assert_eq!(run(&socket, &["suggest", "--log", log, "--agent", "build"]).code, 0);
    let nobody = run(&socket, &["suggest", "--log", log, "--agent", "nobody"]);
    assert!(
        nobody.code == 2 && nobody.stderr.ends_with("is of agent `nobody`: there is build\n"),
        "{nobody:?}"
    );
}

#[test]
fn a_policy_for_several_agents_is_run_as_none_of_them_until_one_is_chosen() {
    let (folder, socket) = socket();
    let policy = folder.path().join("p.yaml");
    std::fs::write(&policy, "version: 1\nagents:\n  build: {rules: []}\n  deploy: {rules: []}\n").unwrap();
    let refused = run(&socket, &["run", "--policy", policy.to_str().unwrap(), "--", "true"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (125, ""));
    assert!(refused.stderr.ends_with("choose one with --agent: build, deploy\n"), "{refused:?}");
}

#[test]
fn a_follower_outlives_the_daemon_and_tells_what_it_missed() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test")]);
    let mut text = Program::start(&socket, &["tail", "-f"]);
    let mut json = Program::start(&socket, &["tail", "-f", "-o", "json"]);
    assert!(text.line().contains("a.test") && json.line().contains("\"seq\":1,"));
    drop(server);
    assert_eq!(text.complaint(), "-- the daemon went away: waiting for it to come back --");
    let server = Server::start_with(&socket, Recovered { next_seq: 2, ..Recovered::default() }, |_| false);
    assert_eq!(text.complaint(), "-- the daemon is back --");
    server.feed.publish(&[denial(2, "b.test")]);
    assert!(text.line().contains("b.test") && json.line().contains("\"seq\":2,"));
}

#[test]
fn a_follower_that_comes_back_too_late_tells_how_many_it_missed() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    server.feed.publish(&[denial(1, "a.test")]);
    let mut text = Program::start(&socket, &["tail", "-f"]);
    let mut json = Program::start(&socket, &["tail", "-f", "-o", "json"]);
    assert!(text.line().contains("a.test") && json.line().contains("\"seq\":1,"));
    drop(server);
    let lines: Vec<_> = (2..=RING as u64 + 6).map(|seq| denial(seq, "a.test")).collect();
    let held = lines.iter().skip(5).map(|line| (**line).clone()).collect();
    let next_seq = RING as u64 + 7;
    let recovered = Recovered { lines: held, next_seq, ..Recovered::default() };
    let _server = Server::start_with(&socket, recovered, |_| false);
    assert_eq!(text.complaint(), "-- the daemon went away: waiting for it to come back --");
    assert_eq!(text.complaint(), "-- the daemon is back --");
    assert_eq!(text.complaint(), "-- missed 5 events --");
    assert_eq!(json.line(), "{\"v\":1,\"missed\":5}");
    // Before the server, which would wait for them to take what they do not read.
    drop((text, json));
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let (_folder, socket) = socket();
    let server = Server::start(&socket);
    let lines: Vec<_> = (1..=5000).map(|seq| denial(seq, "a.test")).collect();
    server.feed.publish(&lines);
    let mut program = Program::start(&socket, &["tail", "-n", "5000"]);
    program.line();
    program.close_stdout();
    assert_eq!((program.wait(), program.rest_of_stderr().as_str()), (0, ""));
}

#[test]
fn an_adoption_lists_what_it_did_and_what_it_does_not_cover() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let refused = run(&socket, &["adopt", "/sys/fs/cgroup/job"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("was left as it is") && refused.stderr.contains("\n  process 4243"));
    let adopted = run(&socket, &["adopt", "/sys/fs/cgroup/job", "--kill-sockets"]);
    assert_eq!((adopted.code, adopted.stderr.as_str()), (0, ""));
    assert_eq!(
        adopted.stdout,
        "adopted `job` (2): /sys/fs/cgroup/job\n  cut: process 4243 `curl\\u{1b}[2J`: descriptor 5, \
         tcp 10.0.0.1:4000 to 192.0.2.1:443, established\n  not covered: it may use io_uring\n"
    );
    let json = run(&socket, &["adopt", "/sys/fs/cgroup/job", "--kill-sockets", "-o", "json"]);
    assert!(json.stdout.contains("\"consent\":\"kill-sockets\""), "{json:?}");
    assert_eq!(run(&socket, &["adopt", "/a", "--refuse", "--kill-sockets"]).code, 2, "one or the other");
}

#[test]
fn a_release_says_what_it_means_before_it_is_done() {
    let (_folder, socket) = socket();
    let _server = Server::start(&socket);
    let refused = run(&socket, &["release", "job"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("3 process(es) of `job` would run on without a fence"), "{refused:?}");
    let released = run(&socket, &["release", "2", "--yes"]);
    assert_eq!(released.all(), (0, "released `job`: nothing judges its packets\n", ""));
    let started = run(&socket, &["release", "build", "--yes"]);
    assert!(started.code == 2 && started.stderr.contains("was started as an agent"), "{started:?}");
    assert!(run(&socket, &["release", "nobody"]).stderr.contains("there is no agent `nobody`"));
}

#[test]
fn completions_and_manual_pages_are_made_from_the_parser() {
    let (folder, socket) = socket();
    assert!(run(&socket, &["completions", "bash"]).stdout.contains("--since"));
    let man = run(&socket, &["man", folder.path().to_str().unwrap()]);
    assert_eq!(man.all(), (0, "", ""));
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(page("egressctl-tail.1").contains(".TH egressctl-tail 1"));
    let of_test = page("egressctl-policy-test.1");
    for part in [
        "[\\fIFILE\\fR]...\n",
        ".nf\n  version: 1\n  policy: build.yaml            # unless said,",
        ", reason: address\\-not\\-granted}]\n",
        "\n.fi\n.PP\nExit codes:\n",
        ".TP 4\n1\none does not\n.TP 4\n",
    ] {
        assert!(of_test.contains(part), "{part}\n{of_test}");
    }
    assert!(page("egressctl-suggest.1").contains("[\\fB\\-\\-agent\\fR\\ \\fINAME\\fR]\n"));
    let last =
        ".PP\n\\(garun\\(ga exits as the program does: see \\(gaegressctl run \\-\\-help\\(ga\n.SH VERSION\n";
    assert!(page("egressctl.1").contains(last), "{}", page("egressctl.1"));
}

fn socket() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control.sock");
    (folder, socket)
}
