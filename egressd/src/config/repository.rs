//! Where a repository is, in the words of git, without those of its words that run programs.

use std::fmt;

/// A path, or an address of `https`, `ssh`, `file` or `git`. Displays without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    transport: Transport,
    address: String,
    /// Host and port.
    server: String,
    login: Option<Login>,
}

/// How git reaches a repository. `ext` runs what the address says, and `http` proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    File,
    Git,
    Https,
    Ssh,
}

/// Who an address of `https` says that we are.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Option<String>,
}

impl Repository {
    /// As git is given it: without a password, for git hands it on to a program as an argument, which everybody
    /// on this host can read.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Host and port of the server; empty where there is none.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Reads what is written under `git`.
    ///
    /// # Errors
    /// Says what is wrong with it, never what it is: it may hold a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_ADDRESS {
            return Err("longer than 2048 octets");
        }
        if text.chars().any(|letter| letter.is_control() || letter == ' ') {
            return Err("neither spaces nor control characters are allowed");
        }
        match text.split_once("://") {
            Some(("https", rest)) => https(rest),
            Some(("ssh", rest)) => ssh(text, rest),
            Some(("git", rest)) => {
                let (server, _) = split(rest)?;
                is_server(server).then(|| Self::plain(Transport::Git, text, server)).ok_or(SERVER)
            }
            Some(("file", _)) => Ok(Self::plain(Transport::File, text, "")),
            Some(_) if !text.starts_with('/') => Err(KINDS),
            Some(_) | None if text.starts_with('/') => Ok(Self::plain(Transport::File, text, "")),
            Some(_) | None => short(text),
        }
    }

    fn plain(transport: Transport, address: &str, server: &str) -> Self {
        Self { transport, address: address.to_owned(), server: server.to_owned(), login: None }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl Transport {
    /// As git calls it under `protocol`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Git => "git",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `[USER[:PASSWORD]@]HOST[:PORT]/PATH`. What stands before the host is taken out.
fn https(rest: &str) -> Result<Repository, &'static str> {
    let (authority, path) = split(rest)?;
    let (login, server) = match authority.rsplit_once('@') {
        Some((login, server)) => (Some(self::login(login)?), server),
        None => (None, authority),
    };
    if !is_server(server) {
        return Err(SERVER);
    }
    let address = format!("https://{server}{path}");
    Ok(Repository { login, ..Repository::plain(Transport::Https, &address, server) })
}

/// `USER@HOST[:PORT]/PATH`.
fn ssh(text: &str, rest: &str) -> Result<Repository, &'static str> {
    let (authority, path) = split(rest)?;
    let (user, server) = authority.rsplit_once('@').ok_or(USER)?;
    if user.contains(':') {
        return Err("ssh takes no password: give it a key, with `identity`");
    }
    if !is_user(user) {
        return Err(USER);
    }
    if !is_server(server) {
        return Err(SERVER);
    }
    if path.len() < 2 {
        return Err("which repository of the server is not said");
    }
    Ok(Repository::plain(Transport::Ssh, text, server))
}

/// `USER@HOST:PATH`, which means ssh. Nothing of it may begin as an option does: git hands the path to a program of
/// the server, and the host to one of ours (CVE-2017-1000117).
fn short(text: &str) -> Result<Repository, &'static str> {
    let (login, path) = text.split_once(':').ok_or(KINDS)?;
    let (user, server) = login.rsplit_once('@').ok_or(KINDS)?;
    if !is_user(user) {
        return Err(USER);
    }
    if !is_server(server) {
        return Err(SERVER);
    }
    if path.is_empty() || path.starts_with('-') {
        return Err("a path does not begin with `-`");
    }
    Ok(Repository::plain(Transport::Ssh, text, server))
}

/// Host and port, and the path with its `/`. What readers of addresses take for the end of a host in different ways
/// is no part of it.
fn split(rest: &str) -> Result<(&str, &str), &'static str> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains(['?', '#', '\\']) { Err(SERVER) } else { Ok((authority, path)) }
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn is_server(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => {
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        Some(None) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    host.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && host.bytes().all(is_plain)
        && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_user(text: &str) -> bool {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'+');
    text.starts_with(|letter: char| letter.is_ascii_alphanumeric()) && text.bytes().all(is_plain)
}

fn login(text: &str) -> Result<Login, &'static str> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, rest)| (user, Some(rest)));
    let user = decoded(user).filter(|user| !user.is_empty() && !user.contains(':')).ok_or(LOGIN)?;
    let password = password.map(|text| decoded(text).ok_or(LOGIN)).transpose()?;
    Ok(Login { user, password })
}

/// Undoes `%XX` (RFC 3986, section 2.1). None where it is no text, or holds what no header field can.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let mut digit = || u8::try_from(char::from(rest.next()?).to_digit(16)?).ok();
                digit()? * 16 + digit()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok().filter(|text| !text.contains(char::is_control))
}

/// Octets of an address at the most.
const MAX_ADDRESS: usize = 2048;

const KINDS: &str = "expected a path from `/`, or an address of https, ssh, file or git";
const SERVER: &str = "expected a host, and perhaps a port";
const USER: &str = "ssh needs a user, and its name begins with a letter or a digit";
const LOGIN: &str =
    "what stands before `@` is no user and password; `%XX` stands for what an address cannot have";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_taken_out_of_the_address_and_shown_to_nobody() {
        let repository = Repository::parse("https://me:s%40cr%3Aet@git.example:8443/p@1.git").unwrap();
        assert_eq!(repository.address(), "https://git.example:8443/p@1.git");
        assert_eq!(repository.to_string(), repository.address());
        assert!(!format!("{repository:?}").contains("cr"));
        let login = repository.login().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_deref()), ("me", Some("s@cr:et")));
        let repository = Repository::parse("https://me@git.example/p").unwrap();
        assert_eq!(repository.login().unwrap().password, None);
        assert_eq!(Repository::parse("/srv/a@b").unwrap().to_string(), "/srv/a@b");
    }

    #[test]
    fn every_way_to_write_a_repository_means_one_transport() {
        for (text, transport, server) in [
            ("/srv/policies.git", Transport::File, ""),
            ("/srv/a://b@c:d", Transport::File, ""),
            ("file:///srv/policies.git", Transport::File, ""),
            ("git://git.example:9418/p", Transport::Git, "git.example:9418"),
            ("https://git.example/p", Transport::Https, "git.example"),
            ("https://[2001:db8::1]:8443/p", Transport::Https, "[2001:db8::1]:8443"),
            ("ssh://git@git.example/p", Transport::Ssh, "git.example"),
            ("ssh://git@git.example:2222/~me/p", Transport::Ssh, "git.example:2222"),
            ("ssh://git@[2001:db8::1]/p", Transport::Ssh, "[2001:db8::1]"),
            ("git@git.example:team/p.git", Transport::Ssh, "git.example"),
            ("org-1@192.0.2.1:/srv/p", Transport::Ssh, "192.0.2.1"),
        ] {
            let repository = Repository::parse(text).unwrap();
            assert_eq!((repository.transport(), repository.server()), (transport, server), "{text}");
            assert_eq!(repository.address(), text);
        }
    }

    #[test]
    fn what_would_run_a_program_or_mislead_is_refused() {
        for text in [
            "",
            "policies",
            "./policies",
            "http://git.example/p",
            "ext::sh -c id",
            "ext::sh@x:id",
            "--upload-pack=id",
            "-oProxyCommand=id@git.example:p",
            "git@-oProxyCommand=id:p",
            "git@git.example:-p",
            "git@git.example:",
            "git.example:p",
            "@git.example:p",
            "a@b@git.example:p",
            "ssh://git.example/p",
            "ssh://git@-oProxyCommand=id/p",
            "ssh://-oProxyCommand=id@git.example/p",
            "ssh://-oProxyCommand=id/p",
            "ssh://git:secret@git.example/p",
            "ssh://git@git.example",
            "ssh://git@git.example/",
            "ssh://git@git.example:port/p",
            "ssh://git@git.example:0/p",
            "ssh://git@git.example:+22/p",
            "ssh://git@[git.example]/p",
            "ssh://git@[2001:db8::1/p",
            "git://me@git.example/p",
            "git://-x/p",
            "https://",
            "https:///p",
            "https://-x/p",
            "https://git.example:99999/p",
            "https://me:se%cret@git.example/p",
            "https://me:se%0acret@git.example/p",
            "https://me:secret@evil.example?@git.example/p",
            "https://evil.example\\@git.example/p",
            "https://:secret@git.example/p",
            "https://git.example/a b",
            "https://git.example/a\nb",
        ] {
            assert!(Repository::parse(text).is_err(), "{text:?}");
        }
        assert!(Repository::parse(&format!("/{}", "a".repeat(MAX_ADDRESS))).is_err());
    }
}
