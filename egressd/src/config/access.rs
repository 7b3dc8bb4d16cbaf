//! How a server of policies and this host prove themselves to each other.

use super::{
    diagnostic::Diagnostic,
    document::Document,
    repository::{Repository, Transport},
    source::SourceSection,
};
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};

/// The files of this host by which a server is believed, and it us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nobody proves anything: a path, or the protocol of git's own.
    Open,
    Https {
        /// The authorities, PEM. None: the host's own.
        ca: Option<PathBuf>,
        /// `USER:PASSWORD`, or a token.
        credentials: Option<PathBuf>,
    },
    Ssh {
        /// A private key.
        identity: PathBuf,
        /// The keys of servers.
        known_hosts: PathBuf,
    },
}

impl Access {
    /// The file that nobody but root may see.
    #[must_use]
    pub fn secret(&self) -> Option<&Path> {
        match self {
            Self::Open => None,
            Self::Https { credentials, .. } => credentials.as_deref(),
            Self::Ssh { identity, .. } => Some(identity),
        }
    }
}

/// What `section` says of it, for `repository`.
pub(super) fn access(
    document: &Document,
    section: &SourceSection,
    repository: &Repository,
) -> Result<Access, Diagnostic> {
    let keys = Keys { document, transport: repository.transport() };
    let ca = keys.path(Transport::Https, "ca", section.ca.as_ref())?;
    let credentials = keys.path(Transport::Https, "credentials", section.credentials.as_ref())?;
    let identity = keys.path(Transport::Ssh, "identity", section.identity.as_ref())?;
    let known_hosts = keys.path(Transport::Ssh, "known_hosts", section.known_hosts.as_ref())?;
    if let (Some(file), Some(_)) =
        (&section.credentials, repository.login().and_then(|login| login.password.as_ref()))
    {
        return Err(document
            .error(file.referenced, "a password is in the address and in `credentials`")
            .help("leave it out of the address"));
    }
    let missing = |title: &str| document.error(section.git.referenced, title.to_owned());
    match (repository.transport(), identity, known_hosts) {
        (Transport::File | Transport::Git, _, _) => Ok(Access::Open),
        (Transport::Https, _, _) => Ok(Access::Https { ca, credentials }),
        (Transport::Ssh, Some(identity), Some(known_hosts)) => Ok(Access::Ssh { identity, known_hosts }),
        (Transport::Ssh, None, _) => Err(missing("ssh needs `identity`")
            .help("a file of root's with a private key that the server lets read, without a passphrase")),
        (Transport::Ssh, Some(_), None) => Err(missing("ssh needs `known_hosts`").help(
            "a file with the keys of the server: `ssh-keyscan` prints them. Compare them with what those who run it \
             say: nobody is trusted at first sight",
        )),
    }
}

struct Keys<'a> {
    document: &'a Document,
    transport: Transport,
}

impl Keys<'_> {
    /// A path of this host, where the repository is reached as the key means.
    fn path(
        &self,
        transport: Transport,
        name: &str,
        key: Option<&Spanned<PathBuf>>,
    ) -> Result<Option<PathBuf>, Diagnostic> {
        let Some(key) = key else { return Ok(None) };
        if transport != self.transport {
            let scheme = transport.as_str();
            return Err(self
                .document
                .error(key.referenced, format!("`{name}` is for repositories that are reached by {scheme}"))
                .help(format!("leave it out, or give `git` an address of {scheme}")));
        }
        match key.value.is_absolute() {
            true => Ok(Some(key.value.clone())),
            false => Err(self
                .document
                .error(key.referenced, format!("`{}` is not a whole path", key.value.display()))
                .help("begin with `/`: it is of this host, and never of the repository")),
        }
    }
}
