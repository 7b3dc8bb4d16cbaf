//! What an agent may keep over its own network namespace.

use std::fmt;

/// A capability (capabilities(7)) that a sealed agent may be left: it reaches the agent's own network
/// namespace and no other, for what comes out of that is judged frame by frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// Raw and packet sockets.
    NetRaw,
    /// Devices, addresses, routes and firewalls of its own namespace.
    NetAdmin,
}

impl Capability {
    /// Every capability there is.
    pub const ALL: [Self; 2] = [Self::NetRaw, Self::NetAdmin];

    /// The word of policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetRaw => "net_raw",
            Self::NetAdmin => "net_admin",
        }
    }

    /// The capability that a word of a policy file names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == word)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
