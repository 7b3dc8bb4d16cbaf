//! Connects to upstreams: only where a permit says, and nowhere else.

use super::wire::{UpstreamStream, Wire};
use crate::policy::Permit;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// Connects to the address of `permit`.
///
/// # Errors
/// The permit names no address, or the connection fails or takes longer than [`TIMEOUT`].
pub async fn dial(permit: &Permit) -> Result<UpstreamStream, DialError> {
    dial_until(permit, Instant::now() + TIMEOUT).await
}

/// Connects to the first of `permits` that answers. At most [`MAX_ATTEMPTS`] are tried, each with
/// an equal share of the time that is left of [`TIMEOUT`].
///
/// # Errors
/// The last error, if none answers.
pub async fn dial_first(permits: &[Permit]) -> Result<(&Permit, UpstreamStream), DialError> {
    let end = Instant::now() + TIMEOUT;
    let mut error = DialError::NoAddress;
    let attempts = permits.len().min(MAX_ATTEMPTS);
    for (tried, permit) in permits.iter().take(attempts).enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(attempts - tried).unwrap_or(1);
        match dial_until(permit, Instant::now() + share).await {
            Ok(upstream) => return Ok((permit, upstream)),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// Why an upstream cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("permit names no address to connect to")]
    NoAddress,
    #[error("failed to connect to `{0}` in time")]
    Timeout(SocketAddr),
    #[error("failed to connect to `{address}`: {error}")]
    Connect { address: SocketAddr, error: io::Error },
}

/// How long an agent waits for an upstream that does not answer: three SYNs.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The most addresses of one name that are tried.
pub const MAX_ATTEMPTS: usize = 8;

async fn dial_until(permit: &Permit, end: Instant) -> Result<UpstreamStream, DialError> {
    let address = SocketAddr::new(permit.address().ok_or(DialError::NoAddress)?, permit.port());
    let failed = |error| DialError::Connect { address, error };
    match timeout_at(end, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => Ok(UpstreamStream(Wire::to_upstream(tcp).map_err(failed)?)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_elapsed) => Err(DialError::Timeout(address)),
    }
}
