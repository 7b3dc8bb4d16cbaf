//! The authority that agents of rules that inspect believe beside the host's: made at start, and gone with
//! this process.

use crate::policy::HostName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SigningKey},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Makes certificates for names. Its keys are in memory alone, and in no file ever.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// One key for all leaves: whoever reads one of it in our memory reads the others as well.
    leaf: KeyPair,
    signer: Arc<dyn SigningKey>,
    made: Mutex<HashMap<HostName, Leaf>>,
}

impl Authority {
    /// # Errors
    /// The keys could not be made.
    pub fn new(now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signer = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.serialize_der())))?;
        let mut params = authority(now);
        params.distinguished_name = named(&params.key_identifier(&key));
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaf,
            signer,
            made: Mutex::default(),
        })
    }

    /// The certificate, as files of authorities hold it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for `name` and nothing else. To be asked for names that a policy permits.
    ///
    /// # Errors
    /// The name is none that a certificate can hold.
    pub fn certify(&self, name: &HostName, now: SystemTime) -> Result<Arc<CertifiedKey>, AuthorityError> {
        // Entries are put in whole; a panic elsewhere leaves none half made.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = made.get(name).filter(|leaf| now < leaf.renew) {
            return Ok(Arc::clone(&leaf.key));
        }
        let certificate = leaf(name, now)?.signed_by(&self.leaf, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = Arc::new(CertifiedKey::new(chain, Arc::clone(&self.signer)));
        if made.len() >= MAX_LEAVES {
            made.clear();
        }
        made.insert(name.clone(), Leaf { key: Arc::clone(&key), renew: now + LEAF_LIFE / 2 });
        Ok(key)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("failed to make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("failed to load a key: {0}")]
    Key(#[from] rustls::Error),
}

struct Leaf {
    key: Arc<CertifiedKey>,
    renew: SystemTime,
}

/// Longer than a daemon runs: whoever outlives it is handed another.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A certificate that somebody kept is soon worth nothing; clocks that differ by hours do no harm.
const LEAF_LIFE: Duration = Duration::from_secs(2 * 24 * 3600);

/// How long ago certificates begin, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// The most certificates that are kept, some 2 KiB each: an agent with a wildcard chooses names. One more,
/// and all are made again when they are asked for, at some 100 us.
const MAX_LEAVES: usize = 1024;

fn authority(now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    params
}

fn leaf(name: &HostName, now: SystemTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    // Empty, so that the name of any length stands in the extension alone (RFC 5280, section 4.1.2.6).
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + LEAF_LIFE).into();
    Ok(params)
}

/// No two authorities have one name: a program that believes the one before would look for its key here.
fn named(key: &[u8]) -> DistinguishedName {
    let number = key.iter().take(8).fold(String::new(), |number, octet| number + &format!("{octet:02x}"));
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, format!("egressd inspection {number}"));
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::ring::default_provider,
        pki_types::{ServerName, UnixTime},
    };

    #[test]
    fn a_certificate_is_good_for_its_own_name_until_it_expires() {
        let (now, authority) = authority();
        let key = authority.certify(&name("ok.test"), now).unwrap();
        assert!(verifies(&authority, &key, "ok.test", now));
        for other in ["other.test", "a.ok.test", "test"] {
            assert!(!verifies(&authority, &key, other, now), "{other}");
        }
        assert!(!verifies(&authority, &key, "ok.test", now + LEAF_LIFE + BACKDATED));
    }

    #[test]
    fn one_authority_is_not_believed_where_another_is() {
        let (now, authority) = authority();
        let key = authority.certify(&name("ok.test"), now).unwrap();
        assert!(!verifies(&Authority::new(now).unwrap(), &key, "ok.test", now));
    }

    #[test]
    fn a_certificate_is_made_once_and_again_before_it_expires() {
        let (now, authority) = authority();
        let certify = |now| authority.certify(&name("ok.test"), now).unwrap();
        let first = certify(now);
        assert!(Arc::ptr_eq(&first, &certify(now + LEAF_LIFE / 4)));
        let later = now + LEAF_LIFE * 3 / 4;
        assert!(!Arc::ptr_eq(&first, &certify(later)));
    }

    #[test]
    fn the_certificates_that_are_kept_are_bounded() {
        let (now, authority) = authority();
        for number in 0..MAX_LEAVES + 10 {
            authority.certify(&name(&format!("n{number}.test")), now).unwrap();
        }
        assert!(authority.made.lock().unwrap().len() <= MAX_LEAVES);
    }

    fn verifies(authority: &Authority, key: &CertifiedKey, name: &str, now: SystemTime) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.clone()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        verifier.verify_server_cert(&key.cert[0], &key.cert[1..], &name, &[], time).is_ok()
    }

    fn authority() -> (SystemTime, Authority) {
        let now = SystemTime::now();
        (now, Authority::new(now).unwrap())
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }
}
