//! The one parser of host names: config, DNS, SNI, CONNECT and Host all come through here.

use std::fmt;

/// A host name that can be looked up: lower case, without the root dot, at least one label,
/// each of 1 to 63 octets of `a-z 0-9 - _`, 253 octets in all (RFC 1035, section 2.3.4).
///
/// Underscores are let through because service names use them (RFC 8552). Names outside ASCII
/// are refused: an A-label (`xn--`) must be spelt as one and must be valid (RFC 5891). A name
/// whose last label is a number is refused too, because resolvers and clients disagree on
/// whether it is an IPv4 address (WHATWG URL, section 3.5).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Box<str>);

impl HostName {
    /// Parses a name as text, in any case, with or without one root dot.
    ///
    /// # Errors
    /// Says which rule of the type's description the text breaks.
    pub fn parse(text: &str) -> Result<Self, HostNameError> {
        Self::from_ascii(text.as_bytes())
    }

    /// Parses a name as it stands in a packet, where nobody promised UTF-8.
    ///
    /// # Errors
    /// Says which rule of the type's description the bytes break.
    pub fn from_ascii(bytes: &[u8]) -> Result<Self, HostNameError> {
        let name = bytes.strip_suffix(b".").unwrap_or(bytes);
        if name.is_empty() {
            return Err(HostNameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(HostNameError::TooLong(name.len()));
        }
        if let Some(&octet) = name.iter().find(|octet| !is_allowed(**octet)) {
            return Err(HostNameError::Octet(octet));
        }
        let name: String = name.iter().map(|octet| char::from(octet.to_ascii_lowercase())).collect();
        for label in name.split('.') {
            check_label(label)?;
        }
        match name.rsplit('.').next() {
            Some(last) if looks_like_a_number(last) => Err(HostNameError::Number),
            Some(_) | None => Ok(Self(name.into_boxed_str())),
        }
    }

    /// The name, without the root dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, from the host towards the root.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    #[error("host name is empty")]
    Empty,
    #[error("host name has {0} octets, at most {MAX_NAME} are allowed")]
    TooLong(usize),
    #[error("host name has an empty label")]
    EmptyLabel,
    #[error("label has {0} octets, at most {MAX_LABEL} are allowed")]
    LabelTooLong(usize),
    #[error("label starts or ends with a hyphen")]
    Hyphen,
    #[error("octet 0x{0:02x} is not allowed in a host name (letters, digits, `-`, `_`)")]
    Octet(u8),
    #[error("`xn--` label is not valid (RFC 5891)")]
    Punycode,
    #[error("last label is a number, so this may be an address")]
    Number,
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn is_allowed(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.')
}

fn check_label(label: &str) -> Result<(), HostNameError> {
    if label.is_empty() {
        return Err(HostNameError::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(HostNameError::LabelTooLong(label.len()));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostNameError::Hyphen);
    }
    if label.starts_with("xn--") && !is_valid_a_label(label) {
        return Err(HostNameError::Punycode);
    }
    Ok(())
}

/// An A-label is valid when it decodes, and the decoded label encodes to the same again.
fn is_valid_a_label(label: &str) -> bool {
    let (unicode, decoded) = idna::domain_to_unicode(label);
    decoded.is_ok()
        && !unicode.is_ascii()
        && idna::domain_to_ascii(&unicode).is_ok_and(|ascii| ascii == label)
}

fn looks_like_a_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_folded_to_lower_case_without_its_root_dot() {
        assert_eq!(HostName::parse("OK.Test.").unwrap().as_str(), "ok.test");
        assert_eq!(HostName::parse("_dmarc.ok.test").unwrap().as_str(), "_dmarc.ok.test");
        assert_eq!(HostName::parse("xn--bcher-kva.test").unwrap().as_str(), "xn--bcher-kva.test");
    }

    #[test]
    fn a_name_that_two_parsers_could_read_differently_is_refused() {
        refuses("", HostNameError::Empty);
        refuses(".", HostNameError::Empty);
        refuses("ok.test..", HostNameError::EmptyLabel);
        refuses("ok..test", HostNameError::EmptyLabel);
        refuses(".ok.test", HostNameError::EmptyLabel);
        refuses("evil.test\0.ok.test", HostNameError::Octet(0));
        refuses("%6fk.test", HostNameError::Octet(b'%'));
        refuses("ok。test", HostNameError::Octet(0xe3));
        refuses("[ok.test]", HostNameError::Octet(b'['));
        refuses("ok.test:443", HostNameError::Octet(b':'));
        refuses("-ok.test", HostNameError::Hyphen);
        refuses("xn--ok-.test", HostNameError::Hyphen);
        refuses("xn--ok.test", HostNameError::Punycode);
        refuses("127.1", HostNameError::Number);
        refuses("2130706433", HostNameError::Number);
        refuses("ok.0x7f000001", HostNameError::Number);
        refuses(&format!("{}.test", "a".repeat(64)), HostNameError::LabelTooLong(64));
        refuses(&["a".repeat(63).as_str(); 4].join("."), HostNameError::TooLong(255));
    }

    fn refuses(text: &str, why: HostNameError) {
        assert_eq!(HostName::parse(text), Err(why), "{text:?}");
    }
}
