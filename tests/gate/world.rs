//! An agent without a daemon: the programs on a cgroup of their own, the maps in our hands, and this very
//! process within. Servers listen from before it went there, and so are outside.

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, RingBuf, SockHash},
};
use egress_common::{
    Address, AgentConfig, CounterKey, DropReason, Gate, GrantKey, GrantValue, NameEvent, NameKey, NameValue,
    NamedFlow, NamedFlowKey, RULE_ENFORCED, RuleKey, RuleValue, SPEAKS_TLS, TCP, fnv1a, v4_mapped,
};
use egressd::datapath::{self, Cgroup, Ebpf, Hierarchy, Pins, UseSecurityHooks};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tempfile::TempDir;

/// The one agent.
pub const AGENT: u32 = 7;
/// The rule behind every grant.
pub const RULE: u32 = 11;

/// The programs in force, for as long as this lives.
pub struct World {
    pins: Option<Pins>,
    cgroup: Cgroup,
    home: PathBuf,
    events: Mutex<Events>,
    _ebpf: Mutex<Option<datapath::Programs>>,
    _folder: TempDir,
}

struct Events {
    ring: RingBuf<MapData>,
    seen: Vec<Seen>,
}

/// What the programs reported of a server name.
#[derive(Debug, Clone)]
pub struct Seen {
    /// None allows.
    pub reason: Option<DropReason>,
    pub name: String,
    pub port: u16,
    pub source_port: u16,
    /// Of the socket, by which the daemon ends it.
    pub cookie: u64,
    pub flows: u32,
    pub state: u32,
    pub pid: u32,
}

impl World {
    /// The world of all tests: loading the programs takes longer than all else. It goes with the process.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Option<Arc<World>>> = Mutex::new(None);
        extern "C" fn end() {
            drop(locked(&SHARED).take());
        }
        let mut shared = locked(&SHARED);
        let world = shared.get_or_insert_with(|| {
            // SAFETY: the function takes nothing and may run at any time.
            unsafe { libc::atexit(end) };
            Arc::new(Self::make())
        });
        Arc::clone(world)
    }

    fn make() -> Self {
        let hierarchy = Hierarchy::find().expect("cgroup2 is mounted");
        let home = fs::read_to_string("/proc/self/cgroup").expect("proc");
        let home = home.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup2").to_owned();
        let home = hierarchy.mount().join(home);
        let cgroup = hierarchy.create(&format!("egressd-gate-{}", std::process::id())).expect("cgroup");
        let folder = tempfile::tempdir().expect("folder");
        let pins = Pins::open(&folder.path().join("bpf")).expect("bpffs");
        let loaded = Ebpf::load(&pins, &cgroup, UseSecurityHooks::Never).expect("programs");
        assert_eq!(loaded.programs.reader, Ok(()));
        let world = Self {
            events: Mutex::new(Events { ring: loaded.events, seen: Vec::new() }),
            _ebpf: Mutex::new(Some(loaded.programs)),
            pins: Some(pins),
            cgroup,
            home,
            _folder: folder,
        };
        world.configure(1);
        world.map::<u32, u64>("SOCKET_COUNTS").insert(AGENT, 0, 0).expect("count");
        for reason in DropReason::ALL {
            let key = CounterKey { agent: AGENT, reason: *reason as u32 };
            world.map("COUNTERS").insert(key, 0_u64, 0).expect("counter");
        }
        let rule = RuleValue { budget: 0, standing: RULE_ENFORCED };
        world.map("RULES").insert(RuleKey { agent: AGENT, rule: RULE }, rule, 0).expect("rule");
        world.map("CGROUPS").insert(world.cgroup.id(), AGENT, 0).expect("agent");
        fs::write(world.cgroup.path().join("cgroup.procs"), "0").expect("moved");
        world
    }

    /// Gives the agent its configuration; another `generation` has its open flows judged again.
    pub fn configure(&self, generation: u32) {
        let config = AgentConfig { generation, ..AgentConfig::default() };
        self.map("AGENTS").insert(AGENT, config, 0).expect("configured");
    }

    /// Grants `name` at (`address`, `port`), through the kernel's gate.
    pub fn grant(&self, name: &str, address: IpAddr, port: u16) {
        self.grant_with(name, address, port, 0);
    }

    /// The same, with flags of [`NameValue`].
    pub fn grant_with(&self, name: &str, address: IpAddr, port: u16, flags: u32) {
        let expires = u64::MAX;
        let mut octets = [0; 256];
        octets[..name.len()].copy_from_slice(name.as_bytes());
        let value = NameValue {
            expires,
            rule: RULE,
            length: name.len() as u32,
            reported: 0,
            flows: 0,
            flags,
            name: octets,
        };
        self.map("NAMES").insert(name_key(name, address, port), value, 0).expect("named");
        let value = GrantValue { expires, rule: RULE, gate: Gate::Kernel as u16, used: 0 };
        self.map("GRANTS").insert(grant_key(address, port), value, 0).expect("granted");
    }

    /// Takes the name away again, as a reload may.
    pub fn forget(&self, name: &str, address: IpAddr, port: u16) {
        let mut names = self.map::<NameKey, NameValue>("NAMES");
        names.remove(&name_key(name, address, port)).expect("was granted");
    }

    /// Which way the next flow takes.
    pub fn gate(&self, address: IpAddr, port: u16) -> u16 {
        self.map::<GrantKey, GrantValue>("GRANTS").get(&grant_key(address, port), 0).expect("grant").gate
    }

    /// The flows that have named their server at `port`.
    pub fn named_flows(&self, port: u16) -> Vec<(NamedFlowKey, NamedFlow)> {
        let map = self.map::<NamedFlowKey, NamedFlow>("NAMED_FLOWS");
        map.iter().flatten().filter(|(key, _)| key.port == port).collect()
    }

    /// Ends a flow, as the daemon does it that finds it denied.
    pub fn cut(&self, key: &NamedFlowKey) {
        self.map::<NamedFlowKey, NamedFlow>("NAMED_FLOWS").remove(key).expect("was open");
    }

    /// How many sockets said no name yet.
    pub fn silent(&self) -> u64 {
        self.map::<u32, u64>("SILENT_COUNTS").get(&AGENT, 0).unwrap_or(0)
    }

    /// The cookies of sockets whose sends are judged.
    pub fn judged(&self) -> Vec<u64> {
        let map = MapData::from_pin(self.maps().join("SILENT")).expect("pinned");
        let map = SockHash::<_, u64>::try_from(Map::SockHash(map)).expect("sockets");
        map.keys().flatten().collect()
    }

    /// What was reported of flows to `port` so far.
    pub fn events(&self, port: u16) -> Vec<Seen> {
        let mut events = locked(&self.events);
        let Events { ring, seen } = &mut *events;
        while let Some(item) = ring.next() {
            if item.len() == size_of::<NameEvent>() {
                // SAFETY: the programs write nothing else of this length, and every pattern of bits is one.
                seen.push(read(&unsafe { item.as_ptr().cast::<NameEvent>().read_unaligned() }));
            }
        }
        seen.iter().filter(|seen| seen.port == port).cloned().collect()
    }

    /// How many flows by `name` no event stands for yet.
    pub fn untold(&self, name: &str, address: SocketAddr) -> u32 {
        let names = self.map::<NameKey, NameValue>("NAMES");
        names.get(&name_key(name, address.ip(), address.port()), 0).expect("granted").flows
    }

    /// connect(2) to nowhere, which frees a socket for another connection.
    pub fn disconnect(stream: &TcpStream) {
        let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
        let length = size_of::<libc::sockaddr>() as u32;
        // SAFETY: an address of that length.
        assert_eq!(unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, length) }, 0);
    }

    fn map<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        let map = MapData::from_pin(self.maps().join(name)).expect("pinned");
        HashMap::try_from(Map::HashMap(map)).expect("of that form")
    }

    fn maps(&self) -> PathBuf {
        self.pins.as_ref().expect("until dropped").maps()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Whoever could not go home keeps the cgroup; its name tells whose it was.
        let _ = fs::write(self.home.join("cgroup.procs"), "0");
        if let Some(pins) = self.pins.take() {
            let _ = pins.remove();
        }
        let _ = self.cgroup.remove();
    }
}

fn read(event: &NameEvent) -> Seen {
    let length = (event.length as usize).min(event.name.len());
    Seen {
        reason: DropReason::from_code(event.event.reason),
        name: String::from_utf8_lossy(&event.name[..length]).into_owned(),
        port: event.event.port,
        source_port: event.source_port,
        cookie: event.cookie,
        flows: event.flows,
        state: event.state,
        pid: event.event.pid,
    }
}

fn name_key(name: &str, address: IpAddr, port: u16) -> NameKey {
    NameKey {
        agent: AGENT,
        port,
        protocol: SPEAKS_TLS,
        zero: 0,
        address: octets(address),
        name: fnv1a(name.bytes()),
    }
}

fn grant_key(address: IpAddr, port: u16) -> GrantKey {
    GrantKey { agent: AGENT, port, transport: TCP, zero: 0, address: octets(address) }
}

fn octets(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => v4_mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Where servers are.
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
