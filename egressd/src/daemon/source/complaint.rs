//! Why a repository could not be asked, in words that say what to do next. git, curl and ssh say what went wrong, and
//! nothing of whose files are at fault. A server can have them say anything: it is for people, and decides nothing.

use crate::config::{Access, Repository};
use std::path::Path;

/// Words for what was complained of in `lines`.
pub fn in_words(lines: &[String], repository: &Repository, access: &Access) -> String {
    let says = |texts: &[&str]| texts.iter().any(|text| lines.iter().any(|line| line.contains(text)));
    let advice = match access {
        Access::Open => None,
        Access::Https { ca, credentials } => {
            https(says, repository.server(), ca.as_deref(), credentials.as_deref())
        }
        Access::Ssh { identity, known_hosts } => ssh(says, repository.server(), identity, known_hosts),
    };
    let line = lines.iter().rev().find(|line| !BOILERPLATE.iter().any(|text| line.contains(text)));
    let line = line.map_or("git failed, and did not say why", String::as_str);
    match advice {
        Some(advice) => format!("{advice} ({line})"),
        None => line.to_owned(),
    }
}

/// What git adds to whatever ssh says.
const BOILERPLATE: [&str; 3] = [
    "Could not read from remote repository",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// The words of curl with GnuTLS and with OpenSSL, of git 2.30 to 2.47.
fn https(
    says: impl Fn(&[&str]) -> bool,
    server: &str,
    ca: Option<&Path>,
    credentials: Option<&Path>,
) -> Option<String> {
    let authorities = ca.map_or("this host".to_owned(), |ca| format!("`ca` {}", ca.display()));
    if says(&["does not match target host name", "no alternative certificate subject name"]) {
        return Some(format!(
            "the certificate of {server} is for another name: name the server in `git` as its certificate does"
        ));
    }
    if says(&["certificate has expired", "certificate is not yet valid"]) {
        return Some(format!(
            "the certificate of {server} is not valid today: renew it, or mend this host's clock"
        ));
    }
    if says(&["certificate verif", "certificate problem", "local issuer certificate"]) {
        let file = ca.map(|ca| format!(" -CAfile {}", ca.display())).unwrap_or_default();
        let server = if port(server).is_some() { server.to_owned() } else { format!("{server}:443") };
        return Some(format!(
            "the certificate of {server} is not of an authority of {authorities}, or its time is over: \
             `openssl s_client -connect {server}{file}` says which"
        ));
    }
    if says(&["CA cert", "CAfile", "CAINFO"]) {
        return Some(format!("the authorities of {authorities} cannot be read: PEM is wanted"));
    }
    if says(&["could not read Username", "could not read Password", "Authentication failed", "error: 401"]) {
        return Some(match credentials {
            Some(path) => format!("{server} does not take what is in `credentials` {}", path.display()),
            None => format!(
                "{server} asks who we are: name a file with `USER:PASSWORD` or a token in `credentials`"
            ),
        });
    }
    if says(&["error: 403"]) {
        return Some(format!(
            "{server} does not let whom `credentials` stand for, or nobody, read this repository"
        ));
    }
    if says(&["error: 301", "error: 302", "error: 303", "error: 307", "error: 308"]) {
        return Some(format!(
            "{server} sends us to another address, and who is sent away is not followed: write that address in `git`"
        ));
    }
    says(&["' not found", "error: 404"]).then(|| {
        format!("{server} has no such repository, or does not show it to whom `credentials` stand for")
    })
}

fn ssh(says: impl Fn(&[&str]) -> bool, server: &str, identity: &Path, known_hosts: &Path) -> Option<String> {
    let (identity, known_hosts) = (identity.display(), known_hosts.display());
    let name = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    if says(&["has changed and you have requested strict checking"]) {
        return Some(format!(
            "the key of {server} is not the one in `known_hosts` {known_hosts}: somebody may be in between. Ask those \
             who run it for its keys before you write another there"
        ));
    }
    if says(&["host key is known for", "Host key verification failed"]) {
        let scan = port(server).map_or(String::new(), |port| format!("-p {port} "));
        return Some(format!(
            "`known_hosts` {known_hosts} has no key of {server}: `ssh-keyscan {scan}{name}` prints those that answer; \
             compare them with what those who run it say"
        ));
    }
    if says(&["Load key"]) {
        return Some(format!("ssh cannot use the key in `identity` {identity}"));
    }
    if says(&["Permission denied ("]) {
        return Some(format!(
            "{server} does not take the key in `identity` {identity}: give the public half of it leave to read there"
        ));
    }
    says(&["cannot run ssh", "ssh: not found", "ssh: command not found"])
        .then(|| "ssh is not installed: it is in openssh-client".to_owned())
}

/// Of `HOST:PORT` or `[ADDRESS]:PORT`.
fn port(server: &str) -> Option<&str> {
    server.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DaemonConfig;

    #[test]
    fn what_git_says_of_a_server_becomes_what_to_do_next() {
        let known = "ca: /etc/ca.pem, credentials: /etc/token";
        for (keys, said, wanted) in [
            (known, GNUTLS, "is not of an authority of `ca` /etc/ca.pem, or its time is over"),
            (known, GNUTLS, "-connect git.example:443 -CAfile /etc/ca.pem"),
            ("", GNUTLS, "is not of an authority of this host, or its time is over"),
            ("", "SSL certificate problem: unable to get local issuer certificate", "not of an authority"),
            ("", "SSL certificate problem: self-signed certificate", "not of an authority"),
            ("", "SSL certificate problem: certificate has expired", "is not valid today"),
            ("", "SSL: no alternative certificate subject name matches target host name 'x'", "another name"),
            ("", "certificate subject name (y) does not match target host name 'x'", "another name"),
            (known, "Problem with the SSL CA cert (path? access rights?)", "cannot be read: PEM is wanted"),
            (known, TERMINAL, "does not take what is in `credentials` /etc/token"),
            ("", TERMINAL, "asks who we are"),
            ("", "The requested URL returned error: 403", "does not let whom"),
            ("", "The requested URL returned error: 302", "sends us to another address"),
            ("", "fatal: repository 'https://git.example/p/' not found", "has no such repository"),
        ] {
            let told = told("https://git.example/p", keys, said);
            assert!(told.contains(wanted) && told.ends_with(&format!("({said})")), "{said}: {told}");
        }
        let told = told("https://git.example/p", "", "Could not resolve host: git.example");
        assert_eq!(told, "Could not resolve host: git.example");
    }

    #[test]
    fn what_ssh_says_becomes_what_to_do_next_without_what_git_adds() {
        let keys = "identity: /etc/key, known_hosts: /etc/known";
        for (address, said, wanted) in [
            (SHORT, "No ED25519 host key is known for git.example and", "`ssh-keyscan git.example` prints"),
            (LONG, "Host key verification failed.", "`ssh-keyscan -p 2222 2001:db8::1` prints"),
            (
                SHORT,
                "Host key for x has changed and you have requested strict checking.",
                "may be in between",
            ),
            (
                SHORT,
                "git@git.example: Permission denied (publickey).",
                "in `identity` /etc/key: give the public",
            ),
            (SHORT, "Load key \"x\": error in libcrypto", "ssh cannot use the key in `identity` /etc/key"),
        ] {
            let told = told(address, keys, &format!("{said}\n{}", BOILERPLATE.join("\n")));
            assert!(told.contains(wanted) && told.ends_with(&format!("({said})")), "{said}: {told}");
        }
        assert_eq!(
            told(SHORT, keys, "ERROR: no such repository\nfatal: Could not read from remote repository."),
            "ERROR: no such repository"
        );
        assert_eq!(told(SHORT, keys, ""), "git failed, and did not say why");
    }

    const SHORT: &str = "git@git.example:p";
    const LONG: &str = "ssh://git@[2001:db8::1]:2222/p";
    const GNUTLS: &str = "fatal: unable to access 'https://git.example/p/': server certificate verification failed. CAfile: x CRLfile: none";
    const TERMINAL: &str =
        "fatal: could not read Username for 'https://git.example': terminal prompts disabled";

    fn told(address: &str, keys: &str, said: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("egressd.yaml");
        std::fs::write(&path, format!("version: 1\nsource: {{git: \"{address}\", {keys}}}\n")).unwrap();
        let source = DaemonConfig::load(&path).unwrap().source.unwrap();
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        in_words(&lines, &source.repository, &source.access)
    }
}
