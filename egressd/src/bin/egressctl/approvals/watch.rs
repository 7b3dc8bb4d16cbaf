//! `egressctl approvals watch`: one request after the other, with a prompt.

use super::{ALWAYS, HOUR, How, denies, print, print_denied, print_rules, rules};
use crate::output::{Colour, sanitise};
use anyhow::Context;
use egressd::control::{
    Client, ClientError,
    protocol::{ApprovalRequest, Decide, Decision, RequestId},
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
#[command(after_help = "Exit codes: 0 it was left, 2 it could not be asked, or there is no terminal")]
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
            skipped.retain(|id| requests.iter().any(|request| request.id.number == *id));
            let is_new = |request: &ApprovalRequest| !skipped.contains(&request.id.number);
            let Some(request) = requests.into_iter().find(is_new) else {
                std::thread::sleep(PAUSE);
                continue;
            };
            show(&request)?;
            match answer()? {
                Answer::Decide(decide) => tell(client, &decide(request.id))?,
                Answer::Skip => drop(skipped.insert(request.id.number)),
                Answer::Quit => return Ok(()),
            }
        }
    }
}

enum Answer {
    Decide(fn(RequestId) -> Decide),
    Skip,
    Quit,
}

fn show(request: &ApprovalRequest) -> anyhow::Result<()> {
    let colour = Colour::of(&stdout());
    let ApprovalRequest { id, agent, group, programs, destinations, asked, .. } = request;
    let heading = format!("request {id}: agent `{}` asks for {}", sanitise(agent), sanitise(group));
    let mut out = stdout().lock();
    writeln!(out, "{}", colour.heading(&heading))?;
    writeln!(out, "  destinations  {}", sanitise(&destinations.join(" ")))?;
    writeln!(out, "  programs      {}, as the agent calls them", sanitise(&programs.join(", ")))?;
    writeln!(out, "  rules         {}", sanitise(&rules(request)))?;
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
        "a" | "always" => Some(Answer::Decide(|id| How::Always.approves(id, false, None))),
        "d" | "deny" => Some(Answer::Decide(|id| denies(id, Some(HOUR.to_owned()), None))),
        "s" | "skip" => Some(Answer::Skip),
        "q" | "quit" => Some(Answer::Quit),
        // Whoever only presses enter has not decided.
        _ => None,
    }
}

/// A request may be gone, or refused, by the time it is decided: that is said, and the watch goes on.
fn tell(client: &Client, decide: &Decide) -> anyhow::Result<()> {
    match (client.decide(decide), &decide.decision) {
        (Ok(decided), Decision::Approve { lasts, .. }) => {
            print(&mut stdout(), &decided)?;
            if lasts == ALWAYS {
                print_rules(&mut stdout(), &decided, None)?;
            }
        }
        (Ok(_), Decision::Deny { .. }) => print_denied(&mut stdout(), &decide.id, HOUR)?,
        (Err(ClientError::Refused(refusal)), _) => writeln!(stdout(), "{}", sanitise(&refusal.message))?,
        (Err(error), _) => return Err(error.into()),
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
            let told = serde_json::to_value(decide(RequestId { number: 7, mark: "kxwb".to_owned() }))
                .unwrap_or_default();
            assert_eq!(told["decision"]["approve"]["once"], once, "{told}");
        }
    }
}
