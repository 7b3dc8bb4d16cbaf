//! Every verb, and what does it.

use crate::{
    adopt, agents, allow, approvals, budgets, completions, doctor, explain, grants, leaks, metrics,
    output::Format, policy, release, reload, revoke, run, status, suggest, tail,
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
    Allow(allow::Allow),
    Grants(grants::Grants),
    Revoke(revoke::Revoke),
    Approvals(approvals::Approvals),
    Policy(policy::Policy),
    Suggest(suggest::Suggest),
    Leaks(leaks::Leaks),
    Budgets(budgets::Budgets),
    Agents(agents::Agents),
    Status(status::Status),
    Metrics(metrics::Metrics),
    Doctor(doctor::Doctor),
    Reload(reload::Reload),
    Completions(completions::Completions),
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
            Verb::Allow(allow) => allow.act(client, format),
            Verb::Grants(grants) => grants.act(client, format),
            Verb::Revoke(revoke) => revoke.act(client, format),
            Verb::Approvals(approvals) => approvals.act(client, format),
            Verb::Suggest(suggest) => suggest.act(client, format),
            Verb::Policy(policy) => policy.act(client, format),
            Verb::Leaks(leaks) => leaks.act(client, format),
            Verb::Budgets(budgets) => budgets.act(client, format),
            Verb::Agents(agents) => agents.act(client, format),
            Verb::Status(status) => status.act(client, format),
            Verb::Metrics(metrics) => metrics.act(client, format),
            Verb::Doctor(doctor) => doctor.act(format),
            Verb::Reload(reload) => reload.act(client, format),
            Verb::Completions(completions) => completions.act(),
            Verb::Man(man) => man.act(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Cli;
    use clap::{Command, CommandFactory};

    #[test]
    fn every_verb_and_every_option_is_explained() {
        let mut unexplained = Vec::new();
        walk(&Cli::command(), "", &mut unexplained);
        assert_eq!(unexplained, Vec::<String>::new());
    }

    #[test]
    fn every_verb_says_what_its_exit_codes_mean() {
        let mut silent = Vec::new();
        silence(&mut Cli::command(), "", &mut silent);
        assert_eq!(silent, Vec::<String>::new());
    }

    /// Of what has verbs of its own and does nothing by itself, they say it.
    fn silence(command: &mut Command, above: &str, silent: &mut Vec<String>) {
        let path = format!("{above} {}", command.get_name());
        let help = command.render_long_help().to_string();
        let acts = !command.is_subcommand_required_set();
        if acts
            && !help.contains("Exit codes: ")
            && !help.contains("Exit codes:\n")
            && !help.contains("Exits as")
        {
            silent.push(path.clone());
        }
        let verbs = command.get_subcommands_mut().filter(|verb| verb.get_name() != "help");
        verbs.for_each(|verb| silence(verb, &path, silent));
    }

    fn walk(command: &Command, above: &str, unexplained: &mut Vec<String>) {
        let path = format!("{above} {}", command.get_name());
        if command.get_about().is_none() {
            unexplained.push(path.clone());
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if argument.get_help().is_none() {
                unexplained.push(format!("{path} {}", argument.get_id()));
            }
        }
        command.get_subcommands().for_each(|verb| walk(verb, &path, unexplained));
    }
}
