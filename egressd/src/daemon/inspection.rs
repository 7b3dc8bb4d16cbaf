//! The authority of inspection, and how agents come to believe it.

use super::Daemon;
use crate::{
    config::{self, DaemonConfig},
    policy::Policy,
    proxy::inspect::{self, Credential, CredentialSource, Inspector, Trust},
};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What serves rules that inspect. Its authority is made here, and written to a file that holds no key.
pub(super) fn inspector(config: &DaemonConfig) -> Result<Inspector> {
    let trust = Trust::load(config.inspection_ca.as_deref()).unwrap_or_else(|error| {
        tracing::warn!(%error, "servers of rules that inspect are all untrusted");
        Trust::nobody()
    });
    let credentials = config.credentials.iter().map(credential).collect();
    let inspector =
        Inspector::new(trust, credentials).context("failed to make the authority of inspection")?;
    write_authorities(&authorities(&config.run_dir), inspector.authority())?;
    Ok(inspector)
}

impl Daemon {
    /// The file of authorities for an agent with `policy`: None where nothing of it is inspected, and nobody
    /// has to believe us.
    pub(super) fn authorities(&self, policy: &Policy) -> Option<PathBuf> {
        policy.inspects().then(|| authorities(&self.options.config.run_dir))
    }
}

fn authorities(run_dir: &Path) -> PathBuf {
    run_dir.join("authorities.pem")
}

/// Writes the authorities of this host, and ours. Into the file that is there: agents that live on see this
/// one, whatever takes its name.
fn write_authorities(path: &Path, own: &str) -> Result<()> {
    let host = inspect::host_authorities().map(fs::read).transpose();
    let mut text = host.context("failed to read the authorities of this host")?.unwrap_or_default();
    text.extend_from_slice(b"\n");
    text.extend_from_slice(own.as_bytes());
    let named = || format!("failed to write `{}`", path.display());
    fs::write(path, text).with_context(named)?;
    // For agents that are not root.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).with_context(named)
}

fn credential(credential: &config::Credential) -> Credential {
    Credential {
        name: credential.name.clone(),
        source: match &credential.source {
            config::CredentialSource::File(path) => CredentialSource::File(path.clone()),
            config::CredentialSource::Environment(variable) => {
                CredentialSource::Environment(variable.clone())
            }
        },
        around: credential.around.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_next_daemon_writes_its_authority_into_the_file_that_agents_see() {
        let folder = tempfile::tempdir().unwrap();
        let path = authorities(folder.path());
        write_authorities(&path, "first").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        write_authorities(&path, "second").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("\nsecond") && !text.contains("first"));
        assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    }

    #[test]
    fn the_file_of_authorities_holds_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let config = DaemonConfig { run_dir: folder.path().to_owned(), ..DaemonConfig::default() };
        inspector(&config).unwrap();
        let text = fs::read_to_string(authorities(folder.path())).unwrap();
        assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY"));
    }
}
