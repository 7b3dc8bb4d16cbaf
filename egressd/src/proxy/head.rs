//! Finds the end of an HTTP/1 head in bytes that arrive piece by piece.

/// The largest head, of a request or a response. Servers commonly stop at 8 to 64 KiB.
pub const MAX_HEAD: usize = 64 * 1024;

/// Looks at each octet once, however small the pieces are.
#[derive(Debug, Default)]
pub struct HeadScan {
    scanned: usize,
}

impl HeadScan {
    /// The length of the head at the start of `buffer`, empty line included; None while it is not
    /// all there. `buffer` must start with what it held at the last call.
    ///
    /// # Errors
    /// A line ends with a lone LF, or the head is larger than [`MAX_HEAD`].
    pub fn end(&mut self, buffer: &[u8]) -> Result<Option<usize>, HeadError> {
        while let Some(octet) = buffer.get(self.scanned) {
            let before = &buffer[..self.scanned];
            self.scanned += 1;
            if *octet == b'\n' && !before.ends_with(b"\r") {
                return Err(HeadError::LoneLineFeed);
            }
            if *octet == b'\n' && before.ends_with(b"\r\n\r") {
                return Ok(Some(self.scanned));
            }
            if self.scanned >= MAX_HEAD {
                return Err(HeadError::TooLarge);
            }
        }
        Ok(None)
    }
}

/// Why a head has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("a line of the head ends with a lone line feed")]
    LoneLineFeed,
    #[error("head is larger than {MAX_HEAD} octets")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_first_empty_line_in_pieces_of_every_size() {
        let bytes = b"GET / HTTP/1.1\r\nHost: ok.test\r\n\r\nbody\r\n\r\n";
        for piece in 1..bytes.len() {
            let mut scan = HeadScan::default();
            let ends = (0..bytes.len()).step_by(piece).map(|at| (at + piece).min(bytes.len()));
            assert_eq!(ends.map(|end| scan.end(&bytes[..end]).unwrap()).find_map(|end| end), Some(33));
        }
    }

    #[test]
    fn a_head_without_end_or_with_a_lone_line_feed_is_refused() {
        assert_eq!(HeadScan::default().end(b"GET / HTTP/1.1\n"), Err(HeadError::LoneLineFeed));
        assert_eq!(HeadScan::default().end(&vec![b'a'; MAX_HEAD]), Err(HeadError::TooLarge));
        assert_eq!(HeadScan::default().end(&vec![b'a'; MAX_HEAD - 1]), Ok(None));
    }
}
