//! Domains that are nobody's public suffix themselves, but have some below them.

use super::host::HostName;

/// Whether strangers can register names below `name`, at any depth: it is a public suffix, or
/// one of the domains above some (publicsuffix.org, ICANN and private sections).
pub(super) fn is_shared(name: &HostName) -> bool {
    match psl::domain_str(name.as_str()) {
        None => true,
        // Below a suffix, the registrable name is its owner's: bucket.s3.amazonaws.com.
        Some(registrable) => ABOVE.contains(&registrable),
    }
}

/// Registrable domains of clouds and hosts that give their customers names below them. The list
/// of suffixes can be asked of a name but not walked, so the ones above are written down.
const ABOVE: [&str; 23] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "atlassian-dev.net",
    "azure.com",
    "azurecontainer.io",
    "cdn77.org",
    "code.run",
    "customer-oci.com",
    "digitaloceanspaces.com",
    "dweb.link",
    "fastly.net",
    "fbsbx.com",
    "gateway.dev",
    "joyent.com",
    "linode.com",
    "linodeobjects.com",
    "linodeusercontent.com",
    "on.aws",
    "ovh.net",
    "platform.sh",
    "scw.cloud",
    "vultrobjects.com",
    "windows.net",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_above_is_registrable_itself() {
        for name in ABOVE {
            assert_eq!(psl::domain_str(name), Some(name), "{name}");
        }
    }

    #[test]
    fn strangers_have_names_below_clouds() {
        for name in
            ["com", "co.uk", "github.io", "s3.amazonaws.com", "amazonaws.com", "blob.core.windows.net"]
        {
            assert!(shared(name), "{name}");
        }
        for name in ["us-east-1.amazonaws.com", "core.windows.net", "windows.net"] {
            assert!(shared(name), "{name}");
        }
    }

    #[test]
    fn nobody_else_has_names_below_a_bucket_or_a_company() {
        for name in ["mine.s3.amazonaws.com", "example.com", "cdn.example.co.uk", "me.github.io"] {
            assert!(!shared(name), "{name}");
        }
    }

    fn shared(name: &str) -> bool {
        is_shared(&HostName::parse(name).unwrap())
    }
}
