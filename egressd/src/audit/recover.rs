//! What a log that was written before holds at its end.

use super::{
    read::{Unread, read_line},
    record::Line,
};
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
    // Also where only lines of a later version are there, whose numbers are taken.
    if last.next_seq > 1 + u64::from(last.torn) {
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
    let (mut lines, mut last_seq, mut torn) = (Vec::new(), 0, false);
    for octets in bytes.split(|octet| *octet == b'\n') {
        let line = read_line(octets);
        torn = line == Err(Unread::Torn);
        let seq = line.as_ref().map_or_else(|unread| unread.seq(), |line| Some(line.seq()));
        let Some(seq) = seq.filter(|seq| *seq < MAX_SEQ) else { continue };
        // Numbers that went back are of another numbering.
        if seq <= last_seq {
            lines.clear();
        }
        last_seq = seq;
        lines.extend(line);
    }
    let torn = torn && ends_within_a_line;
    // The torn line had a number, too.
    let next_seq = last_seq + 1 + u64::from(torn);
    Recovered { lines, next_seq, torn, ends_within_a_line }
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

    #[test]
    fn the_number_of_a_line_that_is_not_known_is_taken() {
        let later = |seq: u64| format!("{{\"v\":2,\"seq\":{seq},\"kind\":\"of a later version\"}}\n");
        let recovered = read_lines([gap(4), later(5)].concat().as_bytes());
        assert_eq!((seqs(&recovered), recovered.next_seq, recovered.torn), (vec![4], 6, false));
        let recovered = read_lines(later(7).trim_end().as_bytes());
        assert_eq!((seqs(&recovered), recovered.next_seq, recovered.torn), (vec![], 8, false));
    }

    fn gap(seq: u64) -> String {
        format!("{{\"v\":1,\"seq\":{seq},\"time\":\"2026-11-21T10:15:14.123Z\",\"lost\":3,\"at\":\"log\"}}\n")
    }

    fn seqs(recovered: &Recovered) -> Vec<u64> {
        recovered.lines.iter().map(Line::seq).collect()
    }
}
