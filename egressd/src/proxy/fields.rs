//! What the fields of an HTTP/1 message say about its host, its connection and its body.

use super::framing::Framing;

/// The most fields that one head may have. Browsers send about 20; servers commonly stop at 100.
pub const MAX_FIELDS: usize = 128;

/// The fields of one head, read once.
pub struct Fields<'a> {
    all: &'a [httparse::Header<'a>],
    pub hosts: Vec<&'a [u8]>,
    /// Names that `Connection` declares as meant for the next hop only, in lower case.
    named_by_connection: Vec<String>,
    pub asks_to_close: bool,
    pub asks_for_upgrade: bool,
    length: Option<u64>,
    is_chunked: bool,
}

impl<'a> Fields<'a> {
    /// Reads the fields of a request of HTTP/1.`version`.
    ///
    /// # Errors
    /// The fields frame the body in two ways, or in one that not every parser reads the same
    /// (RFC 9112, sections 6.1 and 6.3).
    pub fn read(all: &'a [httparse::Header<'a>], version: u8) -> Result<Self, FieldsError> {
        let mut fields = Self {
            all,
            hosts: Vec::new(),
            named_by_connection: Vec::new(),
            asks_to_close: false,
            asks_for_upgrade: false,
            length: None,
            is_chunked: false,
        };
        for field in all {
            fields.note(field, version)?;
        }
        if fields.is_chunked && fields.length.is_some() {
            return Err(FieldsError::TwoFramings);
        }
        Ok(fields)
    }

    /// How the body of the request ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match (self.is_chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Empty,
        }
    }

    /// The fields that are meant for the upstream.
    pub fn end_to_end(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        let is_hop_by_hop = |name: &str| {
            let name = name.to_ascii_lowercase();
            REWRITTEN.contains(&name.as_str())
                || name.starts_with("proxy-")
                || self.named_by_connection.contains(&name)
        };
        self.all.iter().filter(move |field| !is_hop_by_hop(field.name)).map(|field| (field.name, field.value))
    }

    fn note(&mut self, field: &httparse::Header<'a>, version: u8) -> Result<(), FieldsError> {
        match field.name.to_ascii_lowercase().as_str() {
            "host" => self.hosts.push(field.value),
            "connection" => self.note_connection(field.value),
            "upgrade" | "http2-settings" => self.asks_for_upgrade = true,
            "content-length" if self.length.is_some() => return Err(FieldsError::LengthTwice),
            "content-length" => self.length = Some(parse_length(field.value).ok_or(FieldsError::Length)?),
            "transfer-encoding" if self.is_chunked || version == 0 || !is_chunked(field.value) => {
                return Err(FieldsError::TransferEncoding);
            }
            "transfer-encoding" => self.is_chunked = true,
            _ => {}
        }
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|octet| *octet == b',').map(<[u8]>::trim_ascii) {
            let option = String::from_utf8_lossy(option).to_ascii_lowercase();
            self.asks_to_close |= option == "close";
            self.named_by_connection.push(option);
        }
    }
}

/// Why fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    #[error("Content-Length is not a number")]
    Length,
    #[error("Content-Length stands twice")]
    LengthTwice,
    #[error("Transfer-Encoding is not exactly `chunked`, once, in HTTP/1.1")]
    TransferEncoding,
    #[error("Content-Length and Transfer-Encoding stand together")]
    TwoFramings,
}

/// Parses a Content-Length: digits only, at most 18 of them, so that no parser overflows.
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Whether a Transfer-Encoding is `chunked` and nothing else.
pub fn is_chunked(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"chunked")
}

/// Fields that we write ourselves, and those that RFC 9110, section 7.6.1 keeps from the next hop.
const REWRITTEN: [&str; 8] =
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"];
