//! Every verb, and what does it.

use crate::{
    adopt, agents, completions, doctor, explain, leaks, output::Format, policy, release, reload, run, status,
    suggest, tail,
};
use clap::Subcommand;
use egressd::control::Client;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(run::Run),
    Adopt(adopt::Adopt),
    Release(release::Release),
    Tail(tail::Tail),
    Explain(explain::Explain),
    Policy(policy::Policy),
    Suggest(suggest::Suggest),
    Leaks(leaks::Leaks),
    Agents(agents::Agents),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Reload(reload::Reload),
    Completions(completions::Completions),
    #[command(hide = true)]
    Man(completions::Man),
}

impl Verb {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        match self {
            Verb::Run(run) => run.act(client, format),
            Verb::Adopt(adopt) => adopt.act(client, format),
            Verb::Release(release) => release.act(client, format),
            Verb::Tail(tail) => tail.act(client, format),
            Verb::Explain(explain) => explain.act(client, format),
            Verb::Suggest(suggest) => suggest.act(client, format),
            Verb::Policy(policy) => policy.act(format),
            Verb::Leaks(leaks) => leaks.act(client, format),
            Verb::Agents(agents) => agents.act(client, format),
            Verb::Status(status) => status.act(client, format),
            Verb::Doctor(doctor) => doctor.act(format),
            Verb::Reload(reload) => reload.act(client, format),
            Verb::Completions(completions) => completions.act(),
            Verb::Man(man) => man.act(),
        }
    }
}
