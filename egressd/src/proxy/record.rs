//! TLS records, as they stand before anything is encrypted (RFC 8446, section 5.1).

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: u8,
    pub fragment: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `bytes`; None as long as it is not whole.
    ///
    /// # Errors
    /// What stands there is no record, or one that is longer than a record may be.
    pub fn first(bytes: &'a [u8]) -> Result<Option<Self>, NotARecord> {
        let Some((length, fragment)) = Self::begun(bytes)? else { return Ok(None) };
        Ok((fragment.len() == length).then_some(Self { kind: bytes[0], fragment }))
    }

    /// How long the first record of `bytes` is without its header, and as much of it as is there; None as
    /// long as its header is not whole.
    ///
    /// # Errors
    /// As of [`Self::first`].
    pub fn begun(bytes: &'a [u8]) -> Result<Option<(usize, &'a [u8])>, NotARecord> {
        if bytes.first().is_some_and(|kind| !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(kind)) {
            return Err(NotARecord);
        }
        if bytes.get(1).is_some_and(|major| *major != 3) {
            return Err(NotARecord);
        }
        let Some(([kind, _, _, high, low], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let bound = if *kind == APPLICATION_DATA { MAX_CIPHERTEXT } else { MAX_PLAINTEXT };
        // Only application data may be empty.
        if length > bound || (length == 0 && *kind != APPLICATION_DATA) {
            return Err(NotARecord);
        }
        Ok(Some((length, &rest[..length.min(rest.len())])))
    }

    /// Octets of the header of every record.
    pub const HEADER: usize = 5;

    /// Octets of the record with its header.
    #[must_use]
    pub fn length(&self) -> usize {
        Self::HEADER + self.fragment.len()
    }
}

/// The bytes are no TLS record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARecord;

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
/// First octet of every record that carries a handshake.
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;

/// What stands behind a length of `octets` octets, and the rest.
#[must_use]
pub fn vector(bytes: &[u8], octets: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(octets)?;
    rest.split_at_checked(length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)))
}

const MAX_PLAINTEXT: usize = 1 << 14;
/// Encryption may add this much (RFC 8446, section 5.2; TLS 1.2 allows more, but has no early data).
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
