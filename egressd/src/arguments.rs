//! What the daemon is told on its command line.

use clap::Parser;
use egressd::daemon;
use std::path::PathBuf;

/// Egress firewall for AI agents: nothing leaves an agent except to the names that its policy grants.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The daemon's own file; it may be missing where it is not named
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A policy file, instead of those in the policy folder; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// A folder of allowlists, searched before the configured ones; may be given more than once
    #[arg(long, value_name = "FOLDER")]
    pub allowlists: Vec<PathBuf>,
    /// An upstream resolver, as the file writes them, instead of the configured ones
    #[arg(long, value_name = "ADDRESS")]
    pub upstream: Vec<String>,
    /// Folder of the control socket, the pins and what the next daemon must know
    #[arg(long, value_name = "FOLDER")]
    pub run_dir: Option<PathBuf>,
    /// Where the audit log is written, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Tells daemons on one host apart
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = daemon::instance_name)]
    pub instance: String,
    /// Write the manual page into a folder, which is there, and end
    #[arg(long, value_name = "FOLDER", exclusive = true)]
    pub man: Option<PathBuf>,
    /// End with the process that started this one, and leave nothing behind
    #[arg(long, hide = true)]
    pub for_command: bool,
    /// Do as on a kernel that runs no programs on its security hooks
    #[arg(long, hide = true)]
    pub no_security_hooks: bool,
    /// Carry bulk through buffers, to be measured beside splice(2)
    #[arg(long, hide = true)]
    pub copy_bulk: bool,
    /// Be the canary of a daemon: below this cgroup, with frames judged by this pinned program
    #[arg(long, hide = true, num_args = 2, value_names = ["FOLDER", "PIN"])]
    pub canary: Option<Vec<PathBuf>>,
}
