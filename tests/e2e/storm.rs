//! Kills of the daemon at random moments, while an agent floods and its granted flows go on.

use crate::{
    fence::{Agent, Fence, Programs},
    frame::Frame,
    places::{DB, may_be_reached},
    program::{self, Program},
    sniffer::mark,
};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::ChildStdin,
    time::{Duration, Instant},
};

/// What an agent may do while the storm goes on; [`BEFORE`] is what it may do when it starts.
pub const POLICY: &str = "
version: 1
agents:
  default:
    rules:
      - {host: db.test, protocol: tcp, ports: [5432], private: true}
      - {host: db.test, protocol: udp, ports: [9000], private: true}
";

/// [`POLICY`] and a rule more. What is connected by it finds no hook in its way but the packet's
/// own, once the rule is gone.
pub const BEFORE: &str = "
version: 1
agents:
  default:
    rules:
      - {host: db.test, protocol: tcp, ports: [5432], private: true}
      - {host: db.test, protocol: udp, ports: [9000], private: true}
      - {host: alt.test, protocol: udp, ports: [9000], private: true}
";

/// What was done, and what came of it.
#[derive(Debug)]
pub struct Storm {
    /// How many of the daemons were killed before they answered.
    pub killed_early: usize,
    pub took: Duration,
    /// What the flood tried, in all.
    pub attempts: u64,
    /// The same by kind: attempts, and those that the kernel did not refuse.
    pub kinds: Value,
    /// How each granted flow fared: questions, lost ones, and how long answers took.
    pub flows: Value,
    /// The frames that should not have been.
    pub violations: Vec<Frame>,
}

impl Storm {
    /// Kills the daemon of `fence`, which was started with [`BEFORE`], `kills` times. The agent that
    /// floods is started with `flags` of `egressctl run`.
    ///
    /// # Panics
    /// When a daemon ends by itself, or the last one does not come up.
    pub fn rage(fence: &mut Fence, flags: &[&str], kills: usize) -> Self {
        let mark = mark();
        keep_only_what_matters(fence, &mark);
        let position = fence.lab().sniffer().position();
        let mut flood = Flood::start(&fence.agent(AGENT).with(flags), &mark);
        let reloaded = fence.reload(POLICY);
        assert!(reloaded.succeeded(), "{reloaded:#?}");
        flood.begin();
        let start = Instant::now();
        let killed_early = kill_again_and_again(fence, kills);
        let took = start.elapsed();
        let report = flood.end();
        let lab = fence.lab();
        lab.settle();
        let is_violation = |frame: &Frame| {
            let strays = frame.destination().is_some_and(|address| !may_be_reached(address));
            frame.carries(mark.as_bytes()) || (strays && !frame.is_neighbour_discovery())
        };
        Self {
            killed_early,
            took,
            attempts: report["attempts"].as_u64().unwrap_or_default(),
            kinds: report["kinds"].clone(),
            flows: report["flows"].clone(),
            violations: lab.sniffer().since(position).into_iter().filter(is_violation).collect(),
        }
    }

    /// Attempts of the flood, a second.
    pub fn rate(&self) -> f64 {
        self.attempts as f64 / self.took.as_secs_f64()
    }
}

/// A daemon of `programs` whose second deny judges nothing: its tables are there, but hang on no hook.
/// In `folder`, which has to last as long as the daemon does.
///
/// nft judges what leaves before the programs see the packet, so that with it a gap in theirs would
/// not be seen.
pub fn without_second_deny(programs: Programs, folder: &Path) -> Programs {
    let (egressd, nft) = (folder.join("egressd"), folder.join("nft"));
    let (here, real) = (folder.display(), programs.egressd.display());
    script(&egressd, &format!("PATH=\"{here}:$PATH\" exec \"{real}\" \"$@\""));
    script(
        &nft,
        "PATH=\"${PATH#*:}\"\n\
         [ \"$1\" = -f ] || exec nft \"$@\"\n\
         sed -e 's/{ type filter hook ingress.*}//' -e '/type .* hook /d' | nft -f -",
    );
    Programs { egressd, ..programs }
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("a script can be written");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it can be made a program");
}

/// Of the granted flows there would be millions of frames.
fn keep_only_what_matters(fence: &Fence, mark: &str) {
    let mark = mark.to_owned();
    fence.lab().sniffer().keep_only(move |frame| {
        let is_granted = frame.destination().is_some_and(|to| to == DB.v4 || to == DB.v6);
        !is_granted || frame.carries(mark.as_bytes())
    });
}

/// Returns how many daemons were killed before they answered. The last one lives.
fn kill_again_and_again(fence: &mut Fence, kills: usize) -> usize {
    let start = Instant::now();
    fence.kill();
    fence.restart();
    // From the first moments to some time after it is ready.
    let span = start.elapsed() + start.elapsed() / 2;
    let mut random = Random(u64::from(std::process::id()) | 1);
    let mut killed_early = 0;
    for number in 1..kills {
        fence.kill();
        fence.launch();
        let span = if number % 2 == 0 { span } else { FIRST_MOMENTS };
        std::thread::sleep(span.mul_f64(random.next()));
        let answers = UnixStream::connect(fence.socket()).is_ok();
        killed_early += usize::from(!answers);
        let daemon = fence.daemon_mut();
        assert!(!daemon.has_ended(), "daemon {number} ended by itself: {}", daemon.stderr());
    }
    fence.kill();
    fence.restart();
    killed_early
}

/// An agent that runs `flood.py`.
struct Flood {
    program: Program,
}

impl Flood {
    /// Returns when its granted flows are open.
    fn start(agent: &Agent, mark: &str) -> Self {
        let mut flood = Self { program: agent.spawn(&["/usr/bin/python3", FLOOD, mark, SENDERS]) };
        flood.wait_for("open");
        flood
    }

    /// Returns when it floods.
    fn begin(&mut self) {
        self.stdin().write_all(b"go\n").expect("the agent reads");
        self.wait_for("flooding");
    }

    /// Ends it, and returns its report.
    fn end(mut self) -> Value {
        self.program.close_stdin();
        program::poll("the end of the flood", || self.program.has_ended().then_some(()));
        let text = self.program.stdout();
        let report = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        report.unwrap_or_else(|| panic!("the flood makes no report: {text}{}", self.program.stderr()))
    }

    fn stdin(&mut self) -> &mut ChildStdin {
        self.program.stdin()
    }

    fn wait_for(&mut self, word: &str) {
        program::poll(&format!("`{word}` of the flood"), || {
            assert!(!self.program.has_ended(), "the flood ended: {}", self.program.stderr());
            self.program.stdout().lines().any(|line| line == word).then_some(())
        });
    }
}

const FLOOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/flood.py");

const AGENT: &str = "flooder";

/// Every other daemon does not live to load its programs.
const FIRST_MOMENTS: Duration = Duration::from_millis(30);

/// Marsaglia's xorshift64: good enough to choose a moment.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Processes that flood: one sends some 100,000 a second. The granted flows have processes of their
/// own, and the daemon needs its share, too.
const SENDERS: &str = "1";
