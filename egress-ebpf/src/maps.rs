//! Every map. None evicts: a full map denies, and the bound of each agent keeps it from filling
//! what another one needs.

use crate::gate::place::Place;
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE},
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, RingBuf, SockHash},
};
use core::{ffi::c_void, ptr};
use egress_common::{
    Address, AgentConfig, Budget, CounterKey, GrantKey, GrantValue, KnownFlow, LinkConfig, MAX_AGENTS,
    MAX_BUDGETS, MAX_FLOWS, MAX_GRANTS_PER_AGENT, MAX_NETWORKS_PER_AGENT, MAX_SILENT_PER_AGENT,
    MAX_SOCKETS_PER_AGENT, NameKey, NameValue, NamedFlow, NamedFlowKey, NetworkKey, NetworkValue, OriginKey,
    OriginValue, RuleKey, RuleValue,
    hello::{Hello, MAX_EXTENSIONS},
};

/// Cgroup id to agent.
#[map]
pub static CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(MAX_AGENTS, 0);

/// Agent to the listeners that serve it.
#[map]
pub static AGENTS: HashMap<u32, AgentConfig> = HashMap::with_max_entries(MAX_AGENTS, 0);

/// Agent to the number of its sockets that hold a place in [`ORIGINS`].
#[map]
pub static SOCKET_COUNTS: HashMap<u32, u64> = HashMap::with_max_entries(MAX_AGENTS, 0);

/// Leave for single addresses, earned by names.
#[map]
pub static GRANTS: HashMap<GrantKey, GrantValue> =
    HashMap::with_max_entries(MAX_AGENTS * MAX_GRANTS_PER_AGENT, BPF_F_NO_PREALLOC);

/// The names behind [`GRANTS`].
#[map]
pub static NAMES: HashMap<NameKey, NameValue> =
    HashMap::with_max_entries(MAX_AGENTS * MAX_GRANTS_PER_AGENT, BPF_F_NO_PREALLOC);

/// Networks that a policy allows.
#[map]
pub static NETWORKS: LpmTrie<NetworkKey, NetworkValue> =
    LpmTrie::with_max_entries(MAX_AGENTS * MAX_NETWORKS_PER_AGENT, BPF_F_NO_PREALLOC);

/// Networks that a policy denies.
#[map]
pub static DENIED_NETWORKS: LpmTrie<NetworkKey, NetworkValue> =
    LpmTrie::with_max_entries(MAX_AGENTS * MAX_NETWORKS_PER_AGENT, BPF_F_NO_PREALLOC);

/// The rules that are in force.
#[map]
pub static RULES: HashMap<RuleKey, RuleValue> =
    HashMap::with_max_entries(MAX_AGENTS * 4096, BPF_F_NO_PREALLOC);

/// What agents and rules may use up; place 0 stands for none. The daemon, whose proxy uses it up too, has it in
/// its memory.
#[map]
pub static BUDGETS: Array<Budget> = Array::with_max_entries(MAX_BUDGETS + 1, BPF_F_MMAPABLE);

/// Where redirected sockets wanted to go.
#[map]
pub static ORIGINS: HashMap<OriginKey, OriginValue> =
    HashMap::with_max_entries(MAX_AGENTS * MAX_SOCKETS_PER_AGENT, BPF_F_NO_PREALLOC);

/// Sockets that have connected and said no name yet, by their cookies: what they send is judged as they
/// send it.
#[map]
pub static SILENT: SockHash<u64> = SockHash::with_max_entries(MAX_AGENTS * MAX_SILENT_PER_AGENT, 0);

/// Agent to the number of its sockets that hold a place in [`SILENT`]. The programs make the entries.
#[map]
pub static SILENT_COUNTS: HashMap<u32, u64> = HashMap::with_max_entries(MAX_AGENTS, 0);

/// The flows that have named their server.
#[map]
pub static NAMED_FLOWS: HashMap<NamedFlowKey, NamedFlow> =
    HashMap::with_max_entries(MAX_AGENTS * MAX_SOCKETS_PER_AGENT, BPF_F_NO_PREALLOC);

/// Index of the host's end of a link to the sealed agent behind it.
#[map]
pub static LINKS: HashMap<u32, LinkConfig> = HashMap::with_max_entries(MAX_AGENTS, 0);

/// Known flows of sealed agents, in places of their own: an agent crowds out none but its own.
#[map]
pub static FLOWS: Array<KnownFlow> = Array::with_max_entries(MAX_FLOWS, 0);

/// Exact counters of denials. The daemon makes the entries with the agent.
#[map]
pub static COUNTERS: HashMap<CounterKey, u64> = HashMap::with_max_entries(MAX_AGENTS * 32, 0);

/// Denials for the daemon: [`egress_common::Event`], and [`egress_common::NameEvent`], which is longer. When it is full, [`egress_common::LOST_EVENTS`] counts.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What is known of each socket; the kernel frees it with the socket.
#[btf_map]
static SOCKETS: SkStorage<Socket> = SkStorage::new();

/// What is known of one socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Socket {
    pub agent: u32,
    /// Thread group id of the creator.
    pub pid: u32,
    /// Of what is known of the direct flow, and of what was used up: see [`crate::note`].
    pub flow_version: u64,
    pub paid_version: u64,
    pub command: [u8; 16],
    /// Bits of [`crate::service::Service`]: where this socket was sent.
    pub redirects: u32,
    /// 1 while this socket holds a place in [`SOCKET_COUNTS`].
    pub counted: u32,
    /// 1 while `origin` is in [`ORIGINS`].
    pub has_origin: u32,
    /// The rule of the direct flow, or 0.
    pub flow_rule: u32,
    pub flow_port: u16,
    pub original_port: u16,
    pub flow_transport: u32,
    /// The policy by which the direct flow was judged last.
    pub flow_generation: u32,
    /// How far the direct flow has come that must name its server: a [`egress_common::GateState`].
    pub gate: u16,
    /// 1 while this socket holds a place in [`SILENT_COUNTS`].
    pub silent: u16,
    /// The place of the budget of `flow_rule`, or 0.
    pub flow_budget: u32,
    /// 1 once the direct flow had nothing left to use up.
    pub is_cut: u32,
    /// Destination of the direct flow.
    pub flow_address: Address,
    /// The last destination of datagrams for which a flow was used up.
    pub paid_address: Address,
    pub paid_port: u32,
    /// What the agent asked for before the last redirect.
    pub original_address: Address,
    pub origin: OriginKey,
    pub zero: u32,
}

/// What sockets say whose flows must name their servers; the kernel frees it with the socket. Not in a
/// place for each processor: whoever sends can be interrupted by what leaves.
#[btf_map]
static SPOKEN: SkStorage<Spoken> = SkStorage::new();

/// What one socket said. Only who holds the socket's lock writes here, but for `heard`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Spoken {
    /// Of [`NAMED_FLOWS`].
    pub key: NamedFlowKey,
    /// Sequence number of the first octet.
    pub first: u32,
    /// That of the server's.
    pub server_first: u32,
    /// Up to where the client's bytes were judged, after a retry.
    pub judged: u32,
    /// How often a hello that was not all there was held back since more of it came.
    pub held: u32,
    /// Octets of it that were there then.
    pub held_at: u32,
    /// 1 if the server spoke first.
    pub heard: u32,
    /// 1 while `key` is in [`NAMED_FLOWS`].
    pub named: u32,
    /// 1 if what leaves of the hello must lie at `place`.
    pub is_long: u32,
    /// Where the hello lay when it was read.
    pub place: Place,
    pub hello: Hello,
    /// The hello as a packet shows it.
    pub shown: Hello,
    pub flow: NamedFlow,
    /// The types of a hello's extensions.
    pub kinds: [u16; MAX_EXTENSIONS as usize],
    /// The name as a packet shows it.
    pub shown_name: [u8; 256],
}

impl Spoken {
    /// Whether the one record that may stand before a second hello has left already.
    #[inline(always)]
    pub fn has_changed(&self) -> bool {
        self.judged != self.hello.length
    }
}

/// What the socket `sk` said, if its flow must name its server.
#[inline(always)]
pub fn spoken<'a>(sk: *mut c_void) -> Option<&'a mut Spoken> {
    let storage = ptr::addr_of!(SPOKEN).cast_mut().cast();
    unsafe { bpf_sk_storage_get(storage, sk, ptr::null_mut(), 0).cast::<Spoken>().as_mut() }
}

/// As [`spoken`], after making room for it.
#[inline(always)]
pub fn spoken_or_insert<'a>(sk: *mut c_void) -> Option<&'a mut Spoken> {
    let storage = ptr::addr_of!(SPOKEN).cast_mut().cast();
    let flags = BPF_SK_STORAGE_GET_F_CREATE as u64;
    unsafe { bpf_sk_storage_get(storage, sk, ptr::null_mut(), flags).cast::<Spoken>().as_mut() }
}

/// What is known of the socket `sk`, which must be a full socket.
#[inline(always)]
pub fn socket<'a>(sk: *mut c_void) -> Option<&'a mut Socket> {
    let found = unsafe { bpf_sk_storage_get(sockets(), sk, ptr::null_mut(), 0) };
    unsafe { found.cast::<Socket>().as_mut() }
}

/// As [`socket`], after writing `first` if nothing is known.
#[inline(always)]
pub fn socket_or_insert<'a>(sk: *mut c_void, first: &mut Socket) -> Option<&'a mut Socket> {
    let first: *mut Socket = first;
    let flags = BPF_SK_STORAGE_GET_F_CREATE as u64;
    let found = unsafe { bpf_sk_storage_get(sockets(), sk, first.cast(), flags) };
    unsafe { found.cast::<Socket>().as_mut() }
}

/// Adds `amount` to a counter in a map, whatever other processors do.
#[inline(always)]
pub fn add(counter: *mut u64, amount: i64) {
    // The BPF target has no atomic read-modify-write in core (its `atomic_cas` is off).
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) amount);
    }
}

/// As [`add`], modulo 2^64; returns what was there.
#[inline(always)]
pub fn fetch_add(counter: *mut u64, amount: u64) -> u64 {
    let mut held = amount;
    unsafe {
        core::arch::asm!("{1} = atomic_fetch_add((u64 *)({0} + 0), {1})", in(reg) counter, inout(reg) held);
    }
    held
}

/// Writes `new` where `old` stands, whatever other processors do; false if something else does.
#[inline(always)]
pub fn replace(place: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    unsafe {
        core::arch::asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) place, in(reg) new, inout("r0") found);
    }
    found == old
}

#[inline(always)]
fn sockets() -> *mut c_void {
    ptr::addr_of!(SOCKETS).cast_mut().cast()
}
