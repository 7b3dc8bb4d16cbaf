//! Whether what is denied stays here.

/// Whether what is denied stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Mode {
    #[default]
    Enforce,
    /// A destination that is denied is reached all the same, and recorded with the reason for which it would
    /// not be.
    Observe,
}
