//! `egressctl completions` and `egressctl man`: made from the same definition as the parser.

use crate::Cli;
use clap::CommandFactory;
use egressd::manual;
use std::{
    fs,
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 printed, 2 there is no such shell")]
pub struct Completions {
    /// Which one
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn act(&self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "egressctl", &mut script);
        stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Write the manual pages into a folder
///
/// `egressctl man /usr/local/share/man/man1` puts them where `man egressctl-run` finds them. That of the daemon is
/// written by `egressd --man /usr/local/share/man/man1`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 written, 2 they could not be")]
pub struct Man {
    /// Is made where it is missing
    folder: PathBuf,
}

impl Man {
    pub fn act(&self) -> anyhow::Result<ExitCode> {
        fs::create_dir_all(&self.folder)?;
        manual::generate_to(Cli::command(), &self.folder)?;
        Ok(ExitCode::SUCCESS)
    }
}
