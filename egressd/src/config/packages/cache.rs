//! The answers of tools on disk, so that the next start need not ask again.

use super::{
    Manager, Site,
    ask::{cargo_home, home},
    child::kept_environment,
};
use nix::{fcntl::OFlag, unistd::geteuid};
use serde::{Deserialize, Serialize};
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// How long an answer is trusted, should a change of the configuration have gone unseen.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest answer that is read, in octets; a real one has some hundred.
const MAX_ANSWER: u64 = 64 << 10;

/// A folder with one small file a manager.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Held {
    fingerprint: u64,
    sites: Vec<Site>,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The answer that was given under the configuration of `fingerprint`. A file that others
    /// could have written counts for nothing: it would open hosts.
    pub(super) fn read(&self, manager: Manager, fingerprint: u64) -> Option<Vec<Site>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = options.open(self.path(manager)).ok()?;
        let metadata = file.metadata().ok()?;
        let age = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
        let is_ours =
            metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        if !is_ours || age > MAX_AGE {
            return None;
        }
        let mut text = String::new();
        file.take(MAX_ANSWER).read_to_string(&mut text).ok()?;
        let held: Held = serde_json::from_str(&text).ok()?;
        (held.fingerprint == fingerprint && !held.sites.is_empty()).then_some(held.sites)
    }

    /// Keeps an answer, where that is possible: without it, the next start asks again.
    pub(super) fn write(&self, manager: Manager, fingerprint: u64, sites: &[Site]) {
        let held = Held { fingerprint, sites: sites.to_vec() };
        if let Err(error) = self.replace(manager, &held) {
            tracing::debug!(%manager, %error, "failed to write the package cache");
        }
    }

    fn replace(&self, manager: Manager, held: &Held) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.folder)?;
        let fresh = self.folder.join(format!(".packages-{manager}.{}", std::process::id()));
        // What a process of the same number left behind is removed, never followed.
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(held)?)?;
        fs::rename(&fresh, self.path(manager))
    }

    fn path(&self, manager: Manager) -> PathBuf {
        self.folder.join(format!("packages-{manager}.json"))
    }
}

/// A hash of what the tool's answer depends on: its settings in the environment, and size and
/// time of its configuration files and its program.
pub(super) fn fingerprint(manager: Manager) -> u64 {
    let mut hasher = DefaultHasher::new();
    kept_environment().hash(&mut hasher);
    for path in configuration(manager) {
        path.hash(&mut hasher);
        if let Ok(metadata) = fs::metadata(&path) {
            (metadata.len(), metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn configuration(manager: Manager) -> Vec<PathBuf> {
    let named = |variable| env::var_os(variable).map(PathBuf::from);
    let user = home();
    let mut paths: Vec<PathBuf> = match manager {
        Manager::Python => {
            let mut paths: Vec<_> = ["/etc/pip.conf", "/etc/xdg/pip/pip.conf"].map(PathBuf::from).into();
            paths.extend([user.join(".pip/pip.conf"), user.join(".config/pip/pip.conf")]);
            paths.extend(named("PIP_CONFIG_FILE"));
            paths.extend(program("pip").into_iter().chain(program("pip3")).flat_map(|program| {
                let site = program.ancestors().nth(2).map(|prefix| prefix.join("pip.conf"));
                [Some(program), site].into_iter().flatten().collect::<Vec<_>>()
            }));
            paths
        }
        Manager::Node => {
            let mut paths = vec![
                user.join(".npmrc"),
                "/etc/npmrc".into(),
                "/usr/etc/npmrc".into(),
                "/usr/local/etc/npmrc".into(),
            ];
            paths.extend(named("NPM_CONFIG_USERCONFIG").into_iter().chain(named("NPM_CONFIG_GLOBALCONFIG")));
            paths.extend(program("npm"));
            paths
        }
        Manager::Rust => {
            let mut paths = vec![cargo_home().join("config.toml"), cargo_home().join("config")];
            paths.extend(["/.cargo/config.toml", "/.cargo/config"].map(PathBuf::from));
            paths.extend(program("cargo"));
            paths
        }
        Manager::Debian => {
            let mut paths: Vec<_> = ["/etc/apt/sources.list", "/etc/apt/apt.conf"].map(PathBuf::from).into();
            paths
                .extend(listing("/etc/apt/sources.list.d").into_iter().chain(listing("/etc/apt/apt.conf.d")));
            paths.extend(named("APT_CONFIG"));
            paths
        }
    };
    paths.sort();
    paths.dedup();
    paths
}

/// The files of a folder.
fn listing(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|found| found.path()).collect()
}

/// Where PATH finds a program.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
