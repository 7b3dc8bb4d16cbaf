//! `egressctl policy import`: the allowlists of other tools as a policy of ours.

use crate::output::{Colour, Format, json, sanitise};
use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use egressd::{
    authoring::{
        Fate, Translated,
        import::{Imported, Kind, Options, Widening, import},
    },
    config::MAX_FILE,
    policy::AgentName,
};
use std::{
    fs::File,
    io::{Read, Write, stderr, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Translate the allowlist of another tool into a policy file, and report what did not fit
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Import {
    /// What the file is
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    from: Kind,

    /// Whose policy it becomes
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = AgentName::parse)]
    agent: AgentName,

    /// Of several policies in the file the one to translate: a job, a profile, a name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Where nothing exact can be written, write what allows more, instead of leaving it out
    #[arg(long)]
    allow_widening: bool,

    /// The file; standard input where there is none
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

const EXIT_CODES: &str = "\
The policy goes to standard output, the report of what is not exact to standard error, and into the policy as comments.

Exit codes:
  0  nothing was lost, nothing allows more than it did
  1  something was widened or lost
  2  it could not be done";

impl Import {
    pub fn act(self, format: Format) -> anyhow::Result<ExitCode> {
        let (name, text) = read(&self.file)?;
        let widening = if self.allow_widening { Widening::Allowed } else { Widening::Never };
        let options = Options { agent: self.agent, only: self.only, widening };
        let imported = import(self.from, &name, &text, &options)?;
        show(&imported, format)?;
        Ok(if imported.needs_a_look() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn kinds() -> impl TypedValueParser<Value = Kind> {
    let words = PossibleValuesParser::new(Kind::ALL.map(Kind::as_str));
    words.try_map(|word| Kind::parse(&word).ok_or("no such kind"))
}

fn show(imported: &Imported, format: Format) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match format {
        Format::Json => json(&mut out, imported)?,
        Format::Text => {
            out.write_all(imported.policy.as_bytes())?;
            report(&imported.report)?;
        }
    }
    Ok(())
}

/// Tells people what is not exact.
pub(super) fn report(lines: &[Translated]) -> anyhow::Result<()> {
    let colour = Colour::of(&stderr());
    let mut err = stderr().lock();
    for line in lines {
        let word = match line.fate {
            Fate::Exact => continue,
            Fate::Narrowed => colour.warned("narrowed"),
            Fate::Widened => colour.denied("widened"),
            Fate::Lost => colour.denied("lost"),
        };
        writeln!(err, "{word}: {}: {}", sanitise(&line.place), sanitise(&line.was))?;
        if let Some(why) = &line.why {
            writeln!(err, "  {}", sanitise(why))?;
        }
    }
    Ok(())
}

/// The text of `file` with the name by which the report calls it.
fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let name = if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() };
    let failed = || format!("failed to read `{name}`");
    let mut octets = Vec::new();
    // One more than is allowed, so that more is noticed.
    let bound = MAX_FILE + 1;
    match name.as_str() {
        "stdin" if file == Path::new("-") => stdin().lock().take(bound).read_to_end(&mut octets),
        _ => File::open(file).with_context(failed)?.take(bound).read_to_end(&mut octets),
    }
    .with_context(failed)?;
    let text =
        String::from_utf8(octets).map_err(|_| anyhow::anyhow!("failed to read `{name}`: not UTF-8 text"))?;
    Ok((name, text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}
