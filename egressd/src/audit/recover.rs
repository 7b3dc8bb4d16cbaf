//! What a log that was written before holds at its end.

use super::record::Line;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The end of the log as it was found.
#[derive(Debug)]
pub struct Recovered {
    /// The last lines, in their order.
    pub lines: Vec<Line>,
    /// The number of the next line.
    pub next_seq: u64,
    /// The last line was cut off and cannot be read.
    pub torn: bool,
    /// The file does not end with a newline.
    pub ends_within_a_line: bool,
}

impl Default for Recovered {
    fn default() -> Self {
        Self { lines: Vec::new(), next_seq: 1, torn: false, ends_within_a_line: false }
    }
}

/// Reads the end of the log at `path`; of the file `before` it where it has no line.
pub(super) fn recover(path: &Path, before: &Path) -> io::Result<Recovered> {
    let last = read_end(path)?;
    if !last.lines.is_empty() {
        return Ok(last);
    }
    match read_end(before) {
        Ok(earlier) => {
            let next_seq = earlier.next_seq + u64::from(last.torn);
            Ok(Recovered { lines: earlier.lines, next_seq, ..last })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(last),
        Err(error) => Err(error),
    }
}

fn read_end(path: &Path) -> io::Result<Recovered> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(END);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    if start > 0 {
        let first_line =
            bytes.iter().position(|octet| *octet == b'\n').map_or(bytes.len(), |newline| newline + 1);
        bytes.drain(..first_line);
    }
    Ok(read_lines(&bytes))
}

fn read_lines(bytes: &[u8]) -> Recovered {
    let ends_within_a_line = bytes.last().is_some_and(|octet| *octet != b'\n');
    let parse = |line: &[u8]| serde_json::from_slice::<Line>(line).ok();
    let lines: Vec<Line> = bytes.split(|octet| *octet == b'\n').filter_map(parse).collect();
    let torn = ends_within_a_line && bytes.rsplit(|octet| *octet == b'\n').next().and_then(parse).is_none();
    let last_seq = lines.iter().map(Line::seq).max().unwrap_or(0);
    // The torn line had a number, too.
    let next_seq = last_seq.saturating_add(1 + u64::from(torn));
    Recovered { lines, next_seq, torn, ends_within_a_line }
}

/// Octets that are read of the end: enough to fill the feed with what was there before a restart,
/// and many times the longest line.
const END: u64 = 8 << 20;
