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
    os::unix::fs::{MetadataExt, PermissionsExt},
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

/// Where credentials are, so that agents that run as root do not see them. Of a folder that is for such
/// files all of it: one that is renamed into their place would be seen again.
pub(super) fn hidden(config: &DaemonConfig) -> Vec<PathBuf> {
    let credentials = config.credentials.iter().filter_map(|credential| match &credential.source {
        config::CredentialSource::File(path) => Some(path.as_path()),
        config::CredentialSource::Environment(_) => None,
    });
    let sources = config.source.as_ref().and_then(|source| source.access.secret());
    let folder = |path: &Path| path.parent().filter(|folder| is_for_secrets(folder)).map(Path::to_owned);
    let hide = |path: &Path| folder(path).unwrap_or(path.to_owned());
    let mut hidden: Vec<PathBuf> = credentials.chain(sources).map(hide).collect();
    hidden.sort();
    hidden.dedup();
    hidden
}

/// The variables that hold credentials: the asker's environment may be that of this daemon.
pub(super) fn withheld(config: &DaemonConfig) -> Vec<String> {
    let held = config.credentials.iter().filter_map(|credential| match &credential.source {
        config::CredentialSource::File(_) => None,
        config::CredentialSource::Environment(variable) => Some(variable.clone()),
    });
    held.collect()
}

/// Whether only root may look into `folder`, and nothing is there but files: not so a home.
fn is_for_secrets(folder: &Path) -> bool {
    let is_private = fs::metadata(folder).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o077 == 0);
    let is_file = |entry: std::io::Result<fs::DirEntry>| {
        entry.and_then(|entry| entry.file_type()).is_ok_and(|kind| kind.is_file())
    };
    is_private && fs::read_dir(folder).is_ok_and(|mut entries| entries.all(is_file))
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
    fn what_holds_credentials_is_kept_from_agents() {
        let folder = tempfile::tempdir().unwrap();
        let credential =
            |source| config::Credential { name: "forge".to_owned(), source, around: Default::default() };
        let file = folder.path().join("token");
        let config = DaemonConfig {
            credentials: vec![
                credential(config::CredentialSource::File(file.clone())),
                credential(config::CredentialSource::Environment("FORGE".to_owned())),
            ],
            ..DaemonConfig::default()
        };
        let allow = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        allow(0o755);
        assert_eq!((hidden(&config), withheld(&config)), (vec![file], vec!["FORGE".to_owned()]));
        allow(0o700);
        let is_roots = fs::metadata(folder.path()).unwrap().uid() == 0;
        assert!(!is_roots || hidden(&config) == [folder.path()]);
        fs::create_dir(folder.path().join("home")).unwrap();
        assert_ne!(hidden(&config), [folder.path()]);
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
