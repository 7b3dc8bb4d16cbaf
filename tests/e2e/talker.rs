//! An agent that lives on, and does one trick at a time when it is told to.

use crate::{
    attack::TRICKS,
    fence::Agent,
    program::{self, Program},
};
use std::io::Write;

/// `tricks.py serve`, as an agent.
pub struct Talker {
    program: Program,
    answers: usize,
}

impl Talker {
    pub fn start(agent: &Agent) -> Self {
        Self::of(agent.spawn(&Self::COMMAND))
    }

    /// One that was started by other means, with a pipe as its input.
    pub fn of(program: Program) -> Self {
        Self { program, answers: 0 }
    }

    pub const COMMAND: [&str; 3] = ["/usr/bin/python3", TRICKS, "serve"];

    /// Has it do a trick, and waits for `ok` or `error: ...`.
    pub fn tell(&mut self, trick: &str) -> String {
        writeln!(self.program.stdin(), "{trick}").expect("the agent reads");
        self.answers += 1;
        let answers = self.answers;
        program::poll(&format!("the agent's answer to `{trick}`"), || {
            let text = self.program.stdout();
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            assert!(!self.program.has_ended(), "the agent ended: {text}{}", self.program.stderr());
            whole.lines().nth(answers - 1).map(str::to_owned)
        })
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        self.program.pid()
    }

    /// Has it end, and waits for that.
    pub fn end(mut self) {
        self.program.close_stdin();
        self.ends();
    }

    /// Waits for its end.
    pub fn ends(&mut self) {
        program::poll("the end of the talker", || self.program.has_ended().then_some(()));
    }

    /// Has it do a trick that should work.
    pub fn does(&mut self, trick: &str) {
        let answer = self.tell(trick);
        assert_eq!(answer, "ok", "`{trick}` should work; {}", self.program.stderr());
    }

    /// Has it do a trick that should fail.
    pub fn fails(&mut self, trick: &str) {
        assert_ne!(self.tell(trick), "ok", "`{trick}` should fail");
    }
}
