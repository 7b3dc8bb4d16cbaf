//! The exit codes of help and of wrong usage, which `run` must not share with programs.

use super::OURS;
use crate::TROUBLE;
use std::process::ExitCode;

/// Shows help, or what is wrong with the command line.
pub fn explain(error: &clap::Error, egressctl: clap::Command) -> ExitCode {
    // Where the output is closed, nobody is left to tell.
    let _ = error.print();
    ExitCode::from(match error.exit_code() {
        0 => 0,
        _ if is_run(egressctl) => OURS,
        _ => TROUBLE,
    })
}

/// What help says of them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done; `explain`: allowed; `status`: healthy; `doctor`: agents can be sealed
  1  `explain`: denied; `status`: not healthy, or no daemon answers; `doctor`: they cannot
  2  wrong usage, or it could not be done
`run` exits as the program does: see `egressctl run --help`";

/// Whether the command line, which has an error somewhere, is one of `run`.
fn is_run(egressctl: clap::Command) -> bool {
    let matches = egressctl.ignore_errors(true).try_get_matches();
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("run"))
}
