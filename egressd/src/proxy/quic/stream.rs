//! The handshake of a client, put together from pieces in any order (RFC 9000, section 19.6). Pure.

use std::ops::Range;

/// What has come of one stream. Each octet is what came first for it.
#[derive(Debug, Default)]
pub struct CryptoStream {
    bytes: Vec<u8>,
    /// What has come of `bytes`: sorted, and neither touching nor overlapping.
    known: Vec<Range<usize>>,
}

/// Why a piece is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the handshake is longer than {MAX_STREAM} octets")]
    Long,
    #[error("the handshake comes in more than {MAX_PIECES} pieces at a time")]
    Scattered,
    #[error("the handshake is said twice, in different words")]
    Contradicted,
}

/// The most of a client's handshake in Initials: two ClientHellos of [`MAX_HELLO`]. Post-quantum key
/// shares bring one to 2 KiB. A client that gets no answer stops after some 14 KiB (RFC 9002, section 7.2).
pub const MAX_STREAM: usize = 2 * MAX_HELLO;

/// The largest ClientHello, with its header.
pub const MAX_HELLO: usize = 16 * 1024;

/// The most gaps between pieces. Browsers that shuffle them make some 20.
pub const MAX_PIECES: usize = 128;

impl CryptoStream {
    /// Takes a piece.
    ///
    /// # Errors
    /// It contradicts what has come before, or goes beyond a bound. Two servers could read such a stream in
    /// two ways.
    pub fn take(&mut self, offset: u64, piece: &[u8]) -> Result<(), Unfit> {
        let start = usize::try_from(offset).map_err(|_| Unfit::Long)?;
        let end = start.checked_add(piece.len()).filter(|end| *end <= MAX_STREAM).ok_or(Unfit::Long)?;
        if piece.is_empty() {
            return Ok(());
        }
        if self.contradicts(start, piece) {
            return Err(Unfit::Contradicted);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(piece);
        self.know(start..end)
    }

    /// What has come without a gap.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        match self.known.first() {
            Some(first) if first.start == 0 => &self.bytes[first.clone()],
            Some(_) | None => &[],
        }
    }

    /// Offset behind the last octet that has come.
    #[must_use]
    pub fn end(&self) -> usize {
        self.bytes.len()
    }

    fn contradicts(&self, start: usize, piece: &[u8]) -> bool {
        self.known.iter().any(|known| {
            let (from, to) = (known.start.max(start), known.end.min(start + piece.len()));
            from < to && self.bytes[from..to] != piece[from - start..to - start]
        })
    }

    fn know(&mut self, mut new: Range<usize>) -> Result<(), Unfit> {
        let before = self.known.partition_point(|known| known.end < new.start);
        let behind = self.known.partition_point(|known| known.start <= new.end);
        if let (Some(first), Some(last)) = (self.known.get(before), self.known[..behind].last())
            && before < behind
        {
            new = first.start.min(new.start)..last.end.max(new.end);
        }
        self.known.splice(before..behind, [new]);
        if self.known.len() > MAX_PIECES { Err(Unfit::Scattered) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, sample::subsequence};

    #[test]
    fn pieces_come_in_any_order_and_may_overlap() {
        let mut stream = CryptoStream::default();
        for (offset, piece) in [(4, &b"o wor"[..]), (9, b"ld"), (2, b"llo"), (20, b"late")] {
            stream.take(offset, piece).unwrap();
            assert_eq!(stream.start(), b"");
        }
        stream.take(0, b"hello").unwrap();
        assert_eq!(stream.start(), b"hello world");
        assert_eq!(stream.end(), 24);
    }

    #[test]
    fn what_was_said_cannot_be_said_otherwise() {
        let mut stream = CryptoStream::default();
        stream.take(10, b"ok.test").unwrap();
        stream.take(8, b"--ok.test--").unwrap();
        assert_eq!(stream.take(10, b"no.test"), Err(Unfit::Contradicted));
        assert_eq!(stream.take(0, b"----------ok.tesT"), Err(Unfit::Contradicted));
        assert_eq!(stream.take(18, b".test"), Err(Unfit::Contradicted));
    }

    #[test]
    fn a_stream_has_bounds() {
        let mut stream = CryptoStream::default();
        assert_eq!(stream.take(u64::MAX, b"x"), Err(Unfit::Long));
        assert_eq!(stream.take(MAX_STREAM as u64, b"x"), Err(Unfit::Long));
        assert_eq!(stream.take(MAX_STREAM as u64 - 1, b"x"), Ok(()));
        let taken = (0..).map(|piece| stream.take(2 * piece, b"x")).take_while(Result::is_ok).count();
        assert_eq!(taken, MAX_PIECES - 1);
    }

    proptest! {
        #[test]
        fn any_cover_of_a_stream_makes_it_whole(
            text in prop::collection::vec(any::<u8>(), 1..60),
            cuts in subsequence((1..60).collect::<Vec<usize>>(), 0..20),
            shuffle in prop::collection::vec(any::<prop::sample::Index>(), 40),
            again in any::<prop::sample::Index>(),
        ) {
            let mut ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            ends.push(text.len());
            let mut pieces: Vec<(usize, usize)> =
                [0].into_iter().chain(ends.clone()).zip(ends.clone()).collect();
            pieces.push((0, again.index(text.len()) + 1));
            for (at, with) in shuffle.iter().enumerate() {
                let (at, with) = (at % pieces.len(), with.index(pieces.len()));
                pieces.swap(at, with);
            }
            let mut stream = CryptoStream::default();
            for (start, end) in pieces {
                stream.take(start as u64, &text[start..end]).unwrap();
            }
            prop_assert_eq!(stream.start(), &text[..]);
        }
    }
}
