//! The ClientHello in a handshake that has no records around it (RFC 9001, section 4.1.3). Pure.

use super::stream::MAX_HELLO;
use crate::{
    policy::{HostName, Reason},
    proxy::hello::{HelloReader, Misread},
};

/// A ClientHello that names one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub name: HostName,
    pub has_ech: bool,
    /// Octets of it.
    pub length: usize,
}

/// Reads the ClientHello at the start of `handshake`. None as long as it is not whole.
///
/// # Errors
/// It is no ClientHello with exactly one DNS name, or is longer than [`MAX_HELLO`].
pub fn message(handshake: &[u8]) -> Result<Option<Hello>, Misread> {
    let Some((&[kind, high, middle, low], _)) = handshake.split_first_chunk() else { return Ok(None) };
    if kind != 1 {
        return Err(Misread::because(Reason::HelloMalformed));
    }
    let length = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_HELLO {
        return Err(Misread::explained(Reason::HelloTooLarge, "longer than 16 KiB"));
    }
    let Some(message) = handshake.get(..length) else { return Ok(None) };
    let mut record = vec![0x16, 3, 1];
    record.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(message);
    let name = HelloReader::new().feed(&record)?.ok_or(Misread::because(Reason::HelloMalformed))?;
    Ok(Some(Hello { name, has_ech: false, length }))
}
