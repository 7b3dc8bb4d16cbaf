//! Reads the head of one HTTP/1 response, to find where the response ends.

use super::{
    fields::{MAX_FIELDS, is_chunked, parse_length},
    framing::Framing,
};

/// What must be known of a response to relay it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub framing: Framing,
    /// Whether another response precedes the final one (100 Continue, 103 Early Hints).
    pub is_interim: bool,
    /// Whether the upstream keeps the connection after it.
    pub is_persistent: bool,
}

impl Response {
    /// Parses `head`, which ends with the empty line and answers `method`. Wherever the framing is
    /// in doubt, the response is one that ends with its connection.
    ///
    /// # Errors
    /// It is not a response, or it switches protocols, which no request has asked for.
    pub fn parse(head: &[u8], method: &str) -> Result<Self, ResponseError> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut slots);
        parsed.parse(head)?;
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(ResponseError::Incomplete);
        };
        if status == 101 {
            return Err(ResponseError::SwitchesProtocols);
        }
        let is_interim = (100..200).contains(&status);
        let framing = match status {
            100..200 | 204 | 304 => Framing::Empty,
            _ if method == "HEAD" => Framing::Empty,
            _ => framing(parsed.headers, version)?,
        };
        let is_persistent = version == 1
            && framing != Framing::UntilClose
            && !named(parsed.headers, "connection").any(asks_to_close)
            // RFC 9112, section 6.3: both together is an error that ends the connection.
            && !(framing == Framing::Chunked && named(parsed.headers, "content-length").next().is_some());
        Ok(Self { framing, is_interim, is_persistent })
    }
}

/// Why a response cannot be relayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("failed to parse the response head: {0}")]
    Syntax(#[from] httparse::Error),
    #[error("response head is not complete")]
    Incomplete,
    #[error("response switches protocols")]
    SwitchesProtocols,
    #[error("response has lengths that disagree")]
    Length,
}

fn framing(fields: &[httparse::Header<'_>], version: u8) -> Result<Framing, ResponseError> {
    let mut codings = named(fields, "transfer-encoding");
    if let Some(coding) = codings.next() {
        let is_certain = version == 1 && is_chunked(coding) && codings.next().is_none();
        return Ok(if is_certain { Framing::Chunked } else { Framing::UntilClose });
    }
    let mut lengths = named(fields, "content-length");
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
    if lengths.any(|length| length != first) {
        return Err(ResponseError::Length);
    }
    parse_length(first).map(Framing::Length).ok_or(ResponseError::Length)
}

fn named<'a>(fields: &'a [httparse::Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> + 'a {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn asks_to_close(value: &[u8]) -> bool {
    value.split(|octet| *octet == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_its_head_says() {
        frames("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", Framing::Length(5), true);
        frames("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", Framing::Empty, true);
        frames("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "GET", Framing::Empty, true);
        frames("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", Framing::Chunked, true);
        frames("HTTP/1.1 200 OK\r\n\r\n", "GET", Framing::UntilClose, false);
        frames("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", Framing::Length(5), false);
    }

    #[test]
    fn a_response_in_doubt_ends_with_its_connection() {
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n";
        frames(both, "GET", Framing::Chunked, false);
        frames("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "GET", Framing::UntilClose, false);
        frames("HTTP/1.1 204 No Content\r\nConnection: x, Close\r\n\r\n", "GET", Framing::Empty, false);
    }

    #[test]
    fn a_switch_of_protocols_is_refused() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        assert_eq!(Response::parse(head, "GET"), Err(ResponseError::SwitchesProtocols));
    }

    fn frames(head: &str, method: &str, framing: Framing, is_persistent: bool) {
        let response = Response::parse(head.as_bytes(), method).unwrap();
        assert_eq!((response.framing, response.is_persistent), (framing, is_persistent), "{head:?}");
    }
}
