//! What something else than egressd started: a cgroup, and processes in it that have no privileges.

use crate::{
    fence::Fence,
    program::{self, Outcome, Program},
    talker::Talker,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

/// A cgroup that bears the name of its lab, and goes with it if not before.
pub struct Job {
    path: PathBuf,
    name: String,
}

impl Job {
    pub fn new(fence: &Fence) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-job{}", fence.lab().name(), COUNTER.fetch_add(1, Ordering::Relaxed));
        Self::at(hierarchy().join(&name))
    }

    /// A cgroup below this one.
    pub fn below(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As the agent will be called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `egressctl adopt` of this cgroup.
    pub fn adopt(&self, fence: &Fence, flags: &[&str]) -> Outcome {
        let path = self.path.to_str().expect("the path is UTF-8");
        fence.ctl(&[&["adopt", path], flags].concat())
    }

    /// One that does tricks in this cgroup, after what `first` says.
    pub fn talker(&self, fence: &Fence, first: &str) -> Talker {
        talker(fence, &format!("{}; {first}{AS_NOBODY}", self.join()))
    }

    /// One in a network namespace of its own, as in a container, behind the host by a link.
    pub fn contained_talker(&self, fence: &Fence) -> Talker {
        let talker =
            talker(fence, &format!("{}; exec unshare --net bash -c '{AS_NOBODY}' bash \"$@\"", self.join()));
        let link = format!(
            "set -e; job=$(ip netns attach {name} {pid}; echo {name}); trap 'ip netns del {name}' EXIT
             ip link add job type veth peer name eth0 netns {name}
             ip address add 10.98.0.1/24 dev job; ip link set job up
             echo 1 > /proc/sys/net/ipv4/ip_forward
             ip -n {name} link set lo up; ip -n {name} link set eth0 up
             ip -n {name} address add 10.98.0.2/24 dev eth0; ip -n {name} route add default via 10.98.0.1",
            name = self.name,
            pid = talker.pid(),
        );
        let linked = fence.lab().run(&link);
        assert!(linked.succeeded(), "{linked:#?}");
        talker
    }

    /// One that does what `first` says before it comes into this cgroup.
    pub fn smuggler(&self, fence: &Fence, first: &str) -> Talker {
        talker(fence, &format!("{first}; {}; {AS_NOBODY}", self.join()))
    }

    /// One that has every privilege.
    pub fn privileged_talker(&self, fence: &Fence) -> Talker {
        talker(fence, &format!("{}; exec \"$@\"", self.join()))
    }

    /// Runs a shell script in this cgroup, with every privilege.
    pub fn run_privileged(&self, fence: &Fence, script: &str) -> Outcome {
        fence.lab().run(&format!("{}; {script}", self.join()))
    }

    /// One that takes along what `holder.py` calls `way`.
    pub fn holder(&self, fence: &Fence, way: &str) -> Program {
        let path = self.path.to_str().expect("the path is UTF-8");
        let mut command = fence.lab().command(&["/usr/bin/python3", HOLDER, way, path]);
        command.stdin(Stdio::piped());
        let mut holder = Program::start(command);
        program::poll("the holder", || {
            assert!(!holder.has_ended(), "{way}: {}", holder.stderr());
            holder.stdout().contains("ready").then_some(())
        });
        holder
    }

    pub fn freeze(&self) {
        fs::write(self.path.join("cgroup.freeze"), "1").expect("the cgroup can be frozen");
        program::poll("the standstill", || self.events().contains("frozen 1").then_some(()));
    }

    pub fn is_populated(&self) -> bool {
        !self.events().contains("populated 0")
    }

    pub fn remove(&self) {
        fs::remove_dir(&self.path).expect("the cgroup is empty");
    }

    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a cgroup can be made");
        let name = path.file_name().and_then(|name| name.to_str()).expect("the path is UTF-8").to_owned();
        Self { path, name }
    }

    fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.path.display())
    }

    fn events(&self) -> String {
        fs::read_to_string(self.path.join("cgroup.events")).expect("the cgroup is there")
    }
}

fn talker(fence: &Fence, script: &str) -> Talker {
    let arguments = [&["bash", "-c", script, "bash"][..], &Talker::COMMAND].concat();
    let mut command = fence.lab().command(&arguments);
    command.stdin(Stdio::piped());
    let mut talker = Talker::of(Program::start(command));
    // So that it is where it belongs when this returns.
    talker.does("nothing");
    talker
}

/// Where the cgroup2 hierarchy is mounted (proc(5), mounts).
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts can be read");
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.find(|line| line.get(2) == Some(&"cgroup2")).map(|line| line[1].into()).expect("cgroup2 is mounted")
}

/// As what is not root would run.
const AS_NOBODY: &str =
    "exec setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --no-new-privs -- \"$@\"";

const HOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/holder.py");
