//! The server-name gate: nothing leaves a flow before the kernel has read a name that earned its address.
//!
//! A denied flow is judged by four things: no octet of it is on the wire, its program hears of it at once,
//! the record says who asked for which name and why it is denied, and the same trick leaks without the fence.

mod around;
mod clients;
mod life;
mod names;
mod retry;
pub mod server;
mod ways;
mod writes;

use crate::{
    attack::{self, script},
    fence::{Agent, Fence, Programs},
    lab::Lab,
    places::{OK, Place},
    program::{Outcome, poll_for},
    sniffer::mark,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use server::{Manner, Server};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A policy of flows that speak TLS to the lab's servers, by the way that `gate` says; see docs/policy.md.
fn policy(gate: &str) -> String {
    let ports = "ports: [443, 4430, 4431, 4432, 4433]";
    let rule = |host: &str| format!("      - {{host: '{host}', {ports}, private: true, gate: {gate}}}\n");
    let rules = ["ok.test", "*.ok.test", "ok2.test", "alt.test"].map(rule).concat();
    format!(
        "version: 1\nagents:\n  default:\n    rules:\n{rules}\
         \x20     - {{cidr: 10.99.0.10/32, protocol: tcp, ports: [9000]}}\n\
         \x20     - {{cidr: 'fd99::10/128', protocol: tcp, ports: [9000]}}\n"
    )
}

/// A fence in which the kernel reads server names, or whatever way `gate` says.
fn gated(gate: &str) -> Fence {
    crate::fence(&policy(gate))
}

/// How a flow that is denied fares.
#[derive(Debug, Clone, Copy)]
struct Denied<'a> {
    /// See `attack`; it uses `gate.py`.
    trick: &'a str,
    reason: &'a str,
    /// What the record calls the name that was asked for, with `{mark}`; "" where none was read.
    name: &'a str,
}

/// Tries `denied` by `agent`, whose name must be its own.
///
/// # Panics
/// When an octet leaves to `port`, when nobody hears of the denial, when no record tells of it, or when
/// the same trick puts nothing on the wire without the fence.
fn denies(agent: &Agent, path: &str, port: u16, denied: Denied) {
    let (lab, mark) = (agent.fence().lab(), mark());
    let position = lab.sniffer().position();
    let outcome = agent.run(&script(denied.trick, OK, &mark));
    lab.settle();
    assert_eq!(said(lab, position, port), "", "`{}` leaked with {outcome:#?}", denied.trick);
    heard_in_time(denied.trick, &outcome);
    let record = agent.denial(denied.trick, |record| record["gate"] == "server-name");
    assert_eq!(record["reason"], denied.reason, "`{}`: {record:#}", denied.trick);
    assert_eq!(record["path"], path, "`{}`: {record:#}", denied.trick);
    assert_eq!(record["destination"]["port"], port, "`{}`: {record:#}", denied.trick);
    assert!(record["process"].to_string().contains("python"), "`{}`: {record:#}", denied.trick);
    let name = match denied.name.replace("{mark}", &mark) {
        empty if empty.is_empty() => Value::Null,
        name => Value::String(name),
    };
    assert_eq!(record["destination"]["name"], name, "`{}`: {record:#}", denied.trick);
    leaks(lab, port, denied.trick);
}

/// Without a fence the trick puts octets on the wire.
fn leaks(lab: &Lab, port: u16, trick: &str) {
    let (mark, position) = (mark(), lab.sniffer().position());
    let outcome = lab.run(&script(trick, OK, &mark));
    let leaked = poll_for(Duration::from_secs(2), || (!said(lab, position, port).is_empty()).then_some(()));
    assert!(leaked.is_some(), "`{trick}` proves nothing: unfenced it says nothing, {outcome:#?}");
}

/// No octet of the mark, nor of a denied name, leaves by any of `tricks`; without the fence they do.
fn stops(agent: &Agent, tricks: &[&str]) {
    for trick in tricks {
        let (lab, mark) = (agent.fence().lab(), mark());
        let position = lab.sniffer().position();
        let outcome = agent.run(&script(trick, OK, &mark));
        lab.settle();
        assert!(!shows(lab, position, &mark), "`{trick}` leaked with {outcome:#?}");
    }
    // All fenced ones first: a kernel may send on what belongs to a flow that was not fenced.
    for trick in tricks {
        // Some race with the other side: one that leaks once is one that leaks.
        let leaked = (0..TWIN_TRIES).any(|_| leaks_mark(agent.fence().lab(), trick));
        assert!(leaked, "`{trick}` proves nothing: unfenced it does not leak");
    }
}

fn leaks_mark(lab: &Lab, trick: &str) -> bool {
    let (mark, position) = (mark(), lab.sniffer().position());
    lab.run(&script(trick, OK, &mark));
    poll_for(Duration::from_secs(2), || shows(lab, position, &mark).then_some(())).is_some()
}

const TWIN_TRIES: usize = 3;

/// Each of `tricks` succeeds in the fence.
fn works(agent: &Agent, place: Place, tricks: &[&str]) {
    attack::works(agent, place, tricks);
}

/// What was sent to `port` of anyone since `position`, escaped, for whoever reads of a failure.
fn said(lab: &Lab, position: usize, port: u16) -> String {
    let frames = lab.sniffer().since(position);
    let octets = frames.iter().filter_map(|frame| frame.payload(port)).flatten();
    octets.copied().flat_map(std::ascii::escape_default).map(char::from).collect()
}

/// Whether a frame since `position`, or what was sent again, carries the mark.
fn shows(lab: &Lab, position: usize, mark: &str) -> bool {
    let frames = lab.sniffer().since(position);
    let whole = crate::frame::reassemble(frames.clone());
    frames.iter().chain(&whole).any(|frame| frame.carries(mark.as_bytes()))
}

/// What `gate.py` says that it heard, within the time that it waits.
///
/// # Panics
/// When it heard nothing, or an answer.
fn heard_in_time(trick: &str, outcome: &Outcome) {
    let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("heard "));
    let what = line.and_then(|line| line.split(' ').next()).unwrap_or("nothing");
    assert!(!["nothing", "answer"].contains(&what), "`{trick}` should hear that it is denied: {outcome:#?}");
}

/// The records of what `agent` was allowed by the server-name gate, oldest first.
fn permits(agent: &Agent, name: &str) -> Vec<Value> {
    let outcome = agent.fence().ctl(&["tail", "--all", "-n", "1000", "--agent", name, "-o", "json"]);
    let records = outcome.stdout.lines().map(serde_json::from_str::<Value>);
    let records = records.map(|record| record.expect("the tail prints a JSON object a line"));
    records.filter(|record| record["verdict"] == "allow" && record["gate"] == "server-name").collect()
}

/// What the servers that a scenario needs do, until they are dropped.
fn servers(lab: &Lab) -> [Server; 4] {
    [Manner::Answers, Manner::Silent, Manner::Retries, Manner::Narrow]
        .map(|manner| Server::start(lab, manner))
}

/// Programs whose daemon finds no type information of the kernel, without which it does not know where to read
/// what the gate asks. In `folder`, which has to last as long as the daemon does.
fn without_types(programs: Programs, folder: &Path) -> Programs {
    let egressd = folder.join("egressd");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c 'mount --make-rslave /sys \
         && mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"' {} \"$@\"\n",
        programs.egressd.display()
    );
    fs::write(&egressd, text).expect("a script can be written");
    fs::set_permissions(&egressd, Permissions::from_mode(0o755)).expect("it can be made a program");
    Programs { egressd, ..programs }
}

/// A folder whose mounts every mount namespace sees, until it is dropped.
struct Shared(PathBuf);

impl Shared {
    fn at(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder can be made");
        let (none, nothing) = (None::<&str>, None::<&str>);
        mount(Some(&folder), &folder, none, MsFlags::MS_BIND, nothing).expect("a folder can be mounted");
        mount(none, &folder, none, MsFlags::MS_SHARED, nothing).expect("a mount can be shared");
        Self(folder)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        // The lab could not, as long as this was mounted.
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

const CGROUP: &[&str] = &["--mode", "cgroup"];
const SEALED: &[&str] = &["--mode", "sealed"];
