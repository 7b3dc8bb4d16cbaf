//! Datagrams that wait until their connection is judged. Pure.

use super::connection::Number;

/// In the order in which they came.
#[derive(Debug, Default)]
pub struct Held {
    datagrams: Vec<(Option<Number>, Vec<u8>)>,
    octets: usize,
}

/// The most datagrams of one flow that wait. A client sends some ten before it wants an answer (RFC 9002,
/// section 7.2), among them its 0-RTT data.
pub const MAX_DATAGRAMS: usize = 32;

/// The most octets of them.
pub const MAX_OCTETS: usize = 48 * 1024;

impl Held {
    /// Keeps a datagram of a connection; None where it cannot be told of which. What does not fit is gone: it
    /// will be sent again.
    pub fn keep(&mut self, number: Option<Number>, datagram: &[u8]) {
        if self.datagrams.len() < MAX_DATAGRAMS && self.octets + datagram.len() <= MAX_OCTETS {
            self.octets += datagram.len();
            self.datagrams.push((number, datagram.to_vec()));
        }
    }

    /// Takes out what is of a connection, or of one that cannot be told.
    pub fn take(&mut self, number: Number) -> Vec<Vec<u8>> {
        let is_its = |held: &mut (Option<Number>, Vec<u8>)| held.0.is_none_or(|held| held == number);
        let taken: Vec<Vec<u8>> =
            self.datagrams.extract_if(.., is_its).map(|(_, datagram)| datagram).collect();
        self.octets -= taken.iter().map(Vec::len).sum::<usize>();
        taken
    }

    /// Forgets what is of a connection.
    pub fn forget(&mut self, number: Number) {
        self.datagrams.retain(|(held, _)| *held != Some(number));
        self.octets = self.datagrams.iter().map(|(_, datagram)| datagram.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_comes_out_in_order() {
        let mut held = Held::default();
        let (one, two) = (Number(1), Number(2));
        held.keep(Some(one), b"a");
        held.keep(Some(two), b"b");
        held.keep(None, b"c");
        assert_eq!(held.take(one), [b"a", b"c"]);
        held.forget(two);
        assert_eq!((held.octets, held.datagrams.len()), (0, 0));
        for _ in 0..2 * MAX_DATAGRAMS {
            held.keep(None, &[0; MAX_OCTETS / 8]);
        }
        assert_eq!(held.datagrams.len(), 8);
        assert_eq!(held.take(one).len(), 8);
        for _ in 0..2 * MAX_DATAGRAMS {
            held.keep(None, b"x");
        }
        assert_eq!(held.datagrams.len(), MAX_DATAGRAMS);
    }
}
