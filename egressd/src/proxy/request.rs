//! Reads the head of one HTTP/1 request, so strictly that every parser behind us reads the same.

use super::{
    authority::{Authority, AuthorityError},
    fields::{Fields, FieldsError, MAX_FIELDS},
    framing::Framing,
};
use crate::policy::Destination;

/// What an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `CONNECT host:port`: a tunnel. The port is always there.
    Connect(Authority),
    /// Any other method.
    Plain(Head),
}

/// The head of a request that is not CONNECT, in the form in which it goes upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// Path and query: the origin form (RFC 9112, section 3.2.1).
    pub target: String,
    /// The one authority that the URI and the Host field agree on.
    pub authority: Authority,
    /// Whether the URI was absolute, as a request to a proxy is.
    pub is_absolute: bool,
    /// The minor version of HTTP/1.
    pub version: u8,
    /// Whether the agent wants another exchange on the same connection.
    pub is_persistent: bool,
    pub framing: Framing,
    /// End-to-end fields, without Host and without those that frame the body.
    fields: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// Parses `head`, which ends with the empty line.
    ///
    /// # Errors
    /// Says what is wrong or ambiguous with it.
    pub fn parse(head: &[u8]) -> Result<Self, RequestError> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut slots);
        match parsed.parse(head)? {
            httparse::Status::Complete(length) if length == head.len() => {}
            httparse::Status::Complete(_) | httparse::Status::Partial => {
                return Err(RequestError::Incomplete);
            }
        }
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return Err(RequestError::Incomplete);
        };
        let fields = Fields::read(parsed.headers, version)?;
        if fields.asks_for_upgrade {
            return Err(RequestError::Upgrade);
        }
        match method {
            "CONNECT" => connect(target, &fields),
            _ => plain(method, target, version, fields).map(Self::Plain),
        }
    }
}

impl Head {
    /// The bytes of this head for the upstream: origin form, the authorised host, no hop-by-hop
    /// fields (RFC 9110, section 7.6.1), one way of framing.
    #[must_use]
    pub fn to_bytes(&self, port: u16) -> Vec<u8> {
        let port = (port != DEFAULT_PORT).then_some(port);
        let host = Authority { destination: self.authority.destination.clone(), port };
        let mut bytes =
            format!("{} {} HTTP/1.{}\r\nHost: {host}\r\n", self.method, self.target, self.version)
                .into_bytes();
        for (name, value) in &self.fields {
            push_field(&mut bytes, name, value);
        }
        match self.framing {
            Framing::Empty => {}
            Framing::Length(length) => {
                push_field(&mut bytes, "Content-Length", length.to_string().as_bytes())
            }
            Framing::Chunked => push_field(&mut bytes, "Transfer-Encoding", b"chunked"),
            // A request never is; Request::parse cannot make one.
            Framing::UntilClose => push_field(&mut bytes, "Content-Length", b"0"),
        }
        if !self.is_persistent {
            push_field(&mut bytes, "Connection", b"close");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("failed to parse the request head: {0}")]
    Syntax(#[from] httparse::Error),
    #[error("request head is not complete")]
    Incomplete,
    #[error("Upgrade is not allowed")]
    Upgrade,
    #[error("request has {0} Host fields, exactly one is required")]
    HostCount(usize),
    #[error("the URI and the Host field name different hosts")]
    HostDisagrees,
    #[error("CONNECT needs `host:port` and no body")]
    Connect,
    #[error("request target is neither a path nor an `http://` URI")]
    Target,
    #[error("failed to read the request's host: {0}")]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Fields(#[from] FieldsError),
}

/// Port of `http` URIs that name none.
pub const DEFAULT_PORT: u16 = 80;

fn connect(target: &str, fields: &Fields<'_>) -> Result<Request, RequestError> {
    let authority = Authority::parse(target.as_bytes())?;
    let Some(port) = authority.port else { return Err(RequestError::Connect) };
    if !matches!(fields.framing(), Framing::Empty | Framing::Length(0)) {
        return Err(RequestError::Connect);
    }
    // Old libraries send CONNECT without Host; there is still one authority only.
    match fields.hosts.as_slice() {
        [] => Ok(Request::Connect(authority)),
        [host] if Authority::parse(host)?.agrees_with(&authority, port) => Ok(Request::Connect(authority)),
        [_] => Err(RequestError::HostDisagrees),
        more => Err(RequestError::HostCount(more.len())),
    }
}

fn plain(method: &str, target: &str, version: u8, fields: Fields<'_>) -> Result<Head, RequestError> {
    let [host] = fields.hosts.as_slice() else {
        return Err(RequestError::HostCount(fields.hosts.len()));
    };
    let host = Authority::parse(host)?;
    let (authority, path) = match absolute(target) {
        Some((authority, path)) => (Some(Authority::parse(authority.as_bytes())?), path),
        None if target.starts_with('/') || (method, target) == ("OPTIONS", "*") => (None, target.to_owned()),
        None => return Err(RequestError::Target),
    };
    let is_absolute = authority.is_some();
    if authority.as_ref().is_some_and(|authority| !authority.agrees_with(&host, DEFAULT_PORT)) {
        return Err(RequestError::HostDisagrees);
    }
    Ok(Head {
        method: method.to_owned(),
        target: path,
        authority: authority.unwrap_or(host),
        is_absolute,
        version,
        is_persistent: version == 1 && !fields.asks_to_close,
        framing: fields.framing(),
        fields: fields.end_to_end().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
    })
}

/// Splits `http://authority/path?query` into authority and origin form.
fn absolute(target: &str) -> Option<(&str, String)> {
    let (scheme, rest) = target.split_at_checked("http://".len())?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((authority, path))
}

fn push_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}

impl Head {
    /// The destination that the request names.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.authority.destination
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_upstream_in_origin_form_with_the_authorised_host() {
        sends(
            "GET http://OK.test/a?b HTTP/1.1\r\nHost: ok.test:80\r\nAccept: */*\r\n\r\n",
            "GET /a?b HTTP/1.1\r\nHost: ok.test\r\nAccept: */*\r\n\r\n",
        );
        sends(
            "GET http://ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        );
        sends("GET /x HTTP/1.1\r\nhOsT:ok.test\r\n\r\n", "GET /x HTTP/1.1\r\nHost: ok.test\r\n\r\n");
        sends(
            "GET http://ok.test?q HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET /?q HTTP/1.1\r\nHost: ok.test\r\n\r\n",
        );
    }

    #[test]
    fn fields_for_the_next_hop_stay_here() {
        sends(
            "POST / HTTP/1.1\r\nHost: ok.test\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: secret\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nContent-Length: 03\r\nX-End: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nX-End: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
        );
        sends(
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        sends(
            "GET / HTTP/1.0\r\nHost: ok.test\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: ok.test\r\nConnection: close\r\n\r\n",
        );
    }

    #[test]
    fn a_connect_names_one_host_and_port() {
        for host in ["", "Host: ok.test\r\n", "Host: OK.test:443\r\n"] {
            let head = format!("CONNECT ok.test:443 HTTP/1.1\r\n{host}\r\n");
            let Request::Connect(authority) = Request::parse(head.as_bytes()).unwrap() else {
                panic!("{head}")
            };
            assert_eq!(authority.to_string(), "ok.test:443");
        }
    }

    #[test]
    fn a_request_that_two_parsers_could_read_differently_is_refused() {
        for head in [
            // Which host?
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nHost: ok.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nhost: evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test, evil.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : ok.test\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: ok.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@ok.test\r\n\r\n",
            "GET http://evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET http://ok.test:81/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET http://ok.test@evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET http://ok.test\\@evil.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET http:/ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET https://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "CONNECT ok.test HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "CONNECT ok.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            "CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:22\r\n\r\n",
            "CONNECT ok.test:443@evil.test:443 HTTP/1.1\r\n\r\n",
            "CONNECT ok.test:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "CONNECT http://ok.test:443 HTTP/1.1\r\n\r\n",
            // Where does the body end?
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 0x5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 18446744073709551617\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\n",
            // What follows?
            "GET / HTTP/1.1\r\nHost: ok.test\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nUpgrade: websocket\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: ok.test\r\n\r\n",
            "GET /\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: ok.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: ok.test\r\nX\r\n\r\n",
        ] {
            assert!(Request::parse(head.as_bytes()).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_head_with_too_many_fields_is_refused() {
        let head = format!("GET / HTTP/1.1\r\nHost: ok.test\r\n{}\r\n", "X: 1\r\n".repeat(MAX_FIELDS));
        assert_eq!(
            Request::parse(head.as_bytes()),
            Err(RequestError::Syntax(httparse::Error::TooManyHeaders))
        );
    }

    fn sends(head: &str, expected: &str) {
        let Request::Plain(head) = Request::parse(head.as_bytes()).unwrap() else { panic!("{head}") };
        assert_eq!(String::from_utf8(head.to_bytes(80)).unwrap(), expected);
    }
}
