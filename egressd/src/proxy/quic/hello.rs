//! The ClientHello in a handshake that has no records around it (RFC 9001, section 4.1.3). Pure.

use super::stream::MAX_HELLO;
use crate::{
    policy::Reason,
    proxy::hello::{self, Hello, Misread},
};

/// Reads the ClientHello at the start of `handshake`. None as long as it is not whole.
///
/// # Errors
/// It is no ClientHello with exactly one DNS name, or is longer than [`MAX_HELLO`].
pub fn message(handshake: &[u8]) -> Result<Option<Hello>, Misread> {
    if let Some(&[_, high, middle, low]) = handshake.first_chunk()
        && 4 + u32::from_be_bytes([0, high, middle, low]) as usize > MAX_HELLO
    {
        return Err(Misread::explained(Reason::HelloTooLarge, "longer than 16 KiB"));
    }
    hello::message(handshake)
}
