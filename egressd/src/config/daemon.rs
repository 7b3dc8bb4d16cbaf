//! The daemon's own file, `egressd.yaml`.

use super::{
    credential::{Credential, credentials},
    diagnostic::{ConfigError, Diagnostic},
    document::Document,
    file::{CredentialSection, Named},
    load::read,
    source::{GitSource, SourceSection, source},
    upstream::Upstream,
    words,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// How the daemon runs: where it finds things, and which resolvers it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The resolvers to ask. Empty: the host's own.
    pub upstreams: Vec<Upstream>,
    /// The authorities that resolvers over TLS are believed by, PEM. None: the host's own.
    pub upstream_ca: Option<PathBuf>,
    pub dnssec: Dnssec,
    /// The authorities that servers behind rules with `inspect` are believed by, PEM. None: the host's own.
    pub inspection_ca: Option<PathBuf>,
    pub credentials: Vec<Credential>,
    pub policy_dir: PathBuf,
    /// A repository instead of `policy_dir`.
    pub source: Option<GitSource>,
    pub reload: Reload,
    pub allowlist_dirs: Vec<PathBuf>,
    pub run_dir: PathBuf,
    pub audit_log: PathBuf,
    /// Where monitors read figures, on this host alone. None: only by `egressctl metrics`.
    pub metrics: Option<SocketAddr>,
    /// Where the registries of package tools are remembered from one start to the next.
    pub cache_dir: PathBuf,
    /// What has to outlive a start of this host: of repositories, what was in force.
    pub state_dir: PathBuf,
}

/// Whether the signatures of answers are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dnssec {
    #[default]
    Off,
    /// By the keys in the file `anchor`, or by those of the root.
    Validate { anchor: Option<PathBuf> },
}

/// When policy files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reload {
    /// When they change.
    #[default]
    Auto,
    /// When somebody asks for it.
    Manual,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            upstream_ca: None,
            dnssec: Dnssec::default(),
            inspection_ca: None,
            credentials: Vec::new(),
            policy_dir: PathBuf::from("/etc/egressd/policy.d"),
            source: None,
            reload: Reload::default(),
            allowlist_dirs: vec![
                PathBuf::from("/etc/egressd/allowlists"),
                PathBuf::from("/usr/share/egressd/allowlists"),
            ],
            run_dir: PathBuf::from("/run/egressd"),
            audit_log: PathBuf::from("/var/log/egressd/audit.jsonl"),
            metrics: None,
            cache_dir: PathBuf::from(DEFAULT_CACHE_DIR),
            state_dir: PathBuf::from("/var/lib/egressd"),
        }
    }
}

/// The usual place of the cache.
pub(super) const DEFAULT_CACHE_DIR: &str = "/var/cache/egressd";

impl DaemonConfig {
    /// Loads the file at `path`. Keys that it leaves out have their defaults.
    ///
    /// # Errors
    /// Shows what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let document = read(path).map_err(|error| Diagnostic::general(error.to_string()))?;
        Self::compile(&document)
    }

    fn compile(document: &Document) -> Result<Self, ConfigError> {
        let file: DaemonFile = document.parse()?;
        let mut wrong: Vec<Diagnostic> = document.check_version(&file.version).err().into_iter().collect();
        let mut upstreams = Vec::new();
        for upstream in file.upstreams.iter().flatten() {
            match Upstream::parse(&upstream.value) {
                Ok(parsed) => upstreams.push(parsed),
                Err(error) => wrong.push(
                    document
                        .error(upstream.referenced, format!("invalid upstream `{}`", upstream.value))
                        .label(error.to_string())
                        .help(
                            "for example: 192.0.2.53, \"[2001:db8::53]:5353\", tcp://192.0.2.53, \
                             \"tls://192.0.2.53#dns.example\" or \"https://192.0.2.53/dns-query#dns.example\"",
                        ),
                ),
            }
        }
        let dnssec = dnssec(document, &file).map_err(|error| wrong.push(error)).unwrap_or_default();
        let credentials = credentials(document, file.credentials.as_ref(), &mut wrong);
        let reload = reload(document, &file).map_err(|error| wrong.push(error)).unwrap_or_default();
        let metrics = metrics(document, &file).map_err(|error| wrong.push(error)).unwrap_or_default();
        let source = file.source.as_ref().and_then(|section| source(document, section, &mut wrong));
        if let (Some(_), Some(folder)) = (&file.source, &file.policy_dir) {
            wrong.push(
                document
                    .error(folder.referenced, "policies are in a folder or in a repository, not in both")
                    .help("leave `policy_dir` out, or `source`"),
            );
        }
        if let Some(excess) = file.upstreams.iter().flatten().nth(MAX_UPSTREAMS) {
            let title = format!("at most {MAX_UPSTREAMS} upstreams are allowed");
            wrong.push(document.error(excess.referenced, title));
        }
        if !wrong.is_empty() {
            return Err(ConfigError::all(wrong));
        }
        let default = Self::default();
        Ok(Self {
            upstreams,
            upstream_ca: file.upstream_ca,
            dnssec,
            inspection_ca: file.inspection_ca,
            credentials,
            policy_dir: file.policy_dir.map_or(default.policy_dir, |folder| folder.value),
            source,
            reload,
            allowlist_dirs: file.allowlist_dirs.unwrap_or(default.allowlist_dirs),
            run_dir: file.run_dir.unwrap_or(default.run_dir),
            audit_log: file.audit_log.unwrap_or(default.audit_log),
            metrics,
            cache_dir: file.cache_dir.unwrap_or(default.cache_dir),
            state_dir: file.state_dir.unwrap_or(default.state_dir),
        })
    }
}

fn dnssec(document: &Document, file: &DaemonFile) -> Result<Dnssec, Diagnostic> {
    match (file.dnssec.as_ref(), file.dnssec_anchor.as_ref()) {
        (Some(word), anchor) if word.value == "validate" => {
            Ok(Dnssec::Validate { anchor: anchor.map(|anchor| anchor.value.clone()) })
        }
        (Some(word), _) if word.value != "off" => Err(document
            .error(word.referenced, format!("invalid dnssec `{}`", word.value))
            .label("expected off or validate")),
        (_, Some(anchor)) => Err(document
            .error(anchor.referenced, "an anchor without validation".to_owned())
            .label("needs `dnssec: validate`")),
        (_, None) => Ok(Dnssec::Off),
    }
}

fn reload(document: &Document, file: &DaemonFile) -> Result<Reload, Diagnostic> {
    let Some(word) = &file.reload else { return Ok(Reload::default()) };
    match word.value.as_str() {
        "auto" => Ok(Reload::Auto),
        "manual" => Ok(Reload::Manual),
        other => Err(document
            .error(word.referenced, format!("invalid reload `{other}`"))
            .label("expected auto or manual")),
    }
}

/// The figures are no secret on this host, and for others it takes something that asks who they are.
fn metrics(document: &Document, file: &DaemonFile) -> Result<Option<SocketAddr>, Diagnostic> {
    let Some(word) = &file.metrics else { return Ok(None) };
    let wrong = |label: &str| {
        document
            .error(word.referenced, format!("invalid metrics `{}`", word.value))
            .label(label)
            .help("for example: 127.0.0.1:9464")
    };
    match word.value.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(wrong("monitors have to know the port")),
        Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
        Ok(_) => Err(wrong("only addresses of the host's loopback are allowed")),
        Err(_) => Err(wrong("expected an address with a port")),
    }
}

/// The daemon's own file. Every key but `version` may be left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DaemonFile {
    /// Of the format.
    #[schemars(with = "words::Version")]
    version: Spanned<u64>,
    /// The resolvers to ask, such as `192.0.2.53` or `tls://192.0.2.53#dns.example`: the host's own, if it is left
    /// out.
    #[schemars(with = "Option<Vec<String>>")]
    upstreams: Option<Vec<Spanned<String>>>,
    /// The authorities that resolvers over TLS are believed by, PEM: the host's own, if it is left out.
    upstream_ca: Option<PathBuf>,
    /// Whether the signatures of answers are looked at.
    #[schemars(with = "Option<words::Dnssec>")]
    dnssec: Option<Spanned<String>>,
    /// The keys by which they are: those of the root, if it is left out.
    #[schemars(with = "Option<PathBuf>")]
    dnssec_anchor: Option<Spanned<PathBuf>>,
    /// The authorities that servers behind rules with `inspect` are believed by, PEM: the host's own, if it is left
    /// out.
    inspection_ca: Option<PathBuf>,
    /// What rules may inject, by name.
    credentials: Option<Named<CredentialSection>>,
    /// Its `*.yaml` are the policies.
    #[schemars(with = "Option<PathBuf>")]
    policy_dir: Option<Spanned<PathBuf>>,
    /// A repository instead.
    source: Option<SourceSection>,
    /// When policy files are read again: when they change, or when somebody asks for it.
    #[schemars(with = "Option<words::Reload>")]
    reload: Option<Spanned<String>>,
    /// Where allowlists are looked for that do not lie beside the policy.
    allowlist_dirs: Option<Vec<PathBuf>>,
    /// For sockets and what is remembered.
    run_dir: Option<PathBuf>,
    audit_log: Option<PathBuf>,
    /// Where monitors read figures, as in `127.0.0.1:9464`: an address of the host's loopback. Nowhere, if it is left
    /// out.
    #[schemars(with = "Option<String>")]
    metrics: Option<Spanned<String>>,
    /// Where the registries of package tools are remembered from one start to the next.
    cache_dir: Option<PathBuf>,
    /// For what has to outlive a start of this host: of repositories, what was in force.
    state_dir: Option<PathBuf>,
}

/// As many as an agent would wait for, one after the other, before it gave up.
const MAX_UPSTREAMS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CredentialSource;

    #[test]
    fn a_daemon_file_that_only_has_a_version_means_the_defaults() {
        assert_eq!(compile("version: 1\n"), Ok(DaemonConfig::default()));
    }

    #[test]
    fn upstreams_are_addresses_and_how_they_are_spoken_to() {
        let text =
            "version: 1\nupstreams: [192.0.2.53, \"2001:db8::53\", \"tls://192.0.2.53#dns.example\"]\n";
        let wanted = ["192.0.2.53:53", "[2001:db8::53]:53", "tls://192.0.2.53:853#dns.example"];
        assert_eq!(compile(text).unwrap().upstreams, wanted.map(|text| Upstream::parse(text).unwrap()));
        let text = "version: 1\nupstream_ca: /etc/own.pem\n";
        assert_eq!(compile(text).unwrap().upstream_ca, Some(PathBuf::from("/etc/own.pem")));
    }

    #[test]
    fn credentials_are_named_with_where_they_are_and_how_they_are_sent() {
        let text = "version: 1\ncredentials:\n  forge: {file: /etc/egressd/forge.token, format: \"Bearer {}\"}\n  \
                    other: {environment: OTHER}\n";
        let around = |before: &str| (before.to_owned(), String::new());
        let file = CredentialSource::File(PathBuf::from("/etc/egressd/forge.token"));
        let wanted = [
            Credential { name: "forge".to_owned(), source: file, around: around("Bearer ") },
            Credential {
                name: "other".to_owned(),
                source: CredentialSource::Environment("OTHER".to_owned()),
                around: around(""),
            },
        ];
        assert_eq!(compile(text).unwrap().credentials, wanted);
    }

    #[test]
    fn signatures_are_looked_at_only_where_the_file_says_so() {
        let dnssec = |text: &str| compile(&format!("version: 1\n{text}")).unwrap().dnssec;
        assert_eq!(dnssec("dnssec: \"off\"\n"), Dnssec::Off);
        assert_eq!(dnssec("dnssec: validate\n"), Dnssec::Validate { anchor: None });
        let anchored = Dnssec::Validate { anchor: Some(PathBuf::from("/etc/anchor.key")) };
        assert_eq!(dnssec("dnssec: validate\ndnssec_anchor: /etc/anchor.key\n"), anchored);
    }

    #[test]
    fn policy_files_are_read_again_when_they_change_unless_the_file_says_otherwise() {
        let reload = |text: &str| compile(&format!("version: 1\n{text}")).unwrap().reload;
        assert_eq!(reload(""), Reload::Auto);
        assert_eq!(reload("reload: auto\n"), Reload::Auto);
        assert_eq!(reload("reload: manual\n"), Reload::Manual);
    }

    #[test]
    fn figures_are_told_only_on_the_loopback_and_only_where_the_file_says_so() {
        let metrics = |text: &str| compile(&format!("version: 1\n{text}")).map(|config| config.metrics);
        assert_eq!(metrics(""), Ok(None));
        for address in ["127.0.0.1:9464", "[::1]:9464", "127.0.0.9:1"] {
            assert_eq!(metrics(&format!("metrics: \"{address}\"\n")), Ok(address.parse().ok()), "{address}");
        }
        for address in
            ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464", "127.0.0.1", "127.0.0.1:0", "localhost:9464"]
        {
            assert!(metrics(&format!("metrics: \"{address}\"\n")).is_err(), "{address}");
        }
    }

    #[test]
    fn a_daemon_file_with_mistakes_is_refused() {
        for text in [
            "",
            "upstreams: []\n",
            "version: 2\n",
            "version: 1\nupstreams: [dns.example.com]\n",
            "version: 1\nupstreams: [\"192.0.2.53:0\"]\n",
            "version: 1\nupstream: []\n",
            "version: 1\ndnssec: yes\n",
            "version: 1\nreload: always\n",
            "version: 1\nsource: {git: policies}\n",
            "version: 1\nsource: {git: /srv/p.git}\npolicy_dir: /etc/p\n",
            "version: 1\ndnssec_anchor: /etc/anchor.key\n",
            "version: 1\nversion: 1\n",
            "version: 1\ncredentials: {a: {}}\n",
            "version: 1\ncredentials: {a: {file: a.token}}\n",
            "version: 1\ncredentials: {a: {file: /a, environment: A}}\n",
            "version: 1\ncredentials: {a: {file: /a, format: Bearer}}\n",
            "version: 1\ncredentials: {a: {file: /a, format: \"{}{}\"}}\n",
            "version: 1\ncredentials: {a: {value: secret}}\n",
        ] {
            assert!(compile(text).is_err(), "{text:?}");
        }
    }

    fn compile(text: &str) -> Result<DaemonConfig, ConfigError> {
        DaemonConfig::compile(&Document::new("egressd.yaml", text))
    }
}
