//! Lines of a log as a reader finds them, who may be older than the daemon that wrote them.

use super::record::{Line, SCHEMA_VERSION};
use serde::Deserialize;

/// Reads one line of a log, with its newline or without.
///
/// # Errors
/// It is to be skipped.
pub fn read_line(octets: &[u8]) -> Result<Line, Unread> {
    let Head { v, seq } = serde_json::from_slice(octets).map_err(|_| Unread::Torn)?;
    match serde_json::from_slice(octets) {
        Ok(line) if v <= SCHEMA_VERSION => Ok(line),
        Ok(_) | Err(_) => Err(Unread::Unknown { seq }),
    }
}

/// Why a line says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// Its kind, a word in it, or its version is not known.
    Unknown {
        /// Its number; lines that are in streams only have none.
        seq: Option<u64>,
    },
    /// A part of a line, or none at all.
    Torn,
}

impl Unread {
    /// The number that the line has, as far as it can be told.
    #[must_use]
    pub fn seq(self) -> Option<u64> {
        match self {
            Self::Unknown { seq } => seq,
            Self::Torn => None,
        }
    }
}

/// What all lines have.
#[derive(Deserialize)]
struct Head {
    v: u32,
    seq: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_known_is_told_from_one_that_is_torn() {
        let gap = r#"{"v":1,"seq":4,"time":"2026-11-21T10:15:14.123Z","lost":3,"at":"log","agent":null}"#;
        assert!(matches!(read_line(gap.as_bytes()), Ok(Line::Gap(gap)) if gap.seq == 4));
        let unknown = |seq| Err(Unread::Unknown { seq });
        for (line, found) in [
            (r#"{"v":1,"seq":100,"newkind":1}"#.to_owned(), unknown(Some(100))),
            (gap.replace("\"log\"", "\"sky\""), unknown(Some(4))),
            (gap.replace("\"v\":1", "\"v\":2"), unknown(Some(4))),
            (r#"{"v":1,"missed":3}"#.to_owned(), unknown(None)),
            (gap[..30].to_owned(), Err(Unread::Torn)),
            ("{}".to_owned(), Err(Unread::Torn)),
            ("\0\0".to_owned(), Err(Unread::Torn)),
        ] {
            assert_eq!(read_line(line.as_bytes()), found, "{line}");
        }
    }
}
