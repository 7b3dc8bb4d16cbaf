//! `source`: the repository that policies come from.

use super::{diagnostic::Diagnostic, document::Document, term::duration, words};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{fmt, path::PathBuf, time::Duration};

/// A repository whose policies are in force, and what is asked of its commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    pub repository: Repository,
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

/// A path, or an address of `https`, `file` or `git`. Displays without a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository(String);

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

impl Repository {
    /// As it was written, with what may be a password.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let is_plain = text.chars().all(|letter| !letter.is_control() && letter != ' ');
        let is_known = text.starts_with('/') || SCHEMES.iter().any(|scheme| text.starts_with(scheme));
        (is_plain && is_known && text.len() <= MAX_ADDRESS).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        write!(f, "{scheme}://{host}{path}")
    }
}

/// The transports that git is allowed. `ext` runs programs, and `ssh` needs keys of somebody.
const SCHEMES: [&str; 3] = ["https://", "file://", "git://"];

/// Octets of an address at the most.
const MAX_ADDRESS: usize = 2048;

/// How often a repository is looked at unless the file says.
const INTERVAL: Duration = Duration::from_secs(60);

/// Looks in a shorter time are for nobody.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// As written in the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceSection {
    /// A path, or an address of https, file or git.
    #[schemars(with = "String")]
    git: Spanned<String>,
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
    let reference = reference(document, section.reference.as_ref()).map_err(&mut note).ok();
    let path = path(document, section.path.as_ref()).map_err(&mut note).ok();
    let verify = verify(document, section).map_err(&mut note).ok();
    let interval = interval(document, section.interval.as_ref()).map_err(&mut note).ok();
    let user = user(document, section.user.as_ref()).map_err(&mut note).ok();
    let rewrites = if section.allow_rewrite.unwrap_or_default() { Rewrites::Allow } else { Rewrites::Refuse };
    Some(GitSource {
        repository: repository?,
        reference: reference?,
        path: path?,
        verify: verify?,
        interval: interval?,
        user: user?,
        rewrites,
    })
}

fn repository(document: &Document, text: &Spanned<String>) -> Result<Repository, Diagnostic> {
    Repository::parse(&text.value).ok_or_else(|| {
        document
            .error(text.referenced, "invalid repository")
            .help("for example: /srv/policies.git or https://git.example/policies.git")
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
    fn a_password_is_shown_to_nobody() {
        let repository = Repository::parse("https://me:secret@git.example/p@1.git").unwrap();
        assert_eq!(repository.to_string(), "https://git.example/p@1.git");
        assert_eq!(Repository::parse("/srv/a@b").unwrap().to_string(), "/srv/a@b");
    }

    #[test]
    fn what_would_run_a_program_or_leave_the_repository_is_refused() {
        for text in [
            "git: \"ext::sh -c id\"",
            "git: \"--upload-pack=id\"",
            "git: ssh://git.example/p",
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
