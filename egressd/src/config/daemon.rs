//! The daemon's own file, `egressd.yaml`.

use super::{diagnostic::ConfigError, diagnostic::Diagnostic, document::Document, load::read};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// How the daemon runs: where it finds things, and which resolvers it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The resolvers to ask, in order. Empty: the host's own.
    pub upstreams: Vec<SocketAddr>,
    pub policy_dir: PathBuf,
    pub allowlist_dirs: Vec<PathBuf>,
    pub run_dir: PathBuf,
    pub audit_log: PathBuf,
    /// Where the registries of package tools are remembered from one start to the next.
    pub cache_dir: PathBuf,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            policy_dir: PathBuf::from("/etc/egressd/policy.d"),
            allowlist_dirs: vec![
                PathBuf::from("/etc/egressd/allowlists"),
                PathBuf::from("/usr/share/egressd/allowlists"),
            ],
            run_dir: PathBuf::from("/run/egressd"),
            audit_log: PathBuf::from("/var/log/egressd/audit.jsonl"),
            cache_dir: PathBuf::from(DEFAULT_CACHE_DIR),
        }
    }
}

/// The usual place of the cache.
pub(super) const DEFAULT_CACHE_DIR: &str = "/var/cache/egressd";

impl DaemonConfig {
    /// Loads the file at `path`. Keys that it leaves out have their defaults.
    ///
    /// # Errors
    /// Shows what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let document = read(path).map_err(|error| Diagnostic::general(error.to_string()))?;
        Self::compile(&document)
    }

    fn compile(document: &Document) -> Result<Self, ConfigError> {
        let file: DaemonFile = document.parse()?;
        let mut wrong: Vec<Diagnostic> = document.check_version(&file.version).err().into_iter().collect();
        let mut upstreams = Vec::new();
        for upstream in file.upstreams.iter().flatten() {
            match parse_upstream(&upstream.value) {
                Some(address) => upstreams.push(address),
                None => wrong.push(
                    document
                        .error(upstream.referenced, format!("invalid upstream `{}`", upstream.value))
                        .label("expected an address, with or without a port")
                        .help("for example: 192.0.2.53, 192.0.2.53:5353 or \"[2001:db8::53]:5353\""),
                ),
            }
        }
        if upstreams.len() > MAX_UPSTREAMS {
            wrong.push(Diagnostic::general(format!("at most {MAX_UPSTREAMS} upstreams are allowed")));
        }
        if !wrong.is_empty() {
            return Err(ConfigError::all(wrong));
        }
        let default = Self::default();
        Ok(Self {
            upstreams,
            policy_dir: file.policy_dir.unwrap_or(default.policy_dir),
            allowlist_dirs: file.allowlist_dirs.unwrap_or(default.allowlist_dirs),
            run_dir: file.run_dir.unwrap_or(default.run_dir),
            audit_log: file.audit_log.unwrap_or(default.audit_log),
            cache_dir: file.cache_dir.unwrap_or(default.cache_dir),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonFile {
    version: Spanned<u64>,
    upstreams: Option<Vec<Spanned<String>>>,
    policy_dir: Option<PathBuf>,
    allowlist_dirs: Option<Vec<PathBuf>>,
    run_dir: Option<PathBuf>,
    audit_log: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
}

/// As many as an agent would wait for, one after the other, before it gave up.
const MAX_UPSTREAMS: usize = 8;

const DNS_PORT: u16 = 53;

/// Parses `ADDRESS` or `ADDRESS:PORT` of an upstream resolver; port 53 where none is given.
#[must_use]
pub fn parse_upstream(text: &str) -> Option<SocketAddr> {
    let bare = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
    text.parse().ok().or_else(bare).filter(|address: &SocketAddr| address.port() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_file_that_only_has_a_version_means_the_defaults() {
        assert_eq!(compile("version: 1\n"), Ok(DaemonConfig::default()));
    }

    #[test]
    fn upstreams_are_addresses_with_or_without_a_port() {
        let text = "version: 1\nupstreams: [192.0.2.53, \"192.0.2.53:5353\", \"2001:db8::53\"]\n";
        let wanted =
            ["192.0.2.53:53", "192.0.2.53:5353", "[2001:db8::53]:53"].map(|text| text.parse().unwrap());
        assert_eq!(compile(text).unwrap().upstreams, wanted);
    }

    #[test]
    fn a_daemon_file_with_mistakes_is_refused() {
        for text in [
            "",
            "upstreams: []\n",
            "version: 2\n",
            "version: 1\nupstreams: [dns.example.com]\n",
            "version: 1\nupstreams: [\"192.0.2.53:0\"]\n",
            "version: 1\nupstream: []\n",
            "version: 1\nversion: 1\n",
        ] {
            assert!(compile(text).is_err(), "{text:?}");
        }
    }

    fn compile(text: &str) -> Result<DaemonConfig, ConfigError> {
        DaemonConfig::compile(&Document::new("egressd.yaml", text))
    }
}
