//! Rules with `inspect: true`, with programs as people run them.

use crate::{
    AGENT,
    fence::Fence,
    lab::Lab,
    places::OK,
    program::{Program, poll},
    programs,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{fs, path::Path, process::Command};

#[test]
fn programs_fetch_what_is_allowed_with_a_credential_that_they_do_not_have() {
    let world = World::new();
    for mode in ["sealed", "cgroup"] {
        for fetch in [
            "curl -sS -m 10 --http1.1 -d x=1 https://ok.test:8443/hello/{mark}",
            "curl -sS -m 10 --http2 https://ok.test:8443/hello/{mark}",
            "curl -sS -m 10 -H 'Authorization: mine' https://ok.test:8443/hello/{mark}",
            "/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"https://ok.test:8443/hello/{mark}\").read())'",
            "openssl s_client -quiet -verify_return_error -connect ok.test:8443 -servername ok.test \
             <<< $'GET /hello/{mark} HTTP/1.0\\r\\nHost: ok.test:8443\\r\\n\\r\\n'",
        ] {
            let mark = world.mark();
            let script = fetch.replace("{mark}", &mark);
            let outcome = world.agent(&["--mode", mode]).run(&script);
            assert!(outcome.says("hello from ok.test"), "{mode}: {script}: {outcome:#?}");
            let seen = world.seen(&mark);
            assert!(seen.contains(&format!("auth=Bearer {TOKEN} ")), "{script}: {seen}");
        }
        let token = world.fence.lab().folder().join("token");
        // Init was forked off the launcher, and has what that was told in its memory.
        let init = "cat /proc/1/environ && echo READ; head -c 1 /proc/1/maps && echo READ; ls -l /proc/1/fd && echo READ";
        let search = format!("env; ls -R /run; cat {}; {init}", token.display());
        let found = world.agent(&["--mode", mode]).run(&search);
        assert!(!found.says(TOKEN) && !found.says("READ"), "{found:#?}");
    }
}

#[test]
fn both_versions_of_http_reach_the_server_as_they_are() {
    let world = World::new();
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        let mark = world.mark();
        world.agent(&[]).run(&format!("curl -sS -m 10 {flag} https://ok.test:8443/hello/{mark}"));
        assert!(world.seen(&mark).starts_with(version), "{}", world.seen(&mark));
    }
}

#[test]
fn a_repository_is_cloned_through_inspection() {
    let world = World::new();
    let clone = "cd $(mktemp -d) && git clone -q https://ok.test:8443/repo.git clone && cat clone/file";
    let outcome = world.agent(&[]).run(clone);
    assert_eq!(outcome.stdout, "content\n", "{outcome:#?}");
}

#[test]
fn what_is_not_allowed_is_answered_with_why_and_never_reaches_the_server() {
    let world = World::new();
    let mark = world.mark();
    for request in [
        format!("https://ok.test:8443/admin/{mark}"),
        format!("-X DELETE https://ok.test:8443/hello/{mark}"),
        format!("--path-as-is https://ok.test:8443/hello/../admin/{mark}"),
        format!("-H 'Host: evil.test' https://ok.test:8443/hello/{mark}"),
        format!("-X TRACE https://ok.test:8443/hello/{mark}"),
        format!("-d '{}' https://ok.test:8443/hello/{mark}", "x".repeat(2_000)),
    ] {
        for flag in ["--http1.1", "--http2"] {
            let outcome = world.agent(&[]).run(&format!("curl -sS -m 10 {flag} {request}"));
            assert!(outcome.says("egressd denied this request"), "{request}: {outcome:#?}");
        }
    }
    let record = world.denial("request-not-allowed");
    assert_eq!(
        (&record["path"], &record["gate"]),
        (&"inspection".into(), &"server-name".into()),
        "{record:#}"
    );
    assert!(record["detail"].as_str().is_some_and(|detail| detail.starts_with("GET /admin/")), "{record:#}");
    assert!(!world.log().contains(&mark), "{}", world.log());
}

#[test]
fn a_program_that_believes_only_its_own_authorities_fails_with_a_record() {
    let world = World::new();
    let own = world.fence.lab().folder().join("authority.pem");
    let fetch = format!("curl -sS -m 10 --cacert {} https://ok.test:8443/hello/pinned", own.display());
    let outcome = world.agent(&[]).run(&fetch);
    assert_eq!(outcome.code, 60, "curl should not believe the certificate: {outcome:#?}");
    world.denial("inspection-refused");
    assert!(!world.log().contains("pinned"));
}

#[test]
fn an_agent_cannot_write_whom_it_believes_and_nobody_else_believes_us() {
    let world = World::new();
    let place = "/etc/ssl/certs/ca-certificates.crt";
    let outcome = world.agent(&["--mode", "cgroup"]).run(&format!("cat {place}; echo evil >> {place}"));
    assert!(!outcome.succeeded(), "{outcome:#?}");
    let ours = fs::read_to_string(world.fence.lab().folder().join("run/authorities.pem")).unwrap();
    assert_eq!(outcome.stdout, ours);
    assert_ne!(fs::read_to_string(place).unwrap(), ours, "the host's own file is as it was");
    world.fence.reload(WITHOUT);
    let outcome = world.agent(&[]).run(&format!("cat {place}; echo $GIT_SSL_CAINFO"));
    assert!(outcome.stdout != ours && outcome.stdout.ends_with("\n\n"), "nothing of it is inspected");
}

#[test]
fn an_agent_that_lives_over_a_restart_believes_the_next_authority() {
    let mut world = World::new();
    let script = "while read -r mark; do curl -sS -m 10 https://ok.test:8443/hello/$mark; done";
    let mut program = world.agent(&[]).spawn(&["bash", "-c", script]);
    let mut fetch = |world: &World, answers: usize| {
        use std::io::Write;
        writeln!(program.stdin(), "{}", world.mark()).unwrap();
        let is_answered = || program.stdout().matches("hello from ok.test").count() == answers;
        poll("the answer", || is_answered().then_some(()));
    };
    fetch(&world, 1);
    world.fence.kill();
    world.fence.restart();
    fetch(&world, 2);
}

#[test]
fn a_flow_that_began_by_another_name_does_not_become_one_that_is_inspected() {
    let fence = crate::fence(SHARED_ADDRESS);
    // The kernel lets it begin straight, by a name at this address that nobody inspects.
    let begin = "import socket, ssl; flow = socket.create_connection(('ok2.test', 443), 5); ";
    let go_on = |name: &str| {
        format!(
            "socket.getaddrinfo('{name}', 443); context = ssl._create_unverified_context(); \
             flow = context.wrap_socket(flow, server_hostname='{name}'); \
             flow.sendall(b'GET / HTTP/1.0\\r\\nHost: {name}\\r\\n\\r\\n'); print(flow.recv(4096))"
        )
    };
    for (name, is_let) in [("ok2.test", true), ("evil2.test", false)] {
        let script = format!("/usr/bin/python3 -c \"{begin}{}\"", go_on(name));
        let outcome = fence.agent(AGENT).with(&["--mode", "cgroup"]).run(&script);
        assert_eq!(outcome.says("hello from"), is_let, "{name}: {outcome:#?}");
    }
}

/// A server that is inspected.
struct World {
    fence: Fence,
    server: Program,
}

impl World {
    fn new() -> Self {
        let lab = Lab::new();
        let folder = lab.folder().to_owned();
        make_repository(&folder);
        fs::write(folder.join("inspect.conf"), SERVER).expect("the configuration can be written");
        let mut command = lab.inet_command("nginx");
        command.arg("-p").arg(&folder).args(["-c", "inspect.conf", "-e", "inspect.log"]);
        let server = Program::start(command);
        fs::write(folder.join("token"), TOKEN).expect("the token can be written");
        let config = folder.join("egressd.yaml");
        let text = format!(
            "version: 1\ninspection_ca: {ca}\ncredentials: {{forge: {{file: {token}, format: \"Bearer {{}}\"}}}}\n",
            ca = folder.join("authority.pem").display(),
            token = folder.join("token").display()
        );
        fs::write(&config, text).expect("the configuration can be written");
        // As long as the process of the tests lives: some 100 octets for each scenario.
        let flags = vec!["--config", &*config.display().to_string().leak()].leak();
        let listens = std::net::SocketAddr::new(OK.v4.into(), 8443);
        poll("the server", || lab.on_inet(|| std::net::TcpStream::connect(listens).ok()));
        let fence = Fence::start_with(lab, programs(), POLICY, flags);
        Self { fence, server }
    }

    fn agent<'a>(&'a self, flags: &'a [&'a str]) -> crate::fence::Agent<'a> {
        self.fence.agent(AGENT).with(flags)
    }

    fn mark(&self) -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        format!("m{}x{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// The line of the server's log about the request with this mark.
    fn seen(&self, mark: &str) -> String {
        poll("the line of the log", || self.log().lines().find(|line| line.contains(mark)).map(str::to_owned))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.fence.lab().folder().join("seen.log")).unwrap_or_default()
    }

    fn denial(&self, reason: &str) -> Value {
        self.fence.agent(AGENT).denial(reason, |record| record["reason"] == reason)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, but not when it is killed.
        self.server.signal(Signal::SIGTERM);
        poll("the end of the server", || self.server.has_ended().then_some(()));
    }
}

/// What the server says of each request, and where its files are.
const SERVER: &str = "
daemon off; user root; worker_processes 1; pid inspect.pid; error_log inspect.log;
events { worker_connections 64; }
http {
  log_format seen '$server_protocol $request_method $request_uri auth=$http_authorization end';
  access_log seen.log seen;
  client_body_temp_path i1; proxy_temp_path i2; fastcgi_temp_path i3; uwsgi_temp_path i4; scgi_temp_path i5;
  server {
    server_name ok.test;
    listen 10.99.0.10:8443 ssl http2; listen [fd99::10]:8443 ssl http2;
    ssl_certificate ok.test.pem; ssl_certificate_key key.pem;
    root www;
    location /hello/ { return 200 'hello from $host\\n'; }
    location /admin/ { return 200 'hello from $host\\n'; }
  }
}
";

const POLICY: &str = "
version: 1
agents:
  default:
    rules:
      - host: ok.test
        ports: [8443]
        private: true
        inspect: true
        allow: [GET /hello/**, POST /hello/**, GET /repo.git/**]
        max_body: 1kB
        inject: {header: Authorization, from: forge}
";

const WITHOUT: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, ports: [8443], private: true}
";

const SHARED_ADDRESS: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok2.test, private: true}
      - {host: evil2.test, private: true, inspect: true, allow: [GET /nothing]}
";

const TOKEN: &str = "token-that-no-agent-has";

fn make_repository(folder: &Path) {
    let script = "set -e; mkdir www; git init -q work; cd work; echo content > file; git add file
                  git -c user.name=a -c user.email=a@b commit -qm first; cd ..
                  git clone -q --bare work www/repo.git; cd www/repo.git; git update-server-info";
    let status = Command::new("bash").args(["-c", script]).current_dir(folder).status();
    assert!(status.is_ok_and(|status| status.success()), "a repository can be made");
}
