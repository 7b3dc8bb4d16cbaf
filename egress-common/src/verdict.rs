//! Why the kernel denies.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal,)+) => {
        /// Why a kernel program denies. A closed set; the codes are those of events and counters.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl DropReason {
            /// Every reason there is.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The reason with this code.
            #[must_use]
            pub fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(DropReason::$variant),)+ _ => None }
            }
        }
    };
}

drop_reasons! {
    /// No agent is known for the socket's cgroup.
    AgentUnknown = 1,
    /// Neither a grant nor a network rule covers the address.
    AddressNotGranted = 2,
    /// The grant has expired.
    GrantExpired = 3,
    /// A deny rule covers the address.
    DeniedByRule = 4,
    /// Neither a TCP nor a UDP socket, or an option that could send frames past the programs.
    SocketTypeNotAllowed = 5,
    /// The packet is not plain TCP or UDP.
    PacketNotAllowed = 6,
    /// Nothing may connect to an agent.
    InboundNotAllowed = 7,
    /// The agent has its most redirected sockets, or the kernel is out of memory for one more.
    QuotaExceeded = 8,
    /// The rule behind a live flow is gone.
    RuleRemoved = 9,
    /// The frame's source is not the agent's own.
    SourceForged = 10,
    /// The address is special, and the network rule that holds it does not name it.
    AddressSpecial = 11,
    /// What the rule or the agent may use up is used up.
    BudgetSpent = 12,
    /// Flows by the rule, or of the agent, start faster than they may.
    RateExceeded = 13,
    /// The term of the rule is over.
    RuleExpired = 14,
    /// The device could reach the network, the host or other agents.
    DeviceNotAllowed = 16,
    /// A system call that works around the programs.
    SystemCallNotAllowed = 17,
    /// The abstract Unix socket is none of the agent's own.
    UnixSocketNotAllowed = 18,
    /// The first bytes are not a TLS ClientHello.
    NotTls = 20,
    /// The ClientHello is not valid.
    HelloMalformed = 21,
    /// The ClientHello may be valid, but not in a form that the kernel reads: over several records, longer
    /// than one, with more extensions than [`crate::hello::MAX_EXTENSIONS`].
    HelloUnreadable = 22,
    /// The ClientHello names no server.
    ServerNameMissing = 23,
    /// The server name is not a valid host name.
    NameInvalid = 24,
    /// The server name earned no live grant for this address.
    ServerNameNotGranted = 25,
    /// Encrypted Client Hello to a name that may hide another one.
    EchNotAllowed = 26,
    /// The second ClientHello names another server than the first.
    ServerNameChanged = 27,
    /// Bytes that are no part of a ClientHello that was judged.
    HelloSkipped = 28,
}
