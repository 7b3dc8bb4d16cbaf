//! `egressctl`: one file a verb.

mod addition;
mod adopt;
mod agents;
mod allow;
mod approvals;
mod budgets;
mod completions;
mod doctor;
mod explain;
mod gates;
mod grants;
mod known;
mod leaks;
mod metrics;
mod output;
mod policy;
mod release;
mod reload;
mod revoke;
mod run;
mod status;
mod suggest;
mod summary;
mod tail;
mod verb;

use clap::{CommandFactory, Parser};
use egressd::control::{Client, DEFAULT_SOCKET};
use std::{path::PathBuf, process::ExitCode};
use verb::Verb;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return run::usage::explain(&error, Cli::command()),
    };
    let trouble = if matches!(cli.verb, Verb::Run(_)) { run::OURS } else { TROUBLE };
    cli.act().unwrap_or_else(|error| match output::is_broken_pipe(&error) && trouble == TROUBLE {
        // Whoever read our output has had enough of it.
        true => ExitCode::SUCCESS,
        false => {
            output::complain(&error);
            ExitCode::from(trouble)
        }
    })
}

/// Exit code of every verb that could not do what it was asked, and of wrong usage.
const TROUBLE: u8 = 2;

/// Start agents behind an egress firewall, see what they were denied, and ask why.
#[derive(Debug, Parser)]
#[command(name = "egressctl", version, after_help = run::usage::EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET, help_heading = EVERYWHERE)]
    socket: PathBuf,

    /// For people, or for programs
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT", help_heading = EVERYWHERE)]
    output: output::Format,

    #[command(subcommand)]
    verb: Verb,
}

const EVERYWHERE: &str = "Options of every command";

impl Cli {
    fn act(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(self.socket)?;
        self.verb.act(&client, self.output)
    }
}
