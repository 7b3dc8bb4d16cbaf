//! What must not be found in a name.

use std::fmt;

/// Registered secrets and honeytokens, by the names that reports give them.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    held: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    #[must_use]
    pub fn new(held: Vec<(String, Vec<u8>)>) -> Self {
        Self { held }
    }

    /// The name of a secret of which `text` holds at least eight bytes in a row.
    #[must_use]
    pub fn found_in(&self, text: &str) -> Option<&str> {
        let folded = text.to_ascii_lowercase();
        let holds = |secret: &[u8]| {
            let secret = secret.to_ascii_lowercase();
            secret
                .windows(MIN_MATCH)
                .any(|part| folded.as_bytes().windows(MIN_MATCH).any(|have| have == part))
        };
        self.held.iter().find(|(_, secret)| holds(secret)).map(|(name, _)| name.as_str())
    }
}

/// Names only: whoever reads a log is not to learn a secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.held.iter().map(|(name, _)| name)).finish()
    }
}

/// Bytes of a secret in a row that are no accident.
const MIN_MATCH: usize = 8;
