//! What a name earns: in time, for as long as it should, and for whom.

use crate::{
    AGENT,
    arrivals::Arrivals,
    attack::{TRICKS, violations},
    authority::{self, Authority, address},
    fence,
    fence::Fence,
    fence_in_with,
    frame::Frame,
    lab::Lab,
    places::DB,
    policies::with,
    program::{Outcome, Program, poll, poll_for},
    reload::{cut, reload},
    sniffer::mark,
    talker::Talker,
};
use std::{
    collections::{HashMap, HashSet},
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[test]
fn no_first_packet_is_lost_in_a_hundred_thousand_lookups() {
    const NAMES: usize = 64;
    let lab = Lab::new();
    let arrivals = Arrivals::start(&lab);
    lab.sniffer().keep_only(|frame| frame.carries(b"mark") || frame.carries(b"early"));
    let (_authority, answers) = rotating(&lab, 2);
    let helper = compile(&lab).display().to_string();
    let rules = cdn(NAMES, "protocol: udp, ports: [9001]");
    let fence = fence_in_with(lab, &with(&text(&rules)), authority::FLAGS);
    // It is the lookup that opens an address.
    let ((), early) = violations(fence.lab(), "early", || {
        let send = format!("/usr/bin/python3 {TRICKS} udp_sendto {} 9001 early", address(0));
        let outcome = fence.agent("early").run(&send);
        assert!(
            outcome.says("PermissionError"),
            "an address is open before its name was asked for: {outcome:#?}"
        );
    });
    assert!(early.is_empty(), "{early:#?}");
    let start = |mode: &[&str], loops: usize| {
        let arguments = [&helper, "udp", &loops.to_string(), &NAMES.to_string(), "9001"];
        fence.agent("looper").with(mode).spawn(&arguments)
    };
    let ends = |agent: Program, loops: usize| {
        let outcome = patiently(agent);
        assert_eq!(outcome.stdout, format!("went {loops} refused 0 empty 0 unanswered 0\n"), "{outcome:#?}");
        outcome.took
    };
    let modes = [["--mode", "sealed"], ["--mode", "cgroup"]];
    let agents = modes.each_ref().map(|mode| start(mode, LOOPS));
    let took = agents.map(|agent| ends(agent, LOOPS));
    println!("twice {LOOPS} lookups and flows in {took:?}");
    let arrived = poll("the last datagram", || {
        let numbers = arrivals.numbers();
        (numbers.len() >= 2 * LOOPS).then_some(numbers)
    });
    assert_eq!(arrived.iter().collect::<HashSet<_>>().len(), LOOPS, "each of either agent arrived");
    // On a fast machine all of that is done before a TTL has run out: on, until each has, and again.
    let mut more = 0;
    let rotated = poll_for(PATIENCE, || {
        more += 1;
        ends(start(&modes[more % 2], 1000), 1000);
        (answers.load(Ordering::Relaxed) >= 3 * NAMES).then_some(())
    });
    assert!(rotated.is_some(), "no TTL runs out: {answers:?} answers for {NAMES} names");
    poll("each datagram", || (arrivals.numbers().len() == 2 * LOOPS + 1000 * more).then_some(()));
}

/// Of each of the two agents.
const LOOPS: usize = 50_000;

#[test]
fn no_first_connection_is_refused_at_rotating_addresses() {
    let lab = Lab::new();
    let (_authority, _) = rotating(&lab, 4);
    let helper = compile(&lab).display().to_string();
    let rules = cdn(64, "protocol: tcp, ports: [5432]");
    let fence = fence_in_with(lab, &with(&text(&rules)), authority::FLAGS);
    let arguments = [&helper, "tcp", "2000", "64", "5432"];
    for mode in [["--mode", "sealed"], ["--mode", "cgroup"]] {
        let outcome = patiently(fence.agent("looper").with(&mode).spawn(&arguments));
        assert_eq!(outcome.stdout, "went 2000 refused 0 empty 0 unanswered 0\n", "{mode:?}: {outcome:#?}");
    }
}

#[test]
fn every_address_of_a_rotating_cdn_is_open_until_the_quota_and_the_quota_cuts_nothing() {
    const NAMES: usize = 12;
    let lab = Lab::new();
    let arrivals = Arrivals::start(&lab);
    let (_authority, _) = rotating(&lab, 60);
    let helper = compile(&lab).display().to_string();
    let mut rules = cdn(80, "protocol: udp, ports: [9001]");
    rules.push("{host: keep.test, protocol: tcp, ports: [5432], private: true}".to_owned());
    let fence = fence_in_with(lab, &with(&text(&rules)), authority::FLAGS);
    let agent = fence.agent("browser");
    // One generation of addresses after the other, until it is told; and then more than fit.
    let script = format!(
        "until read -t 0.3 -r; do {helper} every {NAMES} {NAMES} 9001; done; echo done; \
         {helper} every 80 80 9001; read -r"
    );
    let mut browser = agent.spawn(&["bash", "-c", &script]);
    let position = fence.lab().sniffer().position();
    let addresses = || {
        let frames = fence.lab().sniffer().since(position);
        let to: HashSet<_> =
            frames.iter().filter_map(Frame::destination).filter(authority::is_in_pool).collect();
        to.len()
    };
    let rotated = poll_for(PATIENCE, || (addresses() >= 3 * NAMES * 60).then_some(()));
    assert!(rotated.is_some(), "{} addresses: {}{}", addresses(), browser.stdout(), browser.stderr());
    let mut keeper = Talker::start(&fence.agent("browser"));
    keeper.does("keep keep.test 5432");
    writeln!(browser.stdin()).expect("the agent reads");
    let rounds = poll_for(PATIENCE, || {
        let text = browser.stdout();
        let (rotating, last) = text.split_once("done\n")?;
        last.ends_with('\n').then(|| (rotating.to_owned(), last.to_owned()))
    });
    let (rotating, last) = rounds.expect("the agent goes on");
    let round = format!("went {} refused 0 empty 0 unanswered 0\n", NAMES * 60);
    assert_eq!(rotating, round.repeat(rotating.lines().count()), "{}", browser.stderr());
    assert!(last.contains(" refused 0 ") && last.ends_with(" unanswered 0\n"), "{last}");
    assert!(!last.contains(" empty 0 "), "the quota is not reached: {last}");
    agent.denial("the quota", |record| record["reason"] == "quota-exceeded");
    let went: usize = (rotating + &last).lines().map(went).sum();
    poll("each datagram", || (arrivals.numbers().len() == went).then_some(()));
}

#[test]
fn an_open_flow_goes_on_where_its_name_left_until_its_rule_goes() {
    let lab = Lab::new();
    let place = Arc::new(AtomicUsize::new(0));
    let _authority = Authority::start(&lab, {
        let place = Arc::clone(&place);
        move |_| vec![address(place.load(Ordering::Relaxed))]
    });
    let policy = with(&["{host: moved.test, protocol: tcp, ports: [5432], private: true}"]);
    let fence = fence_in_with(lab, &policy, authority::FLAGS);
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep moved.test 5432");
    talker.does("say before");
    place.store(1, Ordering::Relaxed);
    // The least that a name is answered for, and the grace: 35 seconds.
    let old = format!("until_denied {} 5432", address(0));
    let denied = poll_for(PATIENCE, || (talker.tell(&old) == "ok").then_some(()));
    assert!(denied.is_some(), "the grant never expires");
    fence.agent(AGENT).denial("the expired grant", |record| record["reason"] == "grant-expired");
    let (moved, still) = (mark(), mark());
    talker.does(&format!("tcp moved.test 5432 {moved}"));
    talker.does(&format!("say {still}"));
    assert_eq!(went_to(&fence, &moved), [address(1)], "new flows go where the name is");
    assert_eq!(went_to(&fence, &still), [address(0)], "the open one stays where it was");
    reload(&fence, &with(&["{host: other.test, private: true}"]));
    cut(&mut talker, "say cut");
    let after = mark();
    talker.fails(&format!("say {after}"));
    assert_eq!(
        went_to(&fence, &after),
        [Ipv4Addr::UNSPECIFIED; 0],
        "nothing leaves by the flow that was cut"
    );
}

#[test]
fn two_agents_that_look_one_name_up_hold_a_grant_each() {
    let rules = "\n    rules: [{host: db.test, protocol: tcp, ports: [5432], private: true}]\n";
    let none = "\n    rules: []\n";
    let policy = |left: &str| format!("version: 1\nagents:\n  left:{left}  right:{rules}");
    let fence = fence(&policy(rules));
    let [mut first, mut left, mut right] =
        ["left", "left", "right"].map(|name| Talker::start(&fence.agent(name)));
    let borrows = |talker: &mut Talker| {
        let mark = mark();
        talker.fails(&format!("tcp_send_only {} 5432 {mark}", DB.v4));
        assert_eq!(went_to(&fence, &mark), [Ipv4Addr::UNSPECIFIED; 0], "one agent used another's grant");
    };
    first.does("tcp db.test 5432 hello");
    borrows(&mut left);
    borrows(&mut right);
    let own = format!("tcp {} 5432 own", DB.v4);
    for talker in [&mut left, &mut right] {
        talker.does("keep db.test 5432");
        talker.does(&own);
    }
    first.end();
    poll("the end of an agent", || (agents(&fence) == 2).then_some(()));
    left.does(&own);
    right.does(&own);
    reload(&fence, &policy(none));
    cut(&mut left, "say cut");
    borrows(&mut left);
    right.does("say through");
    right.does(&own);
}

#[test]
fn a_flood_of_lookups_leaves_anothers_lookups_answered() {
    let lab = Lab::new();
    let arrivals = Arrivals::start(&lab);
    let (_authority, _) = rotating(&lab, 4);
    let helper = compile(&lab).display().to_string();
    let mut rules = cdn(8, "protocol: udp, ports: [9001]");
    rules.push("{host: '*.wide.test', private: true}".to_owned());
    let fence = fence_in_with(lab, &with(&text(&rules)), authority::FLAGS);
    let mut flooder = fence.agent("flooder").spawn(&[&helper, "flood"]);
    let denied =
        |name: &str| fence.agent("flooder").denials().iter().any(|record| record.to_string().contains(name));
    poll("the flood", || denied(".evil.test").then_some(()));
    let bystander = patiently(fence.agent("bystander").spawn(&[&helper, "udp", "100", "8", "9001"]));
    assert_eq!(bystander.stdout, "went 100 refused 0 empty 0 unanswered 0\n", "{bystander:#?}");
    poll("each datagram", || (arrivals.numbers().len() == 100).then_some(()));
    assert!(!flooder.has_ended(), "the flood ended: {}", flooder.stderr());
    assert!(fence.agent("bystander").denials().is_empty());
}

/// An authority by which a name is at so many addresses, others in every answer; and how often it was
/// asked.
fn rotating(lab: &Lab, count: usize) -> (Authority, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let authority = Authority::start(lab, {
        let (asked, mut generations) = (Arc::clone(&asked), HashMap::<String, usize>::new());
        move |name| {
            asked.fetch_add(1, Ordering::Relaxed);
            let generation = generations.entry(name.to_owned()).or_default();
            let digits: String = name.chars().filter(char::is_ascii_digit).collect();
            let first = (digits.parse().unwrap_or(0) + *generation * 12) * count;
            *generation += 1;
            (first..first + count).map(address).collect()
        }
    });
    (authority, asked)
}

/// Rules for the names that `lookups.c` asks for, each by itself.
fn cdn(names: usize, terms: &str) -> Vec<String> {
    (0..names).map(|number| format!("{{host: n{number}.cdn.test, {terms}, private: true}}")).collect()
}

fn text(rules: &[String]) -> Vec<&str> {
    rules.iter().map(String::as_str).collect()
}

/// The program of `lookups.c`.
fn compile(lab: &Lab) -> PathBuf {
    let program = lab.folder().join("lookups");
    let compiled = Program::status(Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(LOOKUPS));
    assert!(compiled, "`cc` (Debian package build-essential) compiles {LOOKUPS}");
    program
}

/// The end of an agent that has a lot to do.
fn patiently(mut agent: Program) -> Outcome {
    let ended = poll_for(PATIENCE, || agent.has_ended().then_some(()));
    assert!(ended.is_some(), "waited {PATIENCE:?} in vain: {}{}", agent.stdout(), agent.stderr());
    agent.finish()
}

/// How many datagrams or connections a line of `lookups.c` tells of.
fn went(line: &str) -> usize {
    let count = line.strip_prefix("went ").and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in `{line}`"))
}

/// Where the frames with `mark` in them went.
fn went_to(fence: &Fence, mark: &str) -> Vec<IpAddr> {
    fence.lab().settle();
    let frames = fence.lab().sniffer().since(0);
    let mut to: Vec<_> =
        frames.iter().filter(|frame| frame.carries(mark.as_bytes())).filter_map(Frame::destination).collect();
    to.dedup();
    to
}

fn agents(fence: &Fence) -> usize {
    let outcome = fence.ctl(&["agents", "-o", "json"]);
    outcome.stdout.lines().count()
}

const LOOKUPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/lookups.c");

/// Far more than any of these takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
