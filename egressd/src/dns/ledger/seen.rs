//! The names that a zone knows already, by their fingerprints.

use super::limits::MAX_SEEN;

/// At most [`MAX_SEEN`]; the one that was not used for the longest goes first.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The last used is at the end.
    names: Vec<u64>,
}

impl Seen {
    #[must_use]
    pub fn holds(&self, name: u64) -> bool {
        self.names.contains(&name)
    }

    /// Notes a use of `name`.
    pub fn touch(&mut self, name: u64) {
        if let Some(at) = self.names.iter().rposition(|held| *held == name) {
            self.names.remove(at);
        } else if self.names.len() >= MAX_SEEN {
            self.names.remove(0);
        }
        if self.names.capacity() == 0 {
            self.names.reserve_exact(MAX_SEEN);
        }
        self.names.push(name);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    #[cfg(test)]
    pub fn octets(&self) -> usize {
        self.names.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_not_used_for_the_longest_is_forgotten_first() {
        let mut seen = Seen::default();
        (0..256).for_each(|name| seen.touch(name));
        seen.touch(0);
        seen.touch(256);
        assert_eq!((seen.len(), seen.holds(0), seen.holds(1), seen.holds(256)), (256, true, false, true));
        assert_eq!(seen.octets(), 2048);
    }
}
