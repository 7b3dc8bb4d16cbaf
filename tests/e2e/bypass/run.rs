//! Tries the ways out of one section: in the fence by every mode, and without a fence meanwhile.

use super::{
    entry::{ADMIN_AGENT, Allowed, Entry, Family, Helper, MODES, Mode, RAW_AGENT, Tier},
    matrix::{self, NEVER_ENDED, Row},
};
use crate::{
    attack::{self, violations_since},
    fence::{Agent, Fence},
    frame::Frame,
    lab::Lab,
    places::{self, EVIL, OK, Place},
    policies,
    program::{self, Outcome, Program, poll_for},
    sniffer::mark,
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    panic::resume_unwind,
    process::Command,
    time::Duration,
};

/// Tries all `entries` under the common rules and `rules`, writes what came of it, and only then complains.
///
/// # Panics
/// Lists each way out that leaks, proves nothing, or stops what is allowed.
pub fn section(name: &'static str, rules: &[&str], entries: &[Entry]) {
    section_by(name, "auto", rules, entries);
}

/// The same, where all flows that speak TLS take the way that `gate` says.
pub fn section_by(name: &'static str, gate: &str, rules: &[&str], entries: &[Entry]) {
    let policy = &policies::by_gate(&policy(rules), gate);
    let only = std::env::var(ONLY).ok();
    let is_meant = |entry: &&Entry| only.as_ref().is_none_or(|start| entry.id.starts_with(start));
    let cases: Vec<Case> = entries.iter().filter(is_meant).flat_map(cases).collect();
    // Most of the time is spent waiting for what does not come.
    let lanes = cases.len().div_ceil(CASES_OF_A_LANE).min(MOST_LANES);
    let share = |lane: usize| cases.iter().enumerate().skip(lane).step_by(lanes);
    let mut rows: Vec<(usize, Row)> = std::thread::scope(|scope| {
        let lanes: Vec<_> =
            (0..lanes).map(|lane| scope.spawn(move || try_all(name, policy, share(lane)))).collect();
        let joined = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.flatten().collect()
    });
    rows.sort_by_key(|(place, _)| *place);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    match only {
        Some(_) => println!("{}", matrix::table(name, &rows)),
        None => matrix::write(name, &rows),
    }
    let complaints: Vec<String> = rows.iter().flat_map(Row::complaints).collect();
    assert!(complaints.is_empty(), "{} complaints:\n\n{}", complaints.len(), complaints.join("\n\n"));
}

/// Tries `cases` one after the other in a fence of their own, and meanwhile in a lab without one:
/// so what is seen is the doing of whoever is at it, and what leaks there cannot be mistaken for
/// what leaks here.
fn try_all<'a>(
    section: &'static str,
    policy: &str,
    cases: impl Iterator<Item = (usize, &'a Case<'a>)>,
) -> Vec<(usize, Row)> {
    let cases: Vec<(usize, &Case)> = cases.collect();
    let (fence, open) = (crate::fence(policy), Lab::new());
    let entries: HashMap<&str, &Entry> = cases.iter().map(|(_, case)| (case.entry.id, case.entry)).collect();
    let missing: HashMap<&str, &str> = entries.values().filter_map(|entry| missing(&open, entry)).collect();
    let possible = |case: &Case| !missing.contains_key(case.entry.id);
    let mut rows: Vec<(usize, Row)> = std::thread::scope(|scope| {
        let unfenced = scope.spawn(|| {
            let possible = cases.iter().filter(|(_, case)| possible(case));
            possible.map(|(place, case)| (*place, unfenced(&open, case))).collect::<HashMap<_, _>>()
        });
        let mut twins = Twins::default();
        let mut row = |mode: Mode, case: &Case| match missing.get(case.entry.id) {
            Some(why) => Row::skipped(section, mode, case, why),
            None => fenced(&fence, &mut twins, section, mode, case),
        };
        let in_each = MODES.iter().flat_map(|mode| cases.iter().map(move |case| (*mode, case)));
        let mut rows: Vec<_> = in_each.map(|(mode, (place, case))| (*place, row(mode, case))).collect();
        let unfenced = unfenced.join().unwrap_or_else(|panic| resume_unwind(panic));
        for (place, row) in &mut rows {
            row.unfenced = unfenced.get(place).cloned();
        }
        rows
    });
    count_what_came_late(fence.lab(), rows.iter_mut().map(|(_, row)| row));
    rows
}

/// The common rules and `more`, for agents that keep no capability, NET_RAW, and NET_ADMIN too.
fn policy(more: &[&str]) -> String {
    let common = policies::common_and(more) + MORE_RULES;
    let rules = common.split_once("rules:\n").expect("the policy has rules").1;
    let agent =
        |name, capabilities| format!("  {name}:\n    capabilities: [{capabilities}]\n    rules:\n{rules}");
    let [raw, admin] = [agent(RAW_AGENT, "net_raw"), agent(ADMIN_AGENT, "net_raw, net_admin")];
    format!("{common}{raw}{admin}")
}

/// One way out as one tier tries it over one family.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub entry: &'a Entry,
    pub tier: Tier,
    pub family: Family,
}

impl Case<'_> {
    /// `script` about `place`, with every placeholder filled in.
    fn script(&self, script: &str, place: Place, mark: &str) -> String {
        let address = |place: Place| match self.family {
            Family::V4 => IpAddr::V4(place.v4),
            Family::V6 => IpAddr::V6(place.v6),
        };
        let own = match self.family {
            Family::V4 => IpAddr::V4(places::HOST_V4),
            Family::V6 => IpAddr::V6(places::HOST_V6),
        };
        let url = |place| match address(place) {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let dash = match self.family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        let gateway = match self.family {
            Family::V4 => IpAddr::V4(places::GATEWAY_V4),
            Family::V6 => IpAddr::V6(places::GATEWAY_V6),
        };
        let filled = script
            .replace("{ip}", &address(place).to_string())
            .replace("{url}", &url(place))
            .replace("{ok_url}", &url(OK))
            .replace("{ok}", &address(OK).to_string())
            .replace("{own}", &own.to_string())
            .replace("{dash}", dash)
            .replace("{dig}", "dig +short +time=1 +tries=1")
            .replace("{ns}", &address(places::DNS).to_string())
            .replace("{gateway}", &gateway.to_string())
            .replace("{link}", LINK);
        attack::script(&filled, place, mark)
    }
}

/// What one run put on the wire that should not be there.
#[derive(Debug, Clone)]
pub struct Leak {
    pub frames: usize,
    /// The run and some of the frames, for whoever reads of a failure.
    pub told: String,
}

fn cases(entry: &Entry) -> impl Iterator<Item = Case<'_>> {
    let tiers = entry.tiers.iter();
    tiers.flat_map(move |&tier| entry.families.iter().map(move |&family| Case { entry, tier, family }))
}

/// What this machine lacks to try `entry`.
fn missing(open: &Lab, entry: &Entry) -> Option<(&'static str, &'static str)> {
    let (probe, missing) = entry.needs?;
    let probe = attack::script(&probe.replace("{link}", LINK), EVIL, "probe");
    (!open.run(&probe).succeeded()).then_some((entry.id, missing))
}

/// The trick in the fence, and what is allowed there.
fn fenced(fence: &Fence, twins: &mut Twins, section: &'static str, mode: Mode, case: &Case) -> Row {
    let (lab, mark) = (fence.lab(), mark());
    let (name, flags) = mode.agent(case.tier);
    let flags = [flags, if case.entry.proxied { &["--proxy-env"] } else { &[] }].concat();
    let stage = case.script(case.entry.stage, EVIL, &mark);
    let agent = fence.agent(name).with(&flags).staged(&stage);
    let helper = help(lab, case, &mark);
    let position = lab.sniffer().position();
    let outcome = run_agent(&agent, &case.script(case.entry.trick, EVIL, &mark));
    lab.settle();
    let neighbours = [EVIL.v4.into(), EVIL.v6.into(), ABSENT.into()];
    let leak = leak(&outcome, &violations(lab, &mark, position, &neighbours));
    drop(helper);
    let allowed = match case.entry.allowed {
        Allowed::Same => Ok(works(&agent, case, case.entry.trick)),
        // Many ways out have one twin in common.
        Allowed::Script(script) => Ok(twins
            .entry((mode.to_string(), case.tier.to_string(), case.family.to_string(), script))
            .or_insert_with(|| works(&agent, case, script))
            .clone()),
        Allowed::Sealed(script, reason) => match mode {
            Mode::Sealed => Ok(works(&agent, case, script)),
            Mode::Cgroup => Err(reason),
        },
        Allowed::Never(reason) => Err(reason),
    };
    Row::tried(section, mode, case, mark, outcome, leak, allowed)
}

/// What came of the scripts that work, by mode, tier, family and script.
type Twins = HashMap<(String, String, String, &'static str), Result<(), String>>;

/// Whether `script` succeeds in the fence, towards what is allowed.
fn works(agent: &Agent, case: &Case, script: &str) -> Result<(), String> {
    let mark = mark();
    let _helper = help(agent.fence().lab(), case, &mark);
    let outcome = run_agent(agent, &case.script(script, OK, &mark));
    outcome.succeeded().then_some(()).ok_or_else(|| format!("`{script}`: {outcome:#?}"))
}

/// The same trick without a fence, by someone with all that this tier has.
fn unfenced(lab: &Lab, case: &Case) -> Leak {
    // Some tricks race with the kernel or with a helper: one that leaks once is one that leaks.
    let mut leaks = (0..TWIN_TRIES).map(|_| unfenced_once(lab, case));
    let last = leaks.by_ref().take(TWIN_TRIES - 1).find(|leak| leak.frames > 0);
    last.or_else(|| leaks.next()).expect("a twin is tried more than once")
}

const TWIN_TRIES: usize = 3;

fn unfenced_once(lab: &Lab, case: &Case) -> Leak {
    let mark = mark();
    let _helper = help(lab, case, &mark);
    let position = lab.sniffer().position();
    let _proxy = case
        .entry
        .proxied
        .then(|| ready(lab.command(&["bash", "-c", &case.script(OPEN_PROXY, EVIL, &mark)])));
    let environment = if case.entry.proxied { PROXY_ENVIRONMENT } else { "" };
    let script = case.script(&format!("{environment}{}", case.entry.trick), EVIL, &mark);
    let stage = case.script(case.entry.stage, EVIL, &mark);
    let arguments = [case.tier.unfenced(), &in_time(&script)].concat();
    let outcome = run(lab.staged_command(&stage, &arguments));
    lab.settle();
    // Some leave by a timer of the kernel's.
    let seen = poll_for(LATE, || {
        // The kernel asks again and again for a neighbour that it has spoken to.
        let frames = violations(lab, &mark, position, &[ABSENT.into()]);
        (!frames.is_empty()).then_some(frames)
    });
    leak(&outcome, &seen.unwrap_or_default())
}

/// What should not have left since `position`. To ask for one of `neighbours`, or in its name, is
/// to tell.
fn violations(lab: &Lab, mark: &str, position: usize, neighbours: &[IpAddr]) -> Vec<Frame> {
    let mut frames = violations_since(lab, mark, position);
    let is_about = |address: &IpAddr| neighbours.contains(address);
    let tells = |frame: &Frame| frame.neighbours().is_some_and(|both| both.iter().any(is_about));
    frames.extend(lab.sniffer().since(position).into_iter().filter(tells));
    frames
}

/// Counts what carried the mark of a trick that was over by then.
fn count_what_came_late<'a>(lab: &Lab, rows: impl Iterator<Item = &'a mut Row>) {
    lab.settle();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for frame in lab.sniffer().since(0) {
        for mark in frame.words(b"mark") {
            *counts.entry(mark).or_default() += 1;
        }
    }
    for row in rows {
        let count = counts.get(&row.mark).copied().unwrap_or_default();
        row.count_at_least(count);
    }
}

fn leak(outcome: &Outcome, frames: &[Frame]) -> Leak {
    let shown = &frames[..frames.len().min(3)];
    Leak { frames: frames.len(), told: format!("{outcome:#?}\nframes: {shown:#?}") }
}

fn run_agent(agent: &Agent, script: &str) -> Outcome {
    run(agent.command(&in_time(script)))
}

/// Runs `command` to its end. One that has none is not let hide what came of the others.
fn run(command: Command) -> Outcome {
    let never = || {
        let (stdout, stderr) = (String::new(), "it had to be killed".to_owned());
        Outcome { code: NEVER_ENDED, stdout, stderr, took: program::DEADLINE }
    };
    Program::start(command).finish_in_time().unwrap_or_else(never)
}

/// Ended in time, so that one trick that hangs does not hide the others.
fn in_time(script: &str) -> [&str; 7] {
    ["timeout", "-k", "1", TIME, "bash", "-c", script]
}

/// Starts who is needed outside, and waits until they are ready.
fn help(lab: &Lab, case: &Case, mark: &str) -> Option<Program> {
    let command = |script: &str| case.script(script, EVIL, mark);
    Some(match case.entry.helper {
        Helper::None => return None,
        Helper::Host(script) => ready(lab.command(&["bash", "-c", &command(script)])),
        Helper::Inet(script) => {
            let mut bash = lab.inet_command("bash");
            bash.args(["-c", &command(script)]);
            ready(bash)
        }
    })
}

/// Starts who says when they are ready.
fn ready(command: Command) -> Program {
    let program = Program::start(command);
    program::poll("the helper to be ready", || program.stdout().contains("ready").then_some(()));
    program
}

/// An environment variable for whoever adds a way out: how the ids start that are tried, alone.
const ONLY: &str = "BYPASS";
/// A fence and two labs take some seconds to start: what about this many tries take.
const CASES_OF_A_LANE: usize = 60;
const MOST_LANES: usize = 3;
/// As a script asks for it: the link of the default route.
const LINK: &str = "$(awk '$2 == \"00000000\" {print $1; exit}' /proc/net/route)";
/// Beyond those of [`policies::COMMON`]: where tricks bring a server of their own.
const MORE_RULES: &str = "      - {cidr: 10.99.0.10/32, protocol: tcp, ports: [9100]}
      - {cidr: 'fd99::10/128', protocol: tcp, ports: [9100]}
";
/// A proxy that serves whoever asks, and how programs are told of it.
const OPEN_PROXY: &str = "{trick} tls.open_proxy 3128";
const PROXY_ENVIRONMENT: &str = "export http_proxy=http://127.0.0.1:3128 https_proxy=http://127.0.0.1:3128; ";
/// Seconds for one trick: more than any timeout in it.
const TIME: &str = "12";
/// How long after its end a trick without a fence may leak.
const LATE: Duration = Duration::from_secs(2);

/// On the lab's link, but nobody has it.
const ABSENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 67);
