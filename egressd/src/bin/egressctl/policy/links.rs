//! Links among the policies of a repository, where egressd would refuse the commit.

use anyhow::bail;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Looks whether `path`, a file or a folder with such, or an allowlist beside it, is a symbolic link in the working
/// tree of a repository: it may stand for any file of this host, which is not to be quoted to whoever wrote the commit.
/// Elsewhere a link is as good as what it leads to.
///
/// # Errors
/// One is.
pub fn refuse_links(path: &Path) -> anyhow::Result<()> {
    // Without a slash at the end, which would lead through it.
    let path: PathBuf = path.components().collect();
    let parent = path.parent().unwrap_or(Path::new(""));
    let folder = if path.is_dir() { path.as_path() } else { parent };
    let mut found = Vec::new();
    if is_of_repository(folder) {
        let allowlists = folder.join("allowlists");
        found.extend(files_in(&allowlists));
        found.push(allowlists);
        found.extend(path.is_dir().then(|| files_in(folder)).into_iter().flatten());
    }
    // A folder may be a link into a repository.
    if is_of_repository(parent) {
        found.push(path);
    }
    let is_link =
        |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_symlink());
    if let Some(link) = found.iter().find(is_link) {
        bail!(
            "`{}` is no file but a link: egressd refuses a commit with it, put the file itself there",
            link.display()
        );
    }
    Ok(())
}

/// Whether git would look for the files of `folder` in a repository.
fn is_of_repository(folder: &Path) -> bool {
    let folder = if folder == Path::new("") { Path::new(".") } else { folder };
    fs::canonicalize(folder).is_ok_and(|folder| folder.ancestors().any(|above| above.join(".git").exists()))
}

/// The YAML files of a folder, also those that no daemon reads for policies; none where it cannot be listed.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(if folder == Path::new("") { Path::new(".") } else { folder });
    let paths = listed.into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}
