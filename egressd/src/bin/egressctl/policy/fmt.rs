//! `egressctl policy fmt`: one layout for policy files.

use super::source::{draft, files};
use crate::output::{Colour, sanitise};
use anyhow::{Context, ensure};
use egressd::{
    authoring::format::{format, means_the_same},
    config::{self, DaemonConfig},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{Write, stdout},
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Lay policy files out in the one way, which never changes what they mean
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Fmt {
    /// Policy files, allowlists, or folders with such
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Write nothing; only name the files that are laid out in another way
    #[arg(long)]
    check: bool,
}

const EXIT_CODES: &str = "Exit codes:
  0  every file is laid out in the one way
  1  with `--check`: one is not
  2  one does not compile, could not be read or written, or holds what is only laid out by hand";

impl Fmt {
    pub fn act(self) -> anyhow::Result<ExitCode> {
        let mut out = stdout().lock();
        let colour = Colour::of(&stdout());
        let mut has_other = false;
        for path in files(&self.files)? {
            let text = config::read_text(&path)?;
            let laid_out = lay_out(&path, &text)?;
            if laid_out == text {
                continue;
            }
            has_other = true;
            let word = match self.check {
                true => colour.warned("laid out in another way"),
                false => {
                    replace(&path, &text, &laid_out)?;
                    colour.allowed("laid out")
                }
            };
            writeln!(out, "{}: {word}", sanitise(&path.display().to_string()))?;
        }
        Ok(if has_other && self.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The text of the file at `path` in the one layout, once it is sure that it means the same.
fn lay_out(path: &Path, text: &str) -> anyhow::Result<String> {
    let dirs = DaemonConfig::default().allowlist_dirs;
    let before = draft(path, text, &dirs)?;
    let laid_out = format(text).with_context(|| format!("`{}` is left as it is", path.display()))?;
    let after = draft(path, &laid_out, &dirs)?;
    ensure!(
        means_the_same(&before, &after),
        "`{}` is left as it is: it would mean something else",
        path.display()
    );
    Ok(laid_out)
}

/// Puts `laid_out` into the place of the file at `path` in one step, if it still holds `text`.
fn replace(path: &Path, text: &str, laid_out: &str) -> anyhow::Result<()> {
    let path = fs::canonicalize(path).with_context(|| format!("failed to find `{}`", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, so that no daemon reads it.
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = write(&path, &beside, laid_out).and_then(|()| {
        ensure!(config::read_text(&path)? == text, "somebody else writes to `{}`", path.display());
        fs::rename(&beside, &path).with_context(|| format!("failed to replace `{}`", path.display()))
    });
    if written.is_err() {
        // It may never have been there.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write(path: &Path, beside: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("failed to write `{}`", beside.display());
    let about = fs::metadata(path).with_context(failed)?;
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(beside).with_context(failed)?;
    let ours = file.metadata().with_context(failed)?;
    if (ours.uid(), ours.gid()) != (about.uid(), about.gid()) {
        let kept = fchown(&file, Some(about.uid()), Some(about.gid()));
        kept.with_context(|| format!("failed to leave `{}` to its owner", path.display()))?;
    }
    file.set_permissions(about.permissions()).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)
}
