//! Where the body of an HTTP/1 message ends. It counts bytes and never changes them.

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(u64),
    Chunked,
    /// Only a response can end with its connection.
    UntilClose,
}

/// What may follow the last chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    Pass,
    /// A field behind the body could change what the head has said.
    Refuse,
}

/// Follows one body to its end.
#[derive(Debug)]
pub struct Body {
    state: State,
    trailers: Trailers,
    /// Octets since the last octet of data that were not data.
    overhead: usize,
}

impl Body {
    #[must_use]
    pub fn new(framing: Framing, trailers: Trailers) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Counted(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::Endless,
        };
        Self { state, trailers, overhead: 0 }
    }

    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.state == State::End
    }

    /// Whether the end of the connection ends this body properly.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::End | State::Endless)
    }

    /// How many of `bytes` belong to the body, and so may be passed on.
    ///
    /// # Errors
    /// The chunks are not framed as RFC 9112, section 7.1 says: line ends are CR LF and nothing
    /// else, for a lone LF is where smuggling starts.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        let mut taken = 0;
        while taken < bytes.len() && self.state != State::End {
            taken += self.step(&bytes[taken..])?;
        }
        Ok(taken)
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, FramingError> {
        match self.state {
            State::Endless => Ok(bytes.len()),
            State::Counted(left) => Ok(self.count(left, bytes.len(), State::End, State::Counted)),
            State::Data(left) => Ok(self.count(left, bytes.len(), State::DataCr, State::Data)),
            State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::DataCr
            | State::DataLf
            | State::LineStart
            | State::Line
            | State::LineLf
            | State::LastLf => {
                self.overhead += 1;
                if self.overhead > MAX_OVERHEAD {
                    return Err(FramingError::Overhead);
                }
                self.state = self.framed(bytes[0])?;
                Ok(1)
            }
            State::End => Ok(0),
        }
    }

    fn count(&mut self, left: u64, at_hand: usize, then: State, with: fn(u64) -> State) -> usize {
        self.overhead = 0;
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(at_hand);
        let left = left - taken as u64;
        self.state = if left == 0 { then } else { with(left) };
        taken
    }

    fn framed(&self, octet: u8) -> Result<State, FramingError> {
        match (self.state, octet) {
            (State::Size { value, digits }, _) if octet.is_ascii_hexdigit() && digits < 15 => {
                let digit = (octet as char).to_digit(16).unwrap_or_default();
                Ok(State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 })
            }
            (State::Size { value, digits }, b'\r') if digits > 0 => Ok(State::SizeLf { value }),
            (State::Size { value, digits }, b';') if digits > 0 => Ok(State::Extension { value }),
            (State::Extension { value }, b'\r') => Ok(State::SizeLf { value }),
            (State::Extension { value }, _) if is_text(octet) => Ok(State::Extension { value }),
            (State::SizeLf { value: 0 }, b'\n') => Ok(State::LineStart),
            (State::SizeLf { value }, b'\n') => Ok(State::Data(value)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { value: 0, digits: 0 }),
            (State::LineStart, b'\r') => Ok(State::LastLf),
            (State::LastLf, b'\n') => Ok(State::End),
            (State::LineStart | State::Line, _) if self.trailers == Trailers::Refuse => {
                Err(FramingError::Trailer)
            }
            (State::Line, b'\r') => Ok(State::LineLf),
            (State::LineStart | State::Line, _) if is_text(octet) => Ok(State::Line),
            (State::LineLf, b'\n') => Ok(State::LineStart),
            _ => Err(FramingError::Chunk(octet)),
        }
    }
}

/// Why a body cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("chunked body has octet 0x{0:02x} where its framing allows none")]
    Chunk(u8),
    #[error("chunked body has more than {MAX_OVERHEAD} octets of framing between two chunks")]
    Overhead,
    #[error("chunked request body has trailers")]
    Trailer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Endless,
    Counted(u64),
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data(u64),
    DataCr,
    DataLf,
    LineStart,
    Line,
    LineLf,
    LastLf,
    End,
}

/// The most octets of chunk sizes, extensions and trailers between two octets of data: as much
/// as a head may have, so that no body is an endless run of framing.
const MAX_OVERHEAD: usize = 64 * 1024;

fn is_text(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_its_framing_says_at_every_split() {
        ends(Framing::Length(3), b"abcGET", 3);
        ends(Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nGET", 13);
        ends(Framing::Chunked, b"00A;x=y\r\n0123456789\r\n0;z\r\n\r\nGET", 28);
        ends(Framing::Empty, b"GET", 0);
    }

    #[test]
    fn chunks_that_two_parsers_could_read_differently_are_refused() {
        for body in [
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "\r\n",
            "0x3\r\n",
            " 3\r\n",
            "3 \r\n",
            "+3\r\n",
            "-1\r\n",
            "3;a\nb\r\n",
            "3;a\rb",
            "3;\0",
            "g\r\n",
            "1000000000000000\r\n",
            "0\r\n\n",
            "0\r\nHost: evil.test\r\n\r\n",
            "0\r\n\r\r",
        ] {
            let mut follower = Body::new(Framing::Chunked, Trailers::Refuse);
            assert!(follower.advance(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn the_trailers_of_a_response_pass() {
        let mut body = Body::new(Framing::Chunked, Trailers::Pass);
        let bytes = b"0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\nrest";
        assert_eq!(body.advance(bytes), Ok(bytes.len() - 4));
        assert!(body.is_at_end());
    }

    #[test]
    fn framing_without_data_has_a_bound() {
        let mut body = Body::new(Framing::Chunked, Trailers::Pass);
        let mut bytes = b"1;".to_vec();
        bytes.extend(std::iter::repeat_n(b'a', MAX_OVERHEAD));
        assert_eq!(body.advance(&bytes), Err(FramingError::Overhead));
    }

    fn ends(framing: Framing, bytes: &[u8], at: usize) {
        for split in 0..=bytes.len() {
            let mut body = Body::new(framing, Trailers::Refuse);
            let mut taken = body.advance(&bytes[..split]).unwrap();
            if taken == split {
                taken += body.advance(&bytes[split..]).unwrap();
            }
            assert_eq!((taken, body.is_at_end()), (at, true), "split at {split}");
        }
    }
}
