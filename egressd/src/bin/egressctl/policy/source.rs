//! What a policy verb reads: files, folders with files, and what git remembers of either.

use super::revision::Revision;
use egressd::config::{self, DaemonConfig, Loader, Policies};
use std::path::{Path, PathBuf};

/// Policies, and what their places are to be called by.
pub struct Loaded {
    pub policies: Policies,
    renamed: Option<(String, String)>,
}

impl Loaded {
    /// The policies at `text`: a file, a folder, or `REVISION:PATH` where no file is called so.
    pub fn of(text: &str) -> anyhow::Result<Self> {
        let path = Path::new(text);
        if path.exists() || !text.contains(':') {
            return Ok(Self { policies: load(&[path.to_owned()])?, renamed: None });
        }
        let revision = Revision::read(text)?;
        let renamed = revision.renamed();
        let rename = |error: anyhow::Error| {
            let told = format!("{error:#}").replace(&renamed.0, &renamed.1);
            anyhow::anyhow!(told).context(format!("`{text}` is not a policy"))
        };
        let policies = load(&[revision.path().to_owned()]).map_err(rename)?;
        Ok(Self { policies, renamed: Some(renamed) })
    }

    /// `place` as whoever asked knows it.
    pub fn place(&self, place: &str) -> String {
        match &self.renamed {
            Some((from, to)) => place.replace(from, to),
            None => place.to_owned(),
        }
    }
}

/// The policies of files, and of the files in folders, as the daemon compiles them.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Policies> {
    Ok(config::load(&files(paths)?, &DaemonConfig::default().allowlist_dirs)?)
}

/// The same of files among which allowlists may be, each of which is the policy of an agent `default`: first
/// the policies, which may lean on each other's roles, then allowlist by allowlist.
pub fn load_each(paths: &[PathBuf]) -> anyhow::Result<Vec<Policies>> {
    let (mut policies, mut loaded) = (Vec::new(), Vec::new());
    let dirs = DaemonConfig::default().allowlist_dirs;
    for path in files(paths)? {
        let text = config::read_text(&path)?;
        match config::is_allowlist(&text) {
            true => loaded.push(draft(&path, &text, &dirs)?),
            false => policies.push(path),
        }
    }
    if !policies.is_empty() {
        loaded.insert(0, config::load(&policies, &dirs)?);
    }
    Ok(loaded)
}

/// The policies of the text that the file at `path` has, or will have.
pub fn draft(path: &Path, text: &str, dirs: &[PathBuf]) -> anyhow::Result<Policies> {
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Loader::new(dirs).draft(&path.display().to_string(), text, folder)?)
}

/// The policy files among `paths`, and those in the folders among them.
pub fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = config::load_dir(path)?;
        anyhow::ensure!(!found.is_empty(), "`{}` holds no policy file (`*.yaml`)", path.display());
        files.extend(found);
    }
    Ok(files)
}
