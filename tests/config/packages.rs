//! What `packages:` compiles to, with tools that answer from a script.

use egressd::{
    config::{Ask, Installed, Loader, Run, ToolError},
    policy::{AgentName, Rule},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tempfile::{TempDir, tempdir};

#[test]
fn pip_reaches_its_index_and_the_host_that_the_index_sends_downloads_to() {
    let rules = rules("python", Tools::default());
    assert_eq!(
        said(&rules),
        ["extra.example:8081/http", "files.example:443/tls", "index.example:443/tls"],
        "a local folder of wheels is no site",
    );
    assert!(rules.iter().all(|rule| rule.source.to_string() == "policy.yaml:4"));
}

#[test]
fn npm_reaches_its_registry_and_those_of_scopes() {
    assert_eq!(said(&rules("node", Tools::default())), ["npm.example:443/tls", "scope.example:4873/http"]);
}

#[test]
fn cargo_reaches_its_index_and_the_host_of_its_downloads_but_not_of_its_api() {
    assert_eq!(said(&rules("rust", Tools::default())), ["crates.example:443/tls", "index.example:443/tls"]);
}

#[test]
fn apt_reaches_the_site_of_every_source_once() {
    let rules = rules("debian", Tools::default());
    assert_eq!(said(&rules), ["192.0.2.9/32:3142/tcp", "deb.example:443/tls", "deb.example:80/http"]);
}

#[test]
fn a_mirror_at_a_private_address_may_resolve_to_one() {
    let mut rules = rules("python", Tools::default());
    rules.retain(|rule| rule.private);
    assert_eq!(said(&rules), ["extra.example:8081/http"]);
}

#[test]
fn a_missing_tool_is_shown_at_its_word() {
    let tools = Tools { missing: "apt-get", ..Tools::default() };
    let shown = error("debian", tools);
    assert!(shown.contains("policy.yaml:4:16") && shown.contains("`apt-get` is not installed"), "{shown}");
}

#[test]
fn pip3_serves_where_there_is_no_pip() {
    assert_eq!(rules("python", Tools { missing: "pip", ..Tools::default() }).len(), 3);
}

#[test]
fn an_answer_without_a_site_is_an_error() {
    let tools = Tools { silent: "npm", ..Tools::default() };
    let error = error("node", tools);
    assert!(
        error.contains("failed to learn the registry of `node`") && error.contains("names no registry"),
        "{error}"
    );
}

#[test]
fn a_second_start_asks_no_tool() {
    let (cache, asked) = (tempdir().unwrap(), Arc::default());
    let first = load("node", Tools { asked: Arc::clone(&asked), ..Tools::default() }, &cache).unwrap();
    let count = asked.load(Ordering::Relaxed);
    let second = load("node", Tools { asked: Arc::clone(&asked), ..Tools::default() }, &cache).unwrap();
    assert_eq!((said(&first), count), (said(&second), asked.load(Ordering::Relaxed)));
}

#[test]
fn an_answer_that_the_registry_did_not_complete_does_not_outlive_the_daemon() {
    let cache = tempdir().unwrap();
    let rules = load("python", Tools { offline: true, ..Tools::default() }, &cache).unwrap();
    assert_eq!(said(&rules), ["extra.example:8081/http", "index.example:443/tls"]);
    assert_eq!(load("python", Tools::default(), &cache).unwrap().len(), 3);
}

#[test]
fn a_registry_that_is_dead_holds_up_one_reload_and_not_the_next() {
    let (cache, asked) = (tempdir().unwrap(), Arc::default());
    let offline = Tools { offline: true, asked: Arc::clone(&asked), ..Tools::default() };
    let installed = Installed::with(offline, PathBuf::from(cache.path()));
    let first = load_with("python", &installed).unwrap();
    let count = asked.load(Ordering::Relaxed);
    let second = load_with("python", &installed).unwrap();
    assert_eq!((said(&first), count), (said(&second), asked.load(Ordering::Relaxed)));
}

#[test]
fn a_cache_that_others_can_write_counts_for_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempdir().unwrap();
    load("node", Tools::default(), &cache).unwrap();
    let file = cache.path().join("packages-node.json");
    let evil = fs::read_to_string(&file).unwrap().replace("npm.example", "evil.example");
    fs::write(&file, evil).unwrap();
    assert!(
        said(&load("node", Tools::default(), &cache).unwrap()).contains(&"evil.example:443/tls".to_owned())
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(
        said(&load("node", Tools::default(), &cache).unwrap()).contains(&"npm.example:443/tls".to_owned())
    );
}

/// Tools that answer as the real ones do.
#[derive(Default)]
struct Tools {
    missing: &'static str,
    silent: &'static str,
    offline: bool,
    asked: Arc<AtomicUsize>,
}

impl Run for Tools {
    fn run(&self, ask: &Ask<'_>) -> Result<String, ToolError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if ask.program == self.missing {
            return Err(ToolError::Missing(ask.program.to_owned()));
        }
        if ask.program == self.silent {
            return Ok(String::new());
        }
        let failed =
            || ToolError::Failed { program: ask.program.to_owned(), message: "no network".to_owned() };
        match (ask.program, ask.arguments) {
            ("pip" | "pip3", ["--version"]) => Ok("pip 25.0".to_owned()),
            ("pip" | "pip3", ["download", ..]) => Ok(PIP_HELP.to_owned()),
            ("pip" | "pip3", ["config", ..]) => Ok(PIP_CONFIG.to_owned()),
            ("pip" | "pip3", ["install", ..]) if self.offline => Err(failed()),
            ("pip" | "pip3", ["install", flags @ ..]) => {
                let only_wheels = flags.windows(2).any(|pair| pair == ["--only-binary", ":all:"]);
                assert!(only_wheels, "what is in a source archive would be run: {flags:?}");
                Ok(PIP_REPORT.to_owned())
            }
            ("npm", _) => Ok(NPM_CONFIG.to_owned()),
            ("cargo", _) => {
                let (_, home) = ask.environment.iter().find(|(name, _)| *name == "CARGO_HOME").unwrap();
                write_index(Path::new(home));
                Err(failed())
            }
            ("apt-get", _) => Ok(APT_SITES.to_owned()),
            ("getent", ["ahosts", "extra.example"]) => Ok("10.1.2.3      STREAM extra.example\n".to_owned()),
            ("getent", ["ahosts", "index.example"]) => {
                Ok("169.254.169.254 STREAM index.example\n".to_owned())
            }
            ("getent", _) => Err(failed()),
            other => panic!("unexpected question: {other:?}"),
        }
    }
}

fn write_index(home: &Path) {
    let index = home.join("registry/index/index.example-0123456789abcdef");
    fs::create_dir_all(&index).unwrap();
    let config = r#"{"dl": "https://crates.example/{crate}/{version}", "api": "https://api.example"}"#;
    fs::write(index.join("config.json"), config).unwrap();
}

const PIP_HELP: &str = "
Package Index Options:
  -i, --index-url <url>       Base URL of the Python Package Index (default
                              https://user:secret@index.example/simple). This should point to a
                              repository compliant with PEP 503 (https://peps.example).
";
const PIP_CONFIG: &str = "
:env:.find-links='/opt/wheels'
global.cert='/etc/ssl/cert.pem'
global.proxy='http://proxy.example:3128'
install.extra-index-url='http://extra.example:8081/simple'
";
const PIP_REPORT: &str = r#"{"version": "1", "install": [{"download_info": {"url": "https://files.example/packages/pip.whl"}, "metadata": {"home_page": "https://home.example"}}]}"#;
const NPM_CONFIG: &str = r#"{"registry": "https://npm.example/", "@corp:registry": "http://scope.example:4873", "replace-registry-host": "always", "proxy": null, "docs": "https://docs.example"}"#;
const APT_SITES: &str = "http://deb.example/debian\nhttp://deb.example/debian\nhttps://deb.example/security\nfile:/srv/debian\nhttp://192.0.2.9:3142/x\ncdrom:[Debian]/\n";

fn rules(word: &str, tools: Tools) -> Vec<Rule> {
    load(word, tools, &tempdir().unwrap()).unwrap_or_else(|error| panic!("{error}"))
}

fn error(word: &str, tools: Tools) -> String {
    load(word, tools, &tempdir().unwrap()).unwrap_err()
}

fn load(word: &str, tools: Tools, cache: &TempDir) -> Result<Vec<Rule>, String> {
    load_with(word, &Installed::with(tools, PathBuf::from(cache.path())))
}

fn load_with(word: &str, installed: &Installed<Tools>) -> Result<Vec<Rule>, String> {
    let text = format!("version: 1\nagents:\n  default:\n    packages: [{word}]\n");
    let loader = Loader::new(&[]).with_registries(installed);
    let policies = loader.load_str("policy.yaml", &text, Path::new("")).map_err(|error| error.to_string())?;
    Ok(policies.for_agent(&AgentName::parse("default").unwrap()).allow().to_vec())
}

fn said(rules: &[Rule]) -> Vec<String> {
    let mut said: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}:{}/{}", rule.subject, rule.ports[0], rule.protocol.unwrap()))
        .collect();
    said.sort();
    said
}
