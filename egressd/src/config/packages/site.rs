//! One place that a package tool downloads from.

use crate::policy::{Destination, HostName};
use http::Uri;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Scheme, host and port of a registry, without its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    pub scheme: Scheme,
    /// A host name or an address, as [`Site::destination`] reads it.
    pub(super) host: String,
    pub port: u16,
    /// The host resolves to private addresses here, as a company's mirror does.
    pub private: bool,
}

/// How a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Https,
    Http,
}

impl Site {
    /// The site of an `http` or `https` URL; None for anything else.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        // The download URL of a cargo registry may hold `{crate}` in its path (never in its host).
        let uri: Uri = url.split('{').next()?.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(match scheme {
            Scheme::Https => 443,
            Scheme::Http => 80,
        });
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let site = Self { scheme, host, port, private: false };
        (site.port != 0 && site.destination().is_some()).then_some(site)
    }

    /// The host, parsed.
    #[must_use]
    pub fn destination(&self) -> Option<Destination> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Some(Destination::Address(address));
        }
        HostName::parse(&self.host).ok().map(Destination::Name)
    }
}

/// The sites of every `http` or `https` URL that stands in `text`.
pub(in crate::config) fn sites_in(text: &str) -> impl Iterator<Item = Site> {
    let ends =
        |letter: char| letter.is_whitespace() || matches!(letter, '\'' | '"' | '\\' | '<' | '>' | ',' | ')');
    text.match_indices("http").filter_map(move |(start, _)| {
        let rest = text.get(start..)?;
        Site::parse(rest.split(ends).next()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_scheme_host_and_port() {
        assert_eq!(parse("https://mirror.example/simple"), ("mirror.example".to_owned(), 443, Scheme::Https));
        assert_eq!(parse("http://mirror.example"), ("mirror.example".to_owned(), 80, Scheme::Http));
        assert_eq!(
            parse("http://u:p@mirror.example:8081/x?y#z"),
            ("mirror.example".to_owned(), 8081, Scheme::Http)
        );
        assert_eq!(
            parse("https://m.example/{crate}/{version}"),
            ("m.example".to_owned(), 443, Scheme::Https)
        );
        assert_eq!(parse("http://[2001:db8::1]:81/"), ("2001:db8::1".to_owned(), 81, Scheme::Http));
    }

    #[test]
    fn what_is_no_site_is_left_out() {
        for url in [
            "",
            "file:///opt/wheels",
            "/opt/wheels",
            "https://",
            "https://m.example:0/",
            "https://*.example/",
        ] {
            assert_eq!(Site::parse(url), None, "{url}");
        }
    }

    #[test]
    fn urls_are_found_in_the_lines_of_a_configuration() {
        let text = "global.extra-index-url='https://a.example/s\\nhttp://b.example'\n:env:.find-links='/opt'";
        assert_eq!(sites_in(text).map(|site| site.host).collect::<Vec<_>>(), ["a.example", "b.example"]);
    }

    fn parse(url: &str) -> (String, u16, Scheme) {
        let site = Site::parse(url).unwrap();
        (site.host, site.port, site.scheme)
    }
}
