//! `source`: the repository that policies come from.

use super::{
    access::{Access, access},
    diagnostic::Diagnostic,
    document::Document,
    repository::Repository,
    term::duration,
    words,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{path::PathBuf, time::Duration};

/// A repository whose policies are in force, and what is asked of its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    pub repository: Repository,
    pub access: Access,
    /// In full, as in `refs/heads/main`.
    pub reference: String,
    /// The folder of policies, from the top of the repository; empty for the top itself.
    pub path: String,
    pub verify: Verify,
    /// How often the repository is looked at. None: when somebody asks for it.
    pub interval: Option<Duration>,
    /// Who git is run as.
    pub user: String,
    pub rewrites: Rewrites,
}

/// Whether signatures of commits are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    No,
    /// By the keys of this file, as ssh-keygen(1) has it under ALLOWED SIGNERS.
    Signed {
        keys: PathBuf,
    },
}

/// What becomes of a commit that does not have those before it among its ancestors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrites {
    Refuse,
    Allow,
}

/// How often a repository is looked at unless the file says.
const INTERVAL: Duration = Duration::from_secs(60);

/// Looks in a shorter time are for nobody.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// As written in the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceSection {
    /// A path, or an address of https, ssh (also as `USER@HOST:PATH`), file or git.
    #[schemars(with = "String")]
    pub(super) git: Spanned<String>,
    /// Behind https: the authorities that the server is believed by, PEM: the host's own, if it is left out.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) ca: Option<Spanned<PathBuf>>,
    /// Behind https: a file of root's with `USER:PASSWORD`, or a token.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) credentials: Option<Spanned<PathBuf>>,
    /// Behind ssh: a file of root's with a private key that has no passphrase.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) identity: Option<Spanned<PathBuf>>,
    /// Behind ssh: the keys of the server, as ssh(1) has them: no other is believed.
    #[schemars(with = "Option<PathBuf>")]
    pub(super) known_hosts: Option<Spanned<PathBuf>>,
    /// A branch, or a name that begins with `refs/`: `main`, if it is left out.
    #[serde(rename = "ref")]
    #[schemars(with = "Option<String>")]
    reference: Option<Spanned<String>>,
    /// The folder of policies: the top, if it is left out.
    #[schemars(with = "Option<String>")]
    path: Option<Spanned<String>>,
    /// Whether a commit must be signed by one of `keys`: no, if it is left out.
    #[schemars(with = "Option<words::Verify>")]
    verify: Option<Spanned<String>>,
    /// A file of this host: ssh keys, as ssh-keygen(1) has them under ALLOWED SIGNERS.
    #[schemars(with = "Option<PathBuf>")]
    keys: Option<Spanned<PathBuf>>,
    /// How often the repository is asked: `60s`, if it is left out.
    #[schemars(with = "Option<words::Interval>")]
    interval: Option<Spanned<String>>,
    /// Who git is run as: `nobody`, if it is left out.
    #[schemars(with = "Option<String>")]
    user: Option<Spanned<String>>,
    /// Whether the ref may go back or be rewritten.
    allow_rewrite: Option<bool>,
}

/// What `section` says. What is wrong is added to `wrong`.
pub(super) fn source(
    document: &Document,
    section: &SourceSection,
    wrong: &mut Vec<Diagnostic>,
) -> Option<GitSource> {
    let mut note = |error: Diagnostic| wrong.push(error);
    let repository = repository(document, &section.git).map_err(&mut note).ok();
    let found = repository.as_ref().map(|repository| access(document, section, repository));
    let access = found.transpose().map_err(&mut note).ok().flatten();
    let reference = reference(document, section.reference.as_ref()).map_err(&mut note).ok();
    let path = path(document, section.path.as_ref()).map_err(&mut note).ok();
    let verify = verify(document, section).map_err(&mut note).ok();
    let interval = interval(document, section.interval.as_ref()).map_err(&mut note).ok();
    let user = user(document, section.user.as_ref()).map_err(&mut note).ok();
    let rewrites = if section.allow_rewrite.unwrap_or_default() { Rewrites::Allow } else { Rewrites::Refuse };
    Some(GitSource {
        repository: repository?,
        access: access?,
        reference: reference?,
        path: path?,
        verify: verify?,
        interval: interval?,
        user: user?,
        rewrites,
    })
}

fn repository(document: &Document, text: &Spanned<String>) -> Result<Repository, Diagnostic> {
    Repository::parse(&text.value).map_err(|why| {
        document.error(text.referenced, "invalid repository").label(why).help(
            "for example: /srv/policies.git, https://git.example/policies.git or git@git.example:policies.git",
        )
    })
}

/// Names of git-check-ref-format(1), without those that mean something to a command line or a ref of refs.
fn reference(document: &Document, text: Option<&Spanned<String>>) -> Result<String, Diagnostic> {
    let Some(text) = text else { return Ok("refs/heads/main".to_owned()) };
    let name = text.value.as_str();
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.' | b'/');
    let is_part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(".lock");
    if name.len() > 255
        || !name.bytes().all(is_plain)
        || !name.split('/').all(is_part)
        || name.contains("..")
        || name.ends_with('.')
    {
        return Err(document
            .error(text.referenced, format!("invalid ref {name:?}"))
            .help("for example: main or refs/tags/policies"));
    }
    Ok(if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") })
}

fn path(document: &Document, text: Option<&Spanned<String>>) -> Result<String, Diagnostic> {
    let Some(text) = text else { return Ok(String::new()) };
    let path = text.value.trim_end_matches('/');
    let path = if path == "." { "" } else { path.strip_prefix("./").unwrap_or(path) };
    let is_part = |part: &str| !matches!(part, "" | "." | ".." | ".git") && !part.contains(char::is_control);
    if !path.is_empty() && !path.split('/').all(is_part) {
        return Err(document
            .error(text.referenced, format!("invalid path {:?}", text.value))
            .help("a folder from the top of the repository, as in policies/"));
    }
    Ok(path.to_owned())
}

fn verify(document: &Document, section: &SourceSection) -> Result<Verify, Diagnostic> {
    match (section.verify.as_ref(), section.keys.as_ref()) {
        (Some(word), Some(keys)) if word.value == "signed" => match keys.value.is_absolute() {
            true => Ok(Verify::Signed { keys: keys.value.clone() }),
            false => Err(document
                .error(keys.referenced, format!("`{}` is not a whole path", keys.value.display()))
                .help("begin with `/`: keys are of this host, and never of the repository")),
        },
        (Some(word), None) if word.value == "signed" => Err(document
            .error(word.referenced, "signatures need `keys`")
            .help("a file of allowed signers: `NAME namespaces=\"git\" ssh-ed25519 AAAA...` a line")),
        (Some(word), _) if word.value != "none" => Err(document
            .error(word.referenced, format!("invalid verify `{}`", word.value))
            .label("expected none or signed")),
        (_, Some(keys)) => Err(document
            .error(keys.referenced, "keys that no signature is held against")
            .label("needs `verify: signed`")),
        (_, None) => Ok(Verify::No),
    }
}

fn interval(document: &Document, text: Option<&Spanned<String>>) -> Result<Option<Duration>, Diagnostic> {
    let Some(text) = text else { return Ok(Some(INTERVAL)) };
    if text.value == "never" {
        return Ok(None);
    }
    let interval = duration(document, text)?;
    if interval < MIN_INTERVAL {
        return Err(document.error(text.referenced, "an interval has a second at least"));
    }
    Ok(Some(interval))
}

fn user(document: &Document, text: Option<&Spanned<String>>) -> Result<String, Diagnostic> {
    let Some(text) = text else { return Ok("nobody".to_owned()) };
    match text.value.as_str() {
        "" | "root" | "0" => Err(document
            .error(text.referenced, "git does not run as root here")
            .help("name a user that no agent runs as")),
        user => Ok(user.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_names_a_repository_means_the_defaults() {
        let found = compile("git: /srv/policies.git").unwrap();
        assert_eq!(found.repository.address(), "/srv/policies.git");
        assert_eq!((found.reference.as_str(), found.path.as_str()), ("refs/heads/main", ""));
        assert_eq!((found.verify, found.rewrites), (Verify::No, Rewrites::Refuse));
        assert_eq!((found.interval, found.user.as_str()), (Some(INTERVAL), "nobody"));
    }

    #[test]
    fn a_source_says_everything_else_in_words() {
        let text = "git: https://git.example/p.git\nref: refs/tags/live\npath: ./policies/\nverify: signed\n\
                    keys: /etc/egressd/signers\ninterval: never\nuser: policies\nallow_rewrite: true\n";
        let found = compile(text).unwrap();
        assert_eq!((found.reference.as_str(), found.path.as_str()), ("refs/tags/live", "policies"));
        assert_eq!(found.verify, Verify::Signed { keys: "/etc/egressd/signers".into() });
        assert_eq!((found.interval, found.user.as_str()), (None, "policies"));
        assert_eq!(found.rewrites, Rewrites::Allow);
    }

    #[test]
    fn a_server_and_we_prove_ourselves_with_files_of_this_host() {
        let found = compile("git: https://git.example/p\nca: /ca.pem\ncredentials: /token\n").unwrap();
        let (ca, credentials) = (Some("/ca.pem".into()), Some("/token".into()));
        assert_eq!(found.access, Access::Https { ca, credentials });
        let found = compile("git: git@git.example:p\nidentity: /key\nknown_hosts: /known\n").unwrap();
        let (identity, known_hosts) = ("/key".into(), "/known".into());
        assert_eq!(found.access, Access::Ssh { identity, known_hosts });
    }

    #[test]
    fn what_would_run_a_program_or_leave_the_repository_is_refused() {
        for text in [
            "git: \"ext::sh -c id\"",
            "git: \"--upload-pack=id\"",
            "git: ssh://git@git.example/p",
            "git: ssh://git@git.example/p\nidentity: /key",
            "git: ssh://git@git.example/p\nknown_hosts: /known",
            "git: ssh://git@git.example/p\nidentity: key\nknown_hosts: /known",
            "git: ssh://git@git.example/p\nidentity: /key\nknown_hosts: known",
            "git: ssh://git@git.example/p\nidentity: /key\nknown_hosts: /known\nca: /ca.pem",
            "git: ssh://git@git.example/p\nidentity: /key\nknown_hosts: /known\ncredentials: /token",
            "git: https://git.example/p\nidentity: /key",
            "git: https://git.example/p\nknown_hosts: /known",
            "git: https://git.example/p\nca: ca.pem",
            "git: https://git.example/p\ncredentials: token",
            "git: https://me:secret@git.example/p\ncredentials: /token",
            "git: /p\nca: /ca.pem",
            "git: git://git.example/p\ncredentials: /token",
            "git: policies",
            "git: \"/srv/a b\"",
            "git: /p\nref: --upload-pack=id",
            "git: /p\nref: \"main:evil\"",
            "git: /p\nref: ../x",
            "git: /p\nref: \"\"",
            "git: /p\npath: ../x",
            "git: /p\npath: /etc",
            "git: /p\npath: a//b",
            "git: /p\nverify: maybe",
            "git: /p\nverify: signed",
            "git: /p\nverify: signed\nkeys: signers",
            "git: /p\nkeys: /signers",
            "git: /p\ninterval: 1ms",
            "git: /p\ninterval: soon",
            "git: /p\nuser: root",
            "git: /p\nbranch: main",
            "ref: main",
        ] {
            assert!(compile(text).is_err(), "{text:?}");
        }
    }

    fn compile(text: &str) -> Result<GitSource, Vec<Diagnostic>> {
        let document = Document::new("egressd.yaml", text);
        let section: SourceSection = document.parse().map_err(|error| vec![error])?;
        let mut wrong = Vec::new();
        let found = source(&document, &section, &mut wrong);
        if wrong.is_empty() { Ok(found.unwrap()) } else { Err(wrong) }
    }
}
