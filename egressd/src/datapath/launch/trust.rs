//! Whom an agent believes: the authorities of the host, and that of inspection, in the place where programs
//! look for the host's.

use super::mounts::{make_read_only, mount_with, named};
use nix::mount::MsFlags;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Has the agent see the file at `source` in each place of this host's authorities. It stays the daemon's
/// own, so that another authority reaches agents that run; they cannot write it.
///
/// # Errors
/// Names the mount that failed.
pub fn believe(source: &Path) -> Result<(), String> {
    for place in places() {
        mount_with(Some(source), &place, MsFlags::MS_BIND).map_err(named("replace", &place))?;
        make_read_only(&place).map_err(named("make read-only", &place))?;
    }
    Ok(())
}

/// What to set, so that programs with authorities of their own look where the host's are. Empty where this
/// host has no such place.
#[must_use]
pub fn trust_variables() -> Vec<(String, String)> {
    let Some(place) = PLACES.iter().find(|place| Path::new(place).is_file()) else { return Vec::new() };
    VARIABLES.map(|name| (name.to_owned(), (*place).to_owned())).to_vec()
}

/// The files behind [`PLACES`], each once.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = PLACES.iter().filter_map(|place| fs::canonicalize(place).ok()).collect();
    places.sort();
    places.dedup();
    places
}

/// Where hosts keep the authorities that they believe: Debian, Alpine and Arch; Fedora; openSUSE; LibreSSL.
const PLACES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Of OpenSSL, rustls and Go; curl; Python's requests and pip; Node; git; cargo.
const VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];
