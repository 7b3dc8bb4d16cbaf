//! Who is measured, at what.

use super::{PORT, SINK, empty, filters::Filter, pump::Act};
use crate::{
    fence::Fence,
    lab::Lab,
    program::{self, Program},
    traces,
};
use clap::ValueEnum;
use egressd::datapath::{Cgroup, Hierarchy};
use serde_json::Value;
use std::{cell::RefCell, io::Write, net::SocketAddr, os::fd::OwnedFd, process::Stdio};

/// A host without egressd, with two cgroups: one for what filters judge, and one with an empty program.
pub struct Bare {
    filtered: Cgroup,
    empty: Cgroup,
    _program: OwnedFd,
    lab: Lab,
}

impl Bare {
    pub fn new(lab: Lab) -> Self {
        let hierarchy = Hierarchy::find().expect("cgroup2 is mounted");
        let cgroup =
            |name: &str| hierarchy.create(&format!("{}-{name}", lab.name())).expect("a cgroup can be made");
        let (filtered, empty) = (cgroup("filtered"), cgroup("empty"));
        let folder = empty.file().expect("the cgroup can be opened");
        let program = empty::attach(&folder).expect("the kernel takes an empty program");
        Self { filtered, empty, _program: program, lab }
    }

    /// The cgroup that filters judge, as nft names it: by its path below where cgroups are usually mounted.
    fn path(&self) -> String {
        let path = self.filtered.path();
        path.strip_prefix("/sys/fs/cgroup").unwrap_or(path).to_string_lossy().into_owned()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        traces::remove(self.lab.name());
    }
}

/// Where an act is done.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    Bare(&'a Bare, Option<Filter>),
    Empty(&'a Bare),
    /// On a fenced host, and no agent.
    Beside(&'a Fence),
    Agent(&'a Fence, &'static str),
}

/// A pump that waits for its next burst.
pub struct Line<'a> {
    pub case: &'static str,
    pub subject: &'static str,
    place: Place<'a>,
    pump: RefCell<Program>,
}

impl<'a> Line<'a> {
    pub fn start(case: &'static str, subject: &'static str, place: Place<'a>, act: Act, v6: bool) -> Self {
        let to =
            if v6 { SocketAddr::new(SINK.v6.into(), PORT) } else { SocketAddr::new(SINK.v4.into(), PORT) };
        let program = std::env::current_exe().expect("this program has a path").display().to_string();
        let act = act.to_possible_value().expect("every act has a name").get_name().to_owned();
        let to = to.to_string();
        let pump = [program.as_str(), "pump", &act, "--to", &to, "--name", SINK.name];
        let mut command = match place {
            Place::Bare(bare, _) => bare.lab.command(&within(&bare.filtered, &pump)),
            Place::Empty(bare) => bare.lab.command(&within(&bare.empty, &pump)),
            Place::Beside(fence) => fence.lab().command(&pump),
            Place::Agent(fence, agent) => {
                // Of networks, no name is granted.
                let flags = if agent == "networks" { 5 } else { 7 };
                fence.agent(agent).with(&["--mode", "cgroup"]).command(&pump[..flags])
            }
        };
        command.stdin(Stdio::piped());
        let line = Self { case, subject, place, pump: RefCell::new(Program::start(command)) };
        line.said(0);
        line
    }

    /// Nanoseconds of one act, in a burst of so many seconds; and how many acts that were.
    pub fn burst(&self, seconds: f64) -> (f64, f64) {
        if let Place::Bare(bare, Some(filter)) = self.place {
            filter.enter_into_force(&bare.lab, &bare.path());
        }
        let before = self.pump.borrow().stdout().lines().count();
        let line = format!("{seconds}\n");
        self.pump.borrow_mut().stdin().write_all(line.as_bytes()).expect("a pump reads");
        let said = self.said(before);
        if let Place::Bare(bare, Some(filter)) = self.place {
            filter.leave(&bare.lab);
        }
        let number = |what: &str| said[what].as_f64().unwrap_or(f64::NAN);
        (number("nanoseconds"), number("acts"))
    }

    /// Whether it is an agent of `fence`.
    pub fn is_of(&self, fence: &Fence) -> bool {
        matches!(self.place, Place::Agent(own, _) if std::ptr::eq(own, fence))
    }

    /// What the pump says in a line of its output.
    fn said(&self, number: usize) -> Value {
        let said = || {
            let mut pump = self.pump.borrow_mut();
            assert!(!pump.has_ended(), "{}, {}: {}{}", self.case, self.subject, pump.stdout(), pump.stderr());
            let output = pump.stdout();
            output.lines().nth(number).and_then(|line| serde_json::from_str(line).ok())
        };
        program::poll("a word of a pump", said)
    }
}

/// The command, run by a shell that enters the cgroup first.
fn within<'a>(cgroup: &Cgroup, command: &[&'a str]) -> Vec<&'a str> {
    // Kept for as long as the program runs, as the words of its commands are.
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", cgroup.path().display());
    [&["sh", "-c", String::leak(script)], command].concat()
}
