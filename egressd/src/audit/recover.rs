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

pub(super) fn read_lines(bytes: &[u8]) -> Recovered {
    let ends_within_a_line = bytes.last().is_some_and(|octet| *octet != b'\n');
    let mut lines: Vec<Line> = Vec::new();
    for line in bytes.split(|octet| *octet == b'\n').filter_map(read_line) {
        // Numbers that went back are of another numbering.
        if lines.last().is_some_and(|last| last.seq() >= line.seq()) {
            lines.clear();
        }
        lines.push(line);
    }
    let last_line = bytes.rsplit(|octet| *octet == b'\n').next().and_then(read_line);
    let torn = ends_within_a_line && last_line.is_none();
    let last_seq = lines.last().map_or(0, Line::seq);
    // The torn line had a number, too.
    let next_seq = last_seq + 1 + u64::from(torn);
    Recovered { lines, next_seq, torn, ends_within_a_line }
}

fn read_line(bytes: &[u8]) -> Option<Line> {
    serde_json::from_slice::<Line>(bytes).ok().filter(|line| line.seq() < MAX_SEQ)
}

/// Octets that are read of the end: enough to fill half the feed with what was there before a
/// restart, many times the longest line, and read in the blink of an eye.
const END: u64 = 4 << 20;
/// Numbers that every reader of JSON keeps exact (RFC 8259, section 6); nobody comes so far.
const MAX_SEQ: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_line_is_skipped() {
        let recovered = read_lines(format!("\0\0\nnonsense\n{}{}", gap(4), gap(u64::MAX)).as_bytes());
        assert_eq!((seqs(&recovered), recovered.next_seq, recovered.torn), (vec![4], 5, false));
    }

    #[test]
    fn only_the_last_numbering_is_kept() {
        let recovered = read_lines([gap(8), gap(9), gap(3), gap(4)].concat().as_bytes());
        assert_eq!((seqs(&recovered), recovered.next_seq), (vec![3, 4], 5));
    }

    fn gap(seq: u64) -> String {
        format!("{{\"v\":1,\"seq\":{seq},\"time\":\"2026-11-21T10:15:14.123Z\",\"lost\":3,\"at\":\"log\"}}\n")
    }

    fn seqs(recovered: &Recovered) -> Vec<u64> {
        recovered.lines.iter().map(Line::seq).collect()
    }
}
