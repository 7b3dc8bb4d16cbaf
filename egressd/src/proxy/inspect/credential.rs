//! Credentials that are sent for an agent.

use http::HeaderValue;
use std::{env, fmt, fs::File, io::Read, path::PathBuf};

/// Where a credential is, and how a header field holds it.
#[derive(Debug, Clone)]
pub struct Credential {
    pub name: String,
    pub source: CredentialSource,
    /// What stands before it in the field, and behind it.
    pub around: (String, String),
}

/// Where a credential is.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    File(PathBuf),
    /// Of this process.
    Environment(String),
}

impl Credential {
    /// The value of a header field that holds it. It is read anew each time, so that whoever renews a file
    /// has to tell nobody, and is marked so that it is neither shown nor kept by a compressor of header
    /// fields (RFC 7541, section 7.1.3).
    ///
    /// # Errors
    /// Says what cannot be read, never what is there.
    pub fn value(&self) -> Result<HeaderValue, CredentialError> {
        let failed =
            |why: &dyn fmt::Display| CredentialError { name: self.name.clone(), why: why.to_string() };
        let secret = self.read().map_err(|error| failed(&error))?;
        let secret = secret.trim_ascii();
        if secret.is_empty() {
            return Err(failed(&"it is empty"));
        }
        let (before, after) = &self.around;
        let mut value = HeaderValue::from_bytes(&[before.as_bytes(), secret, after.as_bytes()].concat())
            .map_err(|_| failed(&"it holds what no header field can"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        match &self.source {
            CredentialSource::File(path) => {
                File::open(path)?.take(MAX_CREDENTIAL).read_to_end(&mut octets)?;
            }
            CredentialSource::Environment(variable) => {
                octets = env::var(variable).map_err(std::io::Error::other)?.into_bytes();
            }
        }
        Ok(octets)
    }
}

/// Why a credential cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("failed to read credential `{name}`: {why}")]
pub struct CredentialError {
    name: String,
    why: String,
}

/// The most octets of a credential: more fits into no server's bound on a head.
const MAX_CREDENTIAL: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_when_it_is_sent_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let credential = Credential {
            name: "forge".to_owned(),
            source: CredentialSource::File(path.clone()),
            around: ("Bearer ".to_owned(), String::new()),
        };
        for (text, value) in [("first\n", "Bearer first"), (" second ", "Bearer second")] {
            std::fs::write(&path, text).unwrap();
            let sent = credential.value().unwrap();
            assert_eq!(sent.as_bytes(), value.as_bytes());
            assert_eq!(format!("{sent:?}"), "Sensitive");
        }
        for text in ["", "\n", "two\nlines"] {
            std::fs::write(&path, text).unwrap();
            let error = credential.value().unwrap_err().to_string();
            assert!(
                error.starts_with("failed to read credential `forge`") && !error.contains("two"),
                "{error}"
            );
        }
    }
}
