//! The plain question, read without a copy: what stub resolvers send all day.
//!
//! It reads no message that `query::parse` refuses, and reads the rest alike. What it is not sure about
//! is left to that one.

use crate::dns::query::{CLASS_IN, Edns, HEADER, OPCODE, QR, TC, TYPE_OPT};

/// A question of the plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain<'a> {
    pub id: [u8; 2],
    /// The header's second word.
    pub flags: u16,
    /// The question section in the agent's own spelling.
    pub question: &'a [u8],
    pub edns: Option<Edns>,
}

impl<'a> Plain<'a> {
    /// Reads one message; None where it is not of the plain form.
    #[must_use]
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let (header, body) = message.split_first_chunk::<HEADER>()?;
        let [id_high, id_low, high, low, counts @ ..] = *header;
        let flags = u16::from_be_bytes([high, low]);
        if flags & (QR | OPCODE | TC) != 0 {
            return None;
        }
        let has_edns = match counts {
            [0, 1, 0, 0, 0, 0, 0, 0] => false,
            [0, 1, 0, 0, 0, 0, 0, 1] => true,
            _ => return None,
        };
        let (question, rest) = body.split_at_checked(name_length(body)? + KIND_AND_CLASS)?;
        if !question.ends_with(&CLASS_IN.to_be_bytes()) {
            return None;
        }
        let edns = match (has_edns, rest) {
            (true, record) => Some(edns(record)?),
            (false, []) => None,
            (false, _) => return None,
        };
        Some(Self { id: [id_high, id_low], flags, question, edns })
    }
}

/// What tells one question from another: name and type, in lower case. The octets of lengths are no
/// letters.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    octets: [u8; MAX_WIRE_NAME + 2],
    length: usize,
}

impl Key {
    /// The key of a question section, whose name is at most [`MAX_WIRE_NAME`] octets; of a longer one,
    /// the key of no question.
    #[must_use]
    pub fn of(question: &[u8]) -> Self {
        let mut octets = [0; MAX_WIRE_NAME + 2];
        let length = question.len().saturating_sub(2);
        let (Some(to), Some(from)) = (octets.get_mut(..length), question.get(..length)) else {
            return Self { octets, length: 0 };
        };
        to.copy_from_slice(from);
        if let Some(name) = length.checked_sub(2).and_then(|end| to.get_mut(..end)) {
            name.make_ascii_lowercase();
        }
        Self { octets, length }
    }

    #[must_use]
    pub fn as_octets(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// Octets of the name that `body` begins with, its root among them.
fn name_length(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*body.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            64.. => return None,
        }
        // The root's octet is still to come.
        if at >= MAX_WIRE_NAME {
            return None;
        }
    }
}

/// The OPT record that ends a message. Its options are skipped.
fn edns(record: &[u8]) -> Option<Edns> {
    let (fixed, mut options) = record.split_first_chunk::<OPT>()?;
    let [root, kind_high, kind_low, high, low, _extended_code, version, _, _, length @ ..] = *fixed;
    if root != 0 || u16::from_be_bytes([kind_high, kind_low]) != TYPE_OPT || version != 0 {
        return None;
    }
    if options.len() != usize::from(u16::from_be_bytes(length)) {
        return None;
    }
    while let [_, _, high, low, body @ ..] = options {
        (_, options) = body.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    }
    options.is_empty().then_some(Edns { payload: u16::from_be_bytes([high, low]) })
}

/// RFC 1035, section 2.3.4.
const MAX_WIRE_NAME: usize = 255;
const KIND_AND_CLASS: usize = 4;
/// Octets of an OPT record without options (RFC 6891, section 6.1.2).
const OPT: usize = 11;
