//! `egressctl approvals`: what agents wait for, and what people say.

mod watch;

use crate::{
    addition::Addition,
    grants::{bounds, destination},
    output::{Cell, Colour, Format, json, sanitise, table},
    tail::clock,
};
use egressd::control::{
    Client,
    protocol::{ApprovalRequest, Decide, Decided, Decision, RequestId},
};
use std::{
    io::{self, Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// List what agents ask people for, and decide about it
///
/// Rules with `approval: required`, and destinations that no rule knows where a policy says `approve_unknown:
/// true`, wait here: lookups and tunnels for a minute, other flows are denied and may be tried again. What one
/// agent asks for below one registered domain is one request. Programs are listed as the agent calls them.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 also where nothing waits, 2 it could not be done")]
pub struct Approvals {
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    List(List),
    Watch(watch::Watch),
    Approve(Approve),
    Deny(Deny),
}

/// List what waits
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 also where nothing waits, 2 it could not be asked")]
struct List {}

/// Allow what a request was listed with
///
/// What joined it since then still waits, and is listed with other letters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is allowed, 2 it is not")]
struct Approve {
    /// The request, as `egressctl approvals` lists it, such as `3-kxwb`
    #[arg(value_name = "ID")]
    id: RequestId,

    /// One flow to each destination, within five minutes
    #[arg(long, conflicts_with_all = ["lasts", "always"])]
    once: bool,

    /// How long, such as `30m`; at most 30 days [default: 1h]
    #[arg(long = "for", value_name = "TIME", conflicts_with = "always")]
    lasts: Option<String>,

    /// For 30 days, and print what to add to the policy
    #[arg(long)]
    always: bool,

    /// With --always: the policy file, for which a patch is printed
    #[arg(long, value_name = "FILE", requires = "always")]
    patch: Option<PathBuf>,

    /// Also where a name has private addresses
    #[arg(long)]
    private: bool,

    /// Why, for whoever reads the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Deny what a request asks for
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 it is denied, 2 it is not")]
struct Deny {
    /// The request, as `egressctl approvals` lists it, such as `3-kxwb`
    #[arg(value_name = "ID")]
    id: RequestId,

    /// How long the agent is denied the same domain without asking, such as `8h`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    remember: String,

    /// Why, for whoever reads the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Approvals {
    pub fn act(self, client: &Client, format: Format) -> anyhow::Result<ExitCode> {
        match self.act {
            None | Some(Act::List(List {})) => list(client, format)?,
            Some(Act::Watch(watch)) => watch.act(client)?,
            Some(Act::Approve(approve)) => approve.act(client, format)?,
            Some(Act::Deny(deny)) => deny.act(client, format)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(client: &Client, format: Format) -> anyhow::Result<()> {
    let requests = client.approvals()?;
    let mut out = stdout().lock();
    match format {
        Format::Json => requests.iter().try_for_each(|request| json(&mut out, request))?,
        Format::Text if requests.is_empty() => writeln!(out, "nobody waits for an approval")?,
        Format::Text => {
            let rows: Vec<_> = requests.iter().map(row).collect();
            table(&mut out, Colour::of(&stdout()), TITLES, &rows)?;
        }
    }
    Ok(())
}

const TITLES: [&str; 8] = ["ID", "AGENT", "PROGRAMS", "DOMAIN", "DESTINATIONS", "ASKED", "LAST", "RULES"];

fn row(request: &ApprovalRequest) -> [Cell; 8] {
    let asked = match request.waiting {
        0 => request.asked.to_string(),
        waiting => format!("{}, {waiting} waiting", request.asked),
    };
    [
        Cell::plain(&request.id.to_string()),
        Cell::plain(&request.agent),
        Cell::plain(&request.programs.join(", ")),
        Cell::plain(&request.group),
        Cell::plain(&request.destinations.join(" ")),
        Cell::plain(&asked),
        Cell::plain(&clock(request.last)),
        Cell::plain(&rules(request)),
    ]
}

/// The rules that want an approval, as people read them.
fn rules(request: &ApprovalRequest) -> String {
    if request.rules.is_empty() { "none".to_owned() } else { request.rules.join(" ") }
}

impl Approve {
    fn act(self, client: &Client, format: Format) -> anyhow::Result<()> {
        let Self { id, once, lasts, always, patch, private, reason } = self;
        let how = match (once, always) {
            (true, _) => How::Once,
            (_, true) => How::Always,
            (false, false) => How::For(lasts.unwrap_or_else(|| HOUR.to_owned())),
        };
        let decided = client.decide(&how.approves(id, private, reason))?;
        let mut out = stdout().lock();
        match (format, how) {
            (Format::Json, _) => {
                let patch = patch.map(|file| patch_for(&decided, &file)).transpose()?;
                json(&mut out, &Approved { decided: &decided, patch })?;
            }
            (Format::Text, How::Once | How::For(_)) => print(&mut out, &decided)?,
            (Format::Text, How::Always) => {
                print(&mut out, &decided)?;
                print_rules(&mut out, &decided, patch.as_deref())?;
            }
        }
        Ok(())
    }
}

impl Deny {
    fn act(self, client: &Client, format: Format) -> anyhow::Result<()> {
        let Self { id, remember, reason } = self;
        let decided = client.decide(&denies(id.clone(), Some(remember.clone()), reason))?;
        let mut out = stdout().lock();
        match format {
            Format::Json => json(&mut out, &decided)?,
            Format::Text => print_denied(&mut out, &id, &remember)?,
        }
        Ok(())
    }
}

/// What came of a yes.
#[derive(serde::Serialize)]
struct Approved<'d> {
    #[serde(flatten)]
    decided: &'d Decided,
    /// With `--patch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

/// How long a yes counts.
enum How {
    Once,
    For(String),
    Always,
}

impl How {
    fn approves(&self, id: RequestId, private: bool, reason: Option<String>) -> Decide {
        let lasts = match self {
            Self::Once => "5m",
            Self::For(lasts) => lasts,
            Self::Always => ALWAYS,
        };
        let once = matches!(self, Self::Once);
        Decide { id, decision: Decision::Approve { lasts: lasts.to_owned(), once, private }, reason }
    }
}

const HOUR: &str = "1h";
/// The longest that anything is allowed without a rule.
const ALWAYS: &str = "30d";

fn denies(id: RequestId, remember: Option<String>, reason: Option<String>) -> Decide {
    Decide { id, decision: Decision::Deny { remember }, reason }
}

fn print(out: &mut impl Write, decided: &Decided) -> io::Result<()> {
    let colour = Colour::of(&stdout());
    for grant in &decided.grants {
        let until = std::iter::once(format!("until {}", clock(grant.until)));
        let terms: Vec<String> = until.chain(bounds(grant)).collect();
        let what = format!("{}, {}", destination(grant), grant.protocol);
        let (word, what, terms) = (colour.allowed("allowed"), sanitise(&what), terms.join(", "));
        writeln!(out, "{word}: {what}, for agent `{}` {terms} (grant {})", sanitise(&grant.agent), grant.id)?;
    }
    if let Some(left) = &decided.left {
        writeln!(out, "more was asked for since {} was listed: {left} still waits", decided.id)?;
    }
    Ok(())
}

fn print_denied(out: &mut impl Write, id: &RequestId, remember: &str) -> io::Result<()> {
    let word = Colour::of(&stdout()).denied("denied");
    writeln!(out, "{word} request {id}, and the same for {}", sanitise(remember))
}

/// The lines for the policy, as a patch where its file is known.
fn print_rules(out: &mut impl Write, decided: &Decided, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else {
        writeln!(out, "to keep it, add to `rules:` of the policy:")?;
        return Ok(decided.rules.iter().try_for_each(|rule| writeln!(out, "  {}", sanitise(rule)))?);
    };
    Ok(write!(out, "{}", patch_for(decided, file)?)?)
}

/// What to change in the policy `file`, which has the agent or a default for it.
fn patch_for(decided: &Decided, file: &Path) -> anyhow::Result<String> {
    let agent = decided.grants.first().map_or("default", |grant| grant.agent.as_str());
    let addition = Addition::to(file, &[agent, "default"], &decided.rules)?;
    addition.say_where();
    Ok(addition.patch)
}
