//! The manual pages of both programs, made from the same definition as their parsers.
//!
//! A page is that of `clap_mangen`, but for two sections: its synopsis knows neither values nor what may be given more
//! than once, and its last section fills tables and examples as if they were prose.

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;
use std::{fmt::Write as _, fs, io, path::Path};

/// Writes the page of `command` and those of its verbs into `folder`, which is there.
///
/// # Errors
/// One cannot be written.
pub fn generate_to(command: Command, folder: &Path) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, folder)
}

fn pages(command: &Command, folder: &Path) -> io::Result<()> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set()).try_for_each(|verb| pages(verb, folder))?;
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    let page = with_section(&page, "SYNOPSIS", &synopsis(command));
    let page = match command.get_after_long_help().or_else(|| command.get_after_help()) {
        Some(text) => with_section(&page, "EXTRA", &laid_out(&text.to_string())),
        None => page,
    };
    fs::write(folder.join(man.get_filename()), page)
}

/// `page` with other lines under a heading.
fn with_section(page: &str, name: &str, lines: &str) -> String {
    let heading = format!("\n.SH {name}\n");
    let Some((before, rest)) = page.split_once(&heading) else { return page.to_owned() };
    let after = rest.find("\n.SH ").map_or("", |at| &rest[at + 1..]);
    format!("{before}{heading}{lines}{after}")
}

fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut words = vec![format!("\\fB{}\\fR", roff(name))];
    let shown = || command.get_arguments().filter(|argument| !argument.is_hide_set());
    // What every verb knows stands behind what only this one does.
    let own = shown().filter(|argument| argument.get_help_heading().is_none());
    let common = shown().filter(|argument| argument.get_help_heading().is_some());
    words.extend(own.chain(common).filter(|argument| !argument.is_positional()).map(option));
    words.extend(shown().filter(|argument| argument.is_positional()).map(positional));
    if command.has_subcommands() {
        words.push(optional("\\fICOMMAND\\fR", command.is_subcommand_required_set()));
    }
    // Neither hyphenated nor spread over the line.
    format!(".nh\n.ad l\n{}\n.ad b\n.hy\n", words.join("\n"))
}

fn option(argument: &Arg) -> String {
    let short = argument.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = argument.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", roff(long)));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let mut text = names.join("|");
    let range = argument.get_num_args().unwrap_or_default();
    if range.takes_values() {
        text.push_str("\\ ");
        text.push_str(&value(argument));
        if range.max_values() > argument.get_value_names().map_or(1, <[_]>::len) {
            text.push_str("...");
        }
    }
    let text = optional(&text, argument.is_required_set());
    let is_many = matches!(argument.get_action(), ArgAction::Append | ArgAction::Count);
    if is_many { format!("{text}...") } else { text }
}

fn positional(argument: &Arg) -> String {
    let dashes = if argument.is_last_set() { "\\-\\- " } else { "" };
    let text = optional(&format!("{dashes}{}", value(argument)), argument.is_required_set());
    let is_many = argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    if is_many { format!("{text}...") } else { text }
}

fn value(argument: &Arg) -> String {
    let names: Vec<String> = match argument.get_value_names() {
        Some(names) => names.iter().map(|name| format!("\\fI{}\\fR", roff(name))).collect(),
        None => vec![format!("\\fI{}\\fR", roff(&argument.get_id().as_str().to_ascii_uppercase()))],
    };
    names.join("\\ ")
}

fn optional(text: &str, is_required: bool) -> String {
    if is_required { text.to_owned() } else { format!("[{text}]") }
}

/// What stands behind the options: prose is filled, exit codes are a list, and what else is indented stays as it is.
fn laid_out(text: &str) -> String {
    let (mut page, mut last) = (String::new(), Kind::Blank);
    for line in text.lines() {
        let kind = Kind::of(line, last);
        if last == Kind::Example && kind != Kind::Example {
            page.push_str(".fi\n");
        }
        // Writing to a String does not fail.
        let _ = match kind {
            Kind::Blank => Ok(()),
            Kind::Prose if last == Kind::Prose => writeln!(page, "{}", roff(line)),
            Kind::Prose => writeln!(page, ".PP\n{}", roff(line)),
            Kind::Code => {
                let (code, meaning) = line.trim().split_once("  ").unwrap_or((line.trim(), ""));
                writeln!(page, ".TP 4\n{}\n{}", roff(code), roff(meaning))
            }
            Kind::OfCode => writeln!(page, "{}", roff(line.trim())),
            Kind::Example if last == Kind::Example => writeln!(page, "{}", roff(line)),
            Kind::Example => writeln!(page, ".nf\n{}", roff(line)),
        };
        last = kind;
    }
    if last == Kind::Example {
        page.push_str(".fi\n");
    }
    page
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Blank,
    Prose,
    /// An exit code, and what it means.
    Code,
    /// More of what it means.
    OfCode,
    Example,
}

impl Kind {
    fn of(line: &str, last: Self) -> Self {
        let text = line.trim_start();
        match (text.is_empty(), line.len() - text.len(), last) {
            (true, _, _) => Self::Blank,
            (false, 0, _) => Self::Prose,
            (false, _, _) if is_code(text) => Self::Code,
            (false, _, Self::Code | Self::OfCode) => Self::OfCode,
            (false, _, Self::Blank | Self::Prose | Self::Example) => Self::Example,
        }
    }
}

/// As in `2  it could not be done`.
fn is_code(text: &str) -> bool {
    text.split_once("  ").is_some_and(|(code, _)| code.bytes().all(|octet| octet.is_ascii_digit()))
}

/// `text` as one that a reader can copy: with plain dashes, quotes and backslashes, and never a request.
fn roff(text: &str) -> String {
    let mut escaped = String::new();
    if text.starts_with('.') {
        escaped.push_str("\\&");
    }
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_stay_as_they_are_and_exit_codes_are_a_list() {
        let text = "A file:\n  a: 1\n    - b-c\n\nExit codes:\n  0  fine\n  12  not, or\n      worse\n`run` exits\nas it does";
        assert_eq!(
            laid_out(text),
            ".PP\nA file:\n.nf\n  a: 1\n    \\- b\\-c\n.fi\n.PP\nExit codes:\n.TP 4\n0\nfine\n.TP 4\n12\nnot, or\nworse\n.PP\n\\(garun\\(ga exits\nas it does\n"
        );
    }

    #[test]
    fn a_synopsis_tells_values_and_what_may_be_given_more_than_once() {
        let mut command = Command::new("tool").bin_name("tool try").args([
            Arg::new("to").long("to").required(true).value_name("PLACE"),
            Arg::new("label").short('l').long("label").action(ArgAction::Append).value_name("KEY=VALUE"),
            Arg::new("loud").long("loud").action(ArgAction::SetTrue),
            Arg::new("file").num_args(0..).value_name("FILE"),
        ]);
        command = command.disable_help_flag(true);
        command.build();
        assert_eq!(
            synopsis(&command),
            ".nh\n.ad l\n\\fBtool try\\fR\n\\fB\\-\\-to\\fR\\ \\fIPLACE\\fR\n[\\fB\\-l\\fR|\\fB\\-\\-label\\fR\\ \\fIKEY=VALUE\\fR]...\n[\\fB\\-\\-loud\\fR]\n[\\fIFILE\\fR]...\n.ad b\n.hy\n"
        );
    }

    #[test]
    fn nothing_in_a_text_is_a_request() {
        assert_eq!(roff(".SH a'b"), "\\&.SH a\\(aqb");
        assert_eq!(with_section("x\n.SH A\nold\n.SH B\ny\n", "A", "new\n"), "x\n.SH A\nnew\n.SH B\ny\n");
        assert_eq!(with_section("x\n.SH B\ny\n", "B", "new\n"), "x\n.SH B\nnew\n");
    }
}
