//! What an agent can do behind a destination, as whoever wrote the rule judged it.

/// What an agent can do behind a destination, as whoever wrote the rule judged it. It decides nothing: it is
/// there for readers, for `egressctl policy check` and for `egressctl explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Risk {
    /// Read what is there.
    Read,
    /// Change what belongs to whom it works for.
    Modify,
    /// Write where strangers can read.
    External,
}

impl Risk {
    pub const ALL: [Self; 3] = [Self::Read, Self::Modify, Self::External];

    /// The word of policy files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Modify => "modify",
            Self::External => "external",
        }
    }
}
