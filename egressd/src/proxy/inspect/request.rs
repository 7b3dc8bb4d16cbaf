//! Judges the head of one request, and writes the one that is sent in its place.

use crate::{
    policy::{Destination, HostName, Inspection, Reason, RequestDenial},
    proxy::{authority::Authority, refuse::Refusal},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::Scheme,
};

/// The server that a flow has proved to be at, as the server name and TLS have it.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: HostName,
    pub port: u16,
}

/// Judges `head`; returns the target that is to be sent.
///
/// # Errors
/// It is for another host than `server`, its method and path are not allowed, or it wants to become
/// something that nobody judges.
pub fn judge(head: &Parts, server: &Server, inspection: &Inspection) -> Result<String, Refusal> {
    agrees(head, server)?;
    if head.headers.contains_key(UPGRADE) || head.method == Method::CONNECT {
        return Err(Refusal::explained(RequestDenial::Upgrade.reason(), RequestDenial::Upgrade));
    }
    if let Some(header) = head.headers.keys().find(|name| inspection.refuses_header(name.as_str())) {
        let why = format!("header `{header}` names another method or path to some servers");
        return Err(Refusal::explained(Reason::RequestNotAllowed, why));
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    inspection
        .judge(head.method.as_str(), target)
        .map_err(|denial| Refusal::explained(denial.reason(), denial))
}

/// The head that is sent: `target` at `server`, with none of the fields that were for us (RFC 9110, section
/// 7.6.1), and with `injected` in the place of what the agent said there.
///
/// # Errors
/// The target is none; the gate has let nothing of the kind through.
pub fn rewrite(
    head: &mut Parts,
    target: &str,
    server: &Server,
    injected: Vec<(HeaderName, HeaderValue)>,
) -> Result<(), Refusal> {
    let malformed = |error: &dyn std::fmt::Display| Refusal::explained(Reason::RequestMalformed, error);
    let wants_trailers =
        head.version == Version::HTTP_2 && head.headers.get(TE).is_some_and(|te| te == "trailers");
    strip(&mut head.headers);
    let authority = server.to_string();
    if head.version == Version::HTTP_2 {
        let uri = Uri::builder().scheme(Scheme::HTTPS).authority(authority).path_and_query(target);
        head.uri = uri.build().map_err(|error| malformed(&error))?;
        if wants_trailers {
            head.headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    } else {
        head.uri = target.parse().map_err(|error| malformed(&error))?;
        head.version = Version::HTTP_11;
        head.headers.insert(HOST, HeaderValue::try_from(authority).map_err(|error| malformed(&error))?);
    }
    for (name, value) in injected {
        head.headers.insert(name, value);
    }
    Ok(())
}

/// Takes out what is between two neighbours, whatever names it.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in BETWEEN_NEIGHBOURS {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

const BETWEEN_NEIGHBOURS: [HeaderName; 8] =
    [CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

impl std::fmt::Display for Server {
    /// As the Host field has it: without the port that `https` means.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            443 => write!(f, "{}", self.name),
            port => write!(f, "{}:{port}", self.name),
        }
    }
}

/// Every place that says whom a request is for has to say the same: Host (RFC 9112, section 3.2),
/// `:authority` (RFC 9113, section 8.3.1), and the server name of the connection.
fn agrees(head: &Parts, server: &Server) -> Result<(), Refusal> {
    let hosts: Vec<&[u8]> = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes).collect();
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    if hosts.len() > 1 || (hosts.is_empty() && authority.is_none()) {
        return Err(Refusal::explained(Reason::RequestMalformed, "a request names one host"));
    }
    if head.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(Refusal::explained(Reason::RequestMalformed, "the scheme of the request is not https"));
    }
    for named in hosts.into_iter().chain(authority) {
        let named =
            Authority::parse(named).map_err(|error| Refusal::explained(Reason::RequestMalformed, error))?;
        let is_same = named.destination == Destination::Name(server.name.clone())
            && named.port.is_none_or(|port| port == server.port);
        if !is_same {
            let why = format!("the request is for {named}, its connection for {server}");
            return Err(Refusal::explained(Reason::ServerNameNotGranted, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RequestPattern;
    use http::Request;

    #[test]
    fn a_request_is_for_the_server_of_its_connection() {
        for host in ["ok.test", "OK.test", "ok.test.", "ok.test:8443"] {
            assert_eq!(judged(&[("host", host)], "/"), Ok("/".to_owned()), "{host}");
        }
        for host in ["evil.test", "ok.test:443", "a.ok.test", "127.0.0.1"] {
            assert_eq!(judged(&[("host", host)], "/"), Err(Reason::ServerNameNotGranted), "{host}");
        }
        for host in ["", "ok.test,evil.test", "ok.test@evil.test", "ok.test/x"] {
            assert_eq!(judged(&[("host", host)], "/"), Err(Reason::RequestMalformed), "{host}");
        }
        assert_eq!(judged(&[], "/"), Err(Reason::RequestMalformed));
        assert_eq!(judged(&[("host", "ok.test"), ("host", "ok.test")], "/"), Err(Reason::RequestMalformed));
    }

    #[test]
    fn host_and_authority_say_the_same() {
        let both = |uri: &str| judged(&[("host", "ok.test")], uri);
        assert_eq!(both("https://ok.test:8443/x"), Ok("/x".to_owned()));
        assert_eq!(both("https://evil.test/x"), Err(Reason::ServerNameNotGranted));
        assert_eq!(both("http://ok.test/x"), Err(Reason::RequestMalformed));
        assert_eq!(judged(&[("host", "evil.test")], "https://ok.test/x"), Err(Reason::ServerNameNotGranted));
        assert_eq!(judged(&[], "https://ok.test/x"), Ok("/x".to_owned()));
    }

    #[test]
    fn what_would_become_something_else_is_denied() {
        let with =
            |name: &'static str, value: &'static str| judged(&[("host", "ok.test"), (name, value)], "/");
        assert_eq!(with("upgrade", "websocket"), Err(Reason::RequestNotAllowed));
        assert_eq!(with("upgrade", "h2c"), Err(Reason::RequestNotAllowed));
        assert_eq!(with("x-http-method-override", "DELETE"), Err(Reason::RequestNotAllowed));
        assert_eq!(judged(&[("host", "ok.test")], "/b"), Err(Reason::RequestNotAllowed));
    }

    #[test]
    fn what_is_sent_holds_nothing_that_was_for_us_and_what_is_injected_once() {
        let fields = [
            ("host", "OK.test"),
            ("connection", "x-own, authorization"),
            ("x-own", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("proxy-connection", "close"),
            ("authorization", "Bearer of the agent"),
            ("x-key", "a"),
            ("x-key", "b"),
            ("accept", "*/*"),
        ];
        let mut head = head(&fields, "/a");
        let injected = vec![
            (HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer secret")),
            (HeaderName::from_static("x-key"), HeaderValue::from_static("c")),
        ];
        rewrite(&mut head, "/a?b", &server(), injected).unwrap();
        let mut sent: Vec<String> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        sent.sort();
        assert_eq!(sent, ["accept: */*", "authorization: Bearer secret", "host: ok.test:8443", "x-key: c"]);
        assert_eq!(head.uri.to_string(), "/a?b");
    }

    fn judged(fields: &[(&str, &str)], uri: &str) -> Result<String, Reason> {
        let allow = ["GET /", "GET /x"].map(|text| RequestPattern::parse(text).unwrap());
        let inspection = Inspection { allow: Some(allow.to_vec()), ..Inspection::default() };
        judge(&head(fields, uri), &server(), &inspection).map_err(|refusal| refusal.denial.reason)
    }

    fn head(fields: &[(&str, &str)], uri: &str) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn server() -> Server {
        Server { name: HostName::parse("ok.test").unwrap(), port: 8443 }
    }
}
