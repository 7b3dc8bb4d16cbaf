//! `egressctl approvals watch`: one request after the other, with a prompt.

use super::{HOUR, How, denies, print, print_rules};
use crate::output::{Colour, sanitise};
use anyhow::Context;
use egressd::control::{
    Client, ClientError,
    protocol::{ApprovalRequest, Decide},
};
use std::{
    collections::HashSet,
    io::{IsTerminal, Write, stdin, stdout},
    time::Duration,
};

/// Wait for requests, and ask about each
///
/// Needs a terminal: scripts use `approve` and `deny`.
#[derive(Debug, clap::Args)]
pub struct Watch {}

/// How often it is looked for requests.
const PAUSE: Duration = Duration::from_millis(500);

impl Watch {
    pub fn act(self, client: &Client) -> anyhow::Result<()> {
        anyhow::ensure!(
            stdin().is_terminal() && stdout().is_terminal(),
            "there is nobody to ask: `watch` needs a terminal, scripts use `approve` and `deny`"
        );
        let mut skipped: HashSet<u32> = HashSet::new();
        loop {
            let requests = client.approvals()?;
            skipped.retain(|id| requests.iter().any(|request| request.id == *id));
            let Some(request) = requests.into_iter().find(|request| !skipped.contains(&request.id)) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            show(&request)?;
            match answer()? {
                Answer::Decide(decide) => tell(client, decide(request.id), false)?,
                Answer::Always => tell(client, How::Always.approves(request.id, false, None), true)?,
                Answer::Skip => drop(skipped.insert(request.id)),
                Answer::Quit => return Ok(()),
            }
        }
    }
}

enum Answer {
    Decide(fn(u32) -> Decide),
    Always,
    Skip,
    Quit,
}

fn show(request: &ApprovalRequest) -> anyhow::Result<()> {
    let colour = Colour::of(&stdout());
    let ApprovalRequest { id, agent, group, process, rule, destinations, asked, .. } = request;
    let (agent, process, group) = (sanitise(agent), sanitise(process), sanitise(group));
    let heading = format!("request {id}: `{process}` of agent `{agent}` asks for {group}");
    let mut out = stdout().lock();
    writeln!(out, "{}", colour.heading(&heading))?;
    writeln!(out, "  destinations  {}", sanitise(&destinations.join(" ")))?;
    writeln!(out, "  rule          {}", sanitise(rule.as_deref().unwrap_or("none knows it")))?;
    writeln!(out, "  asked         {asked} times")?;
    Ok(())
}

/// Asks until an answer can be read; the end of the input is the end of the watch.
fn answer() -> anyhow::Result<Answer> {
    loop {
        write!(stdout(), "[o]nce, for an [h]our, [a]lways, [d]eny, [s]kip, [q]uit? ")?;
        stdout().flush()?;
        let mut line = String::new();
        if stdin().read_line(&mut line).context("failed to read the answer")? == 0 {
            return Ok(Answer::Quit);
        }
        if let Some(answer) = read(line.trim()) {
            return Ok(answer);
        }
    }
}

fn read(word: &str) -> Option<Answer> {
    match word {
        "o" | "once" => Some(Answer::Decide(|id| How::Once.approves(id, false, None))),
        "h" | "hour" => Some(Answer::Decide(|id| How::For(HOUR.to_owned()).approves(id, false, None))),
        "a" | "always" => Some(Answer::Always),
        "d" | "deny" => Some(Answer::Decide(|id| denies(id, None, None))),
        "s" | "skip" => Some(Answer::Skip),
        "q" | "quit" => Some(Answer::Quit),
        // Whoever only presses enter has not decided.
        _ => None,
    }
}

/// A request may be gone, or refused, by the time it is decided: that is said, and the watch goes on.
fn tell(client: &Client, decide: Decide, always: bool) -> anyhow::Result<()> {
    match client.decide(&decide) {
        Ok(decided) => {
            print(&mut stdout(), &decided)?;
            if always {
                print_rules(&mut stdout(), &decided, None)?;
            }
        }
        Err(ClientError::Refused(refusal)) => writeln!(stdout(), "{}", sanitise(&refusal.message))?,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_word_for_it_is_a_yes() {
        for word in ["", "y", "yes", "O", "1", "on"] {
            assert!(read(word).is_none(), "{word:?}");
        }
        for (word, once) in [("o", true), ("h", false)] {
            let Some(Answer::Decide(decide)) = read(word) else { panic!("{word}") };
            let told = serde_json::to_value(decide(7)).unwrap_or_default();
            assert_eq!(told["decision"]["approve"]["once"], once, "{told}");
        }
    }
}
