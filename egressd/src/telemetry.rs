//! The daemon's own log, on stderr.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts to log: what `EGRESSD_LOG` names, else INFO and above.
pub fn start() {
    let filter = EnvFilter::try_from_env("EGRESSD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
