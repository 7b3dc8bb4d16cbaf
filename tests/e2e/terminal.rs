//! The terminal that an agent shares with the shell that started it.

use crate::{
    AGENT,
    attack::TRICKS,
    fence,
    lab::Lab,
    policies::EMPTY,
    program::{self, Outcome},
    sniffer::mark,
};
use std::{
    fs,
    process::{Command, Stdio},
};

#[test]
fn an_agent_types_nothing_into_its_terminal() {
    let fence = fence(EMPTY);
    for trick in ["type_keys", "type_keys_wide"] {
        let mark = mark();
        let words = ["/usr/bin/python3", TRICKS, trick, &mark];
        let fenced = on_a_terminal(fence.lab(), &fence.agent(AGENT).command(&words));
        assert!(!was_typed(&fenced, &mark), "`{trick}` typed for the shell: {fenced:#?}");
        assert!(fenced.says("Operation not permitted"), "`{trick}` was not refused: {fenced:#?}");
        // Kernels can be told to keep everybody from it.
        if fs::read_to_string(LEGACY_TIOCSTI).is_ok_and(|value| value.trim() == "0") {
            println!("`{trick}` has no twin: dev.tty.legacy_tiocsti is 0");
            continue;
        }
        let unfenced = on_a_terminal(fence.lab(), &fence.lab().command(&words));
        assert!(was_typed(&unfenced, &mark), "`{trick}` proves nothing: {unfenced:#?}");
    }
}

#[test]
fn an_agent_pastes_nothing_into_its_console() {
    let fence = fence(EMPTY);
    let words = ["/usr/bin/python3", TRICKS, "paste"];
    let fenced = on_a_terminal(fence.lab(), &fence.agent(AGENT).command(&words));
    assert!(fenced.says("status:0"), "the kernel was asked to paste: {fenced:#?}");
    let unfenced = on_a_terminal(fence.lab(), &fence.lab().command(&words));
    assert!(unfenced.says("the kernel itself was asked"), "this proves nothing: {unfenced:#?}");
}

#[test]
fn an_agent_keeps_the_terminal_that_it_was_started_on() {
    let fence = fence(EMPTY);
    let words = ["bash", "-c", "test -t 0 && stty size"];
    let outcome = on_a_terminal(fence.lab(), &fence.agent(AGENT).command(&words));
    assert!(outcome.says("status:0"), "{outcome:#?}");
}

/// Runs `command` in a shell on a terminal of its own, which then says the status and the line
/// that it finds typed.
fn on_a_terminal(lab: &Lab, command: &Command) -> Outcome {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().expect("arguments are UTF-8")).collect();
    let terminal = "import pty, sys; pty.spawn(sys.argv[1:])";
    let shell = r#""$@"; echo "status:$?"; IFS= read -r -t 1 line; echo "typed:$line""#;
    let outer = ["/usr/bin/python3", "-c", terminal, "bash", "-c", shell, "shell"];
    let mut command = lab.command(&[&outer[..], &words].concat());
    command.stdin(Stdio::null());
    program::run(command)
}

fn was_typed(outcome: &Outcome, line: &str) -> bool {
    outcome.says(&format!("typed:{line}"))
}

/// Whether a program may type into the terminal that controls it (Linux 6.2); 0 forbids it.
const LEGACY_TIOCSTI: &str = "/proc/sys/dev/tty/legacy_tiocsti";
