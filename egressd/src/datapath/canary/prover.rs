//! The canary itself: it tries everything, and looks what arrived where. Errors of its own calls
//! are no matter, and prove nothing.

use super::{
    CanaryError, Findings, NameFindings, WITH_NAMES, frames,
    packet::{holds, tcp_destination, udp},
    places::{Family, at},
    probe::{Act, Place, Probe, probes},
    server_names,
    world::{Services, World},
};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs,
    io::{self, BufRead, Write},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

/// Lives as the canary: builds its world, moves into `cgroup`, has the program
/// that is pinned at `frames` judge the frames of one link, and answers each line of standard
/// input, the number of a round, with a line of [`Findings`]. Ends with its input.
///
/// Must be called while the process has one thread.
///
/// # Errors
/// Names what could not be made.
pub fn live(cgroup: &Path, frames: &Path) -> Result<(), CanaryError> {
    stay_on_one_processor();
    let world = World::make()?;
    // Only now: a socket keeps the cgroup of its maker, and what sees must not be judged.
    fs::write(cgroup.join("cgroup.procs"), "0").map_err(CanaryError::Join)?;
    let mut prover = Prover::new(world);
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut line = String::new();
    while input.read_line(&mut line).map_err(CanaryError::Talk)? > 0 {
        let asked = line.trim();
        let (number, with_names) = match asked.strip_suffix(WITH_NAMES) {
            Some(number) => (number, true),
            None => (asked, false),
        };
        let round = number.parse().map_err(|_| CanaryError::Unclear(line.clone()))?;
        // Only now are the programs loaded.
        prover.watch_frames(frames)?;
        let findings = serde_json::to_string(&prover.prove(round, with_names)).map_err(io::Error::other);
        findings.and_then(|text| writeln!(output, "{text}")).map_err(CanaryError::Talk)?;
        output.flush().map_err(CanaryError::Talk)?;
        line.clear();
    }
    Ok(())
}

/// The queue between two ends of a veth link is one for each processor: only on one is what was
/// sent first seen first. Where that cannot be had, nothing worse comes of it than a missed leak.
fn stay_on_one_processor() {
    let mut own = CpuSet::new();
    let _ = sched_getcpu()
        .and_then(|here| own.set(here))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &own));
}

struct Prover {
    world: World,
    probes: Vec<Probe>,
    frames: Judge,
}

/// What judges the frames of the second link.
enum Judge {
    Unknown,
    /// The program, for as long as this is held.
    Attached(#[expect(dead_code, reason = "held, not used")] OwnedFd),
    /// This kernel has no TCX.
    None,
}

/// What a probe was seen to do.
type Sight = (usize, Place);

/// How long the last packet of a round may take to its tap. Microseconds, but for a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the payload of every probe begins with; round and number of the probe follow.
const MARK: &[u8] = b"egressd canary";

impl Prover {
    fn new(world: World) -> Self {
        let probes = world.services.iter().flat_map(|services| probes(services.family)).collect();
        Self { world, probes, frames: Judge::Unknown }
    }

    fn prove(&self, round: u32, with_names: bool) -> Findings {
        // What was still under way when the last round ended.
        let mut sights = self.outside(round, None);
        sights.retain(|(number, _)| self.probes[*number].arrives != Place::Outside);
        sights.extend(self.families().flat_map(|family| self.receive(round, family)));
        let mut kept = Vec::new();
        for (number, probe) in self.probes.iter().enumerate() {
            kept.extend(probe.attempt(&mark(round, number)).ok().flatten());
        }
        let deadline = Instant::now() + PATIENCE;
        sights.extend(self.outside(round, Some(deadline)));
        for services in &self.world.services {
            sights.extend(self.served(round, services));
        }
        let mut findings = self.judge(&sights);
        self.prove_frames(round, &mut findings);
        if with_names {
            let names = findings.server_names.insert(NameFindings::default());
            self.world.services.iter().for_each(|services| server_names::prove(services, names));
        }
        findings
    }

    fn watch_frames(&mut self, program: &Path) -> Result<(), CanaryError> {
        if matches!(self.frames, Judge::Unknown) {
            self.frames = match self.world.judge_frames_by(program) {
                Ok(link) => Judge::Attached(link),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Judge::None,
                Err(error) => return Err(CanaryError::Frames(error)),
            };
        }
        Ok(())
    }

    /// The same for frames, where they are judged.
    fn prove_frames(&self, round: u32, findings: &mut Findings) {
        if !matches!(self.frames, Judge::Attached(_)) {
            findings.skipped.push("frames: this kernel has no TCX (Linux 6.6)".to_owned());
            return;
        }
        for family in self.families() {
            // Behind the numbers of all other probes.
            let mark = |number| mark(round, self.probes.len() + number);
            let seen = frames::prove(&self.world, family, PATIENCE, mark);
            let name = |what: &&str| format!("{what} ({})", family.word());
            findings.probes += seen.count;
            findings.leaked.extend(seen.leaked.iter().map(name));
            findings.lost.extend(seen.lost.iter().map(name));
        }
    }

    /// What arrived at the tap: all that is there, and where there is a deadline, whatever comes up
    /// to the last probe of each family.
    fn outside(&self, round: u32, deadline: Option<Instant>) -> Vec<Sight> {
        let mut sights = Vec::new();
        for family in self.families() {
            let last = self.probes.iter().rposition(|probe| probe.family == family);
            while let Some(deadline) = deadline
                && !sights.iter().any(|(number, _)| Some(*number) == last)
                && let Some(left) =
                    deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                && let Some(packet) = self.world.tap.next(family, left)
            {
                sights.extend(self.recognise(round, &packet));
            }
            sights.extend(self.world.tap.rest(family).filter_map(|packet| self.recognise(round, &packet)));
        }
        sights
    }

    /// The probe that a packet at the tap came of. One that should never be seen counts whenever it
    /// is; others only in their own round.
    fn recognise(&self, round: u32, packet: &[u8]) -> Option<Sight> {
        let tcp = tcp_destination(packet);
        let is_of = |number: usize, probe: &Probe| match probe.act {
            Act::Connect(to) => tcp == Some(to),
            Act::Join(group) => match group {
                IpAddr::V4(group) => holds(packet, &group.octets()),
                IpAddr::V6(group) => holds(packet, &group.octets()),
            },
            Act::Send(_)
            | Act::ConnectAndSend(_)
            | Act::ConnectAndSendLite(_)
            | Act::SendMapped(_)
            | Act::SendWithOption(_)
            | Act::SendByLink(_)
            | Act::SendRaw(_)
            | Act::Receive(_) => match probe.arrives {
                Place::Outside => holds(packet, &mark(round, number)),
                Place::Nowhere | Place::Resolver | Place::Proxy | Place::Canary => {
                    let mark = mark(round, number);
                    holds(packet, MARK) && packet.ends_with(&mark[mark.len() - 2..])
                }
            },
        };
        let number = self.probes.iter().enumerate().position(|(number, probe)| is_of(number, probe))?;
        Some((number, Place::Outside))
    }

    /// What arrived at the listeners.
    fn served(&self, round: u32, services: &Services) -> Vec<Sight> {
        let mut sights = Vec::new();
        while let Some(payload) = received(&services.resolver) {
            sights.extend(self.marked(round, &payload).map(|number| (number, Place::Resolver)));
        }
        for (listener, place) in [(&services.resolver_tcp, Place::Resolver), (&services.proxy, Place::Proxy)]
        {
            while listener.accept().is_ok() {
                // A connection bears no mark. One probe of a family is for each listener.
                let is_for = |probe: &Probe| {
                    probe.family == services.family
                        && probe.arrives == place
                        && matches!(probe.act, Act::Connect(_))
                };
                sights.extend(self.probes.iter().position(is_for).map(|number| (number, place)));
            }
        }
        sights
    }

    /// Has the tap send what probes of `family` are to receive. The one that must arrive comes last:
    /// whatever was sent before it has arrived by then.
    fn receive(&self, round: u32, family: Family) -> Vec<Sight> {
        let own = at(family.own(), OWN_PORT);
        let mut sights = Vec::new();
        let Ok(socket) = self.listen(own) else { return sights };
        let mut waited_for = None;
        for (number, probe) in self.probes.iter().enumerate().filter(|(_, probe)| probe.family == family) {
            if let Act::Receive(from) = probe.act
                && let Some(packet) = udp(from, own, &mark(round, number))
                && self.world.tap.inject(family, &packet).is_ok()
            {
                waited_for = Some(number);
            }
        }
        while waited_for.is_some_and(|last| !sights.contains(&(last, Place::Canary)))
            && let Some(payload) = received(&socket)
        {
            sights.extend(self.marked(round, &payload).map(|number| (number, Place::Canary)));
        }
        sights
    }

    fn listen(&self, own: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(own), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&own.into())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    fn marked(&self, round: u32, payload: &[u8]) -> Option<usize> {
        (0..self.probes.len()).find(|number| payload == mark(round, *number))
    }

    fn judge(&self, sights: &[Sight]) -> Findings {
        let mut findings = Findings {
            probes: self.probes.len(),
            families: self.world.services.len(),
            ..Findings::default()
        };
        for (number, probe) in self.probes.iter().enumerate() {
            let name = || format!("{} ({})", probe.what, probe.family.word());
            let seen = |place| sights.contains(&(number, place));
            let strayed = [Place::Outside, Place::Resolver, Place::Proxy, Place::Canary]
                .into_iter()
                .any(|place| place != probe.arrives && seen(place));
            if strayed {
                findings.leaked.push(name());
            } else if probe.arrives != Place::Nowhere && !seen(probe.arrives) {
                findings.lost.push(name());
            }
        }
        findings
    }

    fn families(&self) -> impl Iterator<Item = Family> + '_ {
        self.world.services.iter().map(|services| services.family)
    }
}

/// Where the canary receives.
const OWN_PORT: u16 = 7000;

fn mark(round: u32, number: usize) -> Vec<u8> {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    [MARK, &round.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn received(socket: &Socket) -> Option<Vec<u8>> {
    let mut buffer = [MaybeUninit::uninit(); 64];
    let length = socket.recv(&mut buffer).ok()?;
    // SAFETY: the kernel wrote that many octets.
    Some(buffer[..length].iter().map(|octet| unsafe { octet.assume_init() }).collect())
}
