//! The questions to each tool, and what their answers mean.

use super::{
    Manager,
    child::{Ask, Run, ToolError, user},
    site::{Site, sites_in},
};
use crate::policy::{Destination, SpecialPurpose, special_purpose};
use nix::fcntl::OFlag;
use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, chown, symlink},
    path::{Path, PathBuf},
};

/// What a tool answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Sorted, without duplicates, never empty.
    pub(super) sites: Vec<Site>,
    /// Whether the registry itself could be asked for the rest.
    pub(super) complete: bool,
}

/// Asks the tool of `manager`.
pub(super) fn ask(manager: Manager, run: &dyn Run) -> Result<Answer, ToolError> {
    let (mut sites, complete) = match manager {
        Manager::Python => python(run)?,
        Manager::Node => node(run)?,
        Manager::Rust => rust(run)?,
        Manager::Debian => debian(run)?,
    };
    sites.sort();
    sites.dedup();
    if sites.is_empty() {
        return Err(ToolError::NoRegistry(manager.to_string()));
    }
    for site in &mut sites {
        site.private = is_private_here(site, run);
    }
    Ok(Answer { sites, complete })
}

/// The index that pip's own help names as its default, the further ones that it is configured
/// for, and the host that the index sends downloads to.
fn python(run: &dyn Run) -> Result<(Vec<Site>, bool), ToolError> {
    let program =
        if let Err(ToolError::Missing(_)) = pip(run, "pip", &["--version"]) { "pip3" } else { "pip" };
    let help = pip(run, program, &["download", "--help"])?;
    let configured = pip(run, program, &["config", "list"])?;
    let mut sites: Vec<Site> = default_index(&help).into_iter().collect();
    let further = |line: &&str| {
        line.split_once('=')
            .is_some_and(|(key, _)| key.ends_with("extra-index-url") || key.ends_with("find-links"))
    };
    sites.extend(configured.lines().filter(further).flat_map(sites_in));
    let complete = match pip(run, program, &PIP_REPORT) {
        Ok(report) => {
            sites.extend(reported_downloads(&report));
            true
        }
        Err(error) => incomplete(Manager::Python, &error),
    };
    Ok((sites, complete))
}

/// Where pip's own package would be downloaded from, which stands in every index that serves pip.
/// From a wheel only: what is in a source archive would be run.
const PIP_REPORT: [&str; 10] = [
    "install",
    "--dry-run",
    "--ignore-installed",
    "--no-deps",
    "--only-binary",
    ":all:",
    "--quiet",
    "--report",
    "-",
    "pip",
];

fn pip(run: &dyn Run, program: &str, arguments: &[&str]) -> Result<String, ToolError> {
    run.run(&Ask { program, arguments, environment: &[("PIP_DISABLE_PIP_VERSION_CHECK", "1".into())] })
}

/// The default that stands beside `--index-url` in pip's help, which is the one in force.
fn default_index(help: &str) -> Option<Site> {
    let (_, option) = help.split_once("--index-url")?;
    let (_, default) = option.split_once("(default")?;
    let (url, _) = default.split_once(')')?;
    Site::parse(&url.split_whitespace().collect::<String>())
}

/// The downloads of an installation report (packaging.python.org, "pip installation report").
fn reported_downloads(report: &str) -> Vec<Site> {
    let report: serde_json::Value = serde_json::from_str(report).unwrap_or_default();
    let installs = report["install"].as_array().map(Vec::as_slice).unwrap_or_default();
    installs.iter().filter_map(|install| Site::parse(install["download_info"]["url"].as_str()?)).collect()
}

/// The registries of npm: the default one, and those of scopes.
fn node(run: &dyn Run) -> Result<(Vec<Site>, bool), ToolError> {
    let arguments = ["config", "list", "--json"];
    let listed = run.run(&Ask { program: "npm", arguments: &arguments, environment: &[] })?;
    let listed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&listed).unwrap_or_default();
    let is_registry = |key: &str| key == "registry" || key.ends_with(":registry");
    let urls = listed.iter().filter(|(key, _)| is_registry(key)).filter_map(|(_, value)| value.as_str());
    Ok((urls.filter_map(Site::parse).collect(), true))
}

/// The index that cargo reads in an empty home with the user's configuration, and the host that
/// the index's `config.json` sends downloads to (its `api`, which publishes, stays closed).
fn rust(run: &dyn Run) -> Result<(Vec<Site>, bool), ToolError> {
    let failed = |error: io::Error| ToolError::Run("cargo".to_owned(), error);
    let home = ScratchHome::new().map_err(failed)?;
    let environment = [("CARGO_HOME", OsString::from(&home.path))];
    // Any crate will do: to look for it, cargo has to read the index. A mirror that lacks it
    // answers the rest all the same, so the outcome tells nothing.
    let asked = run.run(&Ask { program: "cargo", arguments: &["info", "cfg-if"], environment: &environment });
    let sites = home.sites();
    match asked {
        Err(error) if sites.is_empty() => Err(error),
        Ok(_) | Err(_) => Ok((sites, true)),
    }
}

/// An empty home for cargo, with links to the user's configuration; removed when dropped.
struct ScratchHome {
    path: PathBuf,
}

impl ScratchHome {
    fn new() -> io::Result<Self> {
        let path = nix::unistd::mkdtemp(&env::temp_dir().join("egressd-cargo-XXXXXX"))?;
        let home = Self { path };
        for name in ["config.toml", "config", "credentials.toml", "credentials"] {
            let configured = cargo_home().join(name);
            if configured.is_file() {
                symlink(configured, home.path.join(name))?;
            }
        }
        if let Some((uid, gid)) = user() {
            chown(&home.path, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        Ok(home)
    }

    fn sites(&self) -> Vec<Site> {
        let configured = configured_sites(&self.path);
        let Ok(indexes) = fs::read_dir(self.path.join("registry/index")) else {
            return Vec::new();
        };
        let mut sites = Vec::new();
        for index in indexes.flatten() {
            let name = index.file_name();
            let Some((host, _hash)) = name.to_str().and_then(|name| name.rsplit_once('-')) else { continue };
            // The folder's name has no scheme and no port; a mirror's stand in the configuration.
            let same_host = configured.iter().filter(|site| site.host == host).cloned();
            let before = sites.len();
            sites.extend(same_host);
            if sites.len() == before {
                sites.extend(Site::parse(&format!("https://{host}")));
            }
            sites.extend(download_site(&index.path()));
        }
        sites
    }
}

impl Drop for ScratchHome {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The `dl` of an index (the Cargo book, "Index Configuration").
fn download_site(index: &Path) -> Option<Site> {
    let config: serde_json::Value = serde_json::from_str(&read(&index.join("config.json")).ok()?).ok()?;
    Site::parse(config["dl"].as_str()?)
}

/// Every URL of cargo's configuration, in files and variables.
fn configured_sites(home: &Path) -> Vec<Site> {
    let files = ["config.toml", "config"].map(|name| read(&home.join(name)).unwrap_or_default());
    let variables = env::vars().filter(|(name, _)| name.starts_with("CARGO_")).map(|(_, value)| value);
    files.into_iter().chain(variables).flat_map(|text| sites_in(&text).collect::<Vec<_>>()).collect()
}

/// Reads a file that the user chooses: no pipe that would be waited for, and no more than
/// [`MAX_FILE`] of it.
fn read(path: &Path) -> io::Result<String> {
    let file = fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The most that is read of a configuration, in octets; a real one has some hundred.
const MAX_FILE: u64 = 1 << 20;

/// Where the user's cargo keeps its configuration.
pub(super) fn cargo_home() -> PathBuf {
    env::var_os("CARGO_HOME").map_or_else(|| home().join(".cargo"), PathBuf::from)
}

/// The folder of the user whose configuration counts.
pub(super) fn home() -> PathBuf {
    env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

/// The sites of every source that apt reads.
fn debian(run: &dyn Run) -> Result<(Vec<Site>, bool), ToolError> {
    let arguments = ["indextargets", "--format", "$(SITE)"];
    let listed = run.run(&Ask { program: "apt-get", arguments: &arguments, environment: &[] })?;
    Ok((listed.lines().filter_map(|line| Site::parse(line.trim())).collect(), true))
}

/// Whether the host has private addresses here, so that its rule has to allow them.
fn is_private_here(site: &Site, run: &dyn Run) -> bool {
    let Some(Destination::Name(name)) = site.destination() else { return false };
    let ask = Ask { program: "getent", arguments: &["ahosts", name.as_str()], environment: &[] };
    // A host that cannot be looked up is taken for a public one, which allows less.
    let resolved = run.run(&ask).unwrap_or_default();
    let addresses = resolved.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok());
    addresses.map(special_purpose).any(|special| special == Some(SpecialPurpose::Private))
}

fn incomplete(manager: Manager, error: &ToolError) -> bool {
    tracing::warn!(%manager, %error, "registry could not be asked where its downloads are");
    false
}
