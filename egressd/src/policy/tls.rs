//! What a rule says of flows that speak TLS.

use super::{host::HostName, inspect::Inspection};
use std::sync::Arc;

/// What a rule with `protocol: tls` or `quic` says of its flows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsTerms {
    pub gate: GateChoice,
    pub ech: Ech,
    /// None: the bytes pass as they come.
    pub inspection: Option<Arc<Inspection>>,
}

impl TlsTerms {
    /// Whether only the proxy can do what the rule says.
    #[must_use]
    pub fn needs_proxy(&self) -> bool {
        self.gate == GateChoice::Proxy || self.inspection.is_some()
    }

    /// Whether a ClientHello for `name` with the extension of Encrypted Client Hello is denied.
    #[must_use]
    pub fn refuses_ech(&self, name: &HostName) -> bool {
        match self.ech {
            Ech::Refuse => true,
            Ech::Allow => false,
            Ech::Grease => CLIENT_FACING.contains(&name.as_str()),
        }
    }
}

/// Who reads the server name of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum GateChoice {
    /// The kernel, where the agent's sockets are in the host's network and the kernel can; else the proxy. A
    /// sealed agent's would need the host to forward.
    #[default]
    Auto,
    /// The kernel, also for a sealed agent; the proxy only where the kernel cannot.
    Kernel,
    /// The proxy, always.
    Proxy,
}

impl GateChoice {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Kernel, Self::Proxy];

    /// The word of policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Proxy => "proxy",
        }
    }
}

/// What becomes of a ClientHello with the extension of Encrypted Client Hello (RFC 9849).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Ech {
    /// It passes where it can only be GREASE: not to a name that is known to face clients for others.
    #[default]
    Grease,
    /// It is denied.
    Refuse,
    /// It passes, though it may hide another name.
    Allow,
}

impl Ech {
    pub const ALL: [Self; 3] = [Self::Grease, Self::Refuse, Self::Allow];

    /// The word of policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grease => "grease",
            Self::Refuse => "refuse",
            Self::Allow => "allow",
        }
    }
}

/// Names that stand in the outer hello for names that are hidden in it: the `public_name` of published
/// ECHConfigs (RFC 9849, section 4).
const CLIENT_FACING: [&str; 3] = ["cloudflare-ech.com", "public.tls-ech.dev", "cover.defo.ie"];
