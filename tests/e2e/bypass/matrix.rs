//! What came of every try: a table for people, and one in JSON.

use super::{
    entry::{Mode, Tier},
    run::{Case, Leak},
};
use crate::program::Outcome;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// One way out, by one tier, over one family, in one mode.
#[derive(Debug)]
pub struct Row {
    section: &'static str,
    mode: Mode,
    id: &'static str,
    what: &'static str,
    tier: Tier,
    family: String,
    pub mark: String,
    fenced: Option<Leak>,
    pub unfenced: Option<Leak>,
    allowed: Option<Result<Result<(), String>, &'static str>>,
    /// Why the trick was not even begun in the fence.
    vain: Option<String>,
    skipped: Option<String>,
}

impl Row {
    pub fn skipped(section: &'static str, mode: Mode, case: &Case, why: &str) -> Self {
        Self { skipped: Some(why.to_owned()), ..Self::empty(section, mode, case) }
    }

    /// `allowed` is what came of the working twin, or why there is none.
    pub fn tried(
        section: &'static str,
        mode: Mode,
        case: &Case,
        mark: String,
        outcome: Outcome,
        fenced: Leak,
        allowed: Result<Result<(), String>, &'static str>,
    ) -> Self {
        let is_refused = case.entry.refusable && outcome.code == REFUSED;
        let vain = (NOT_BEGUN.contains(&outcome.code) && !is_refused).then(|| format!("{outcome:#?}"));
        let (fenced, allowed) = (Some(fenced), Some(allowed));
        Self { mark, vain, fenced, allowed, ..Self::empty(section, mode, case) }
    }

    fn empty(section: &'static str, mode: Mode, case: &Case) -> Self {
        Self {
            section,
            mode,
            id: case.entry.id,
            what: case.entry.what,
            tier: case.tier,
            family: case.family.to_string(),
            mark: String::new(),
            fenced: None,
            unfenced: None,
            allowed: None,
            vain: None,
            skipped: None,
        }
    }

    /// Which way out, who, and over what.
    fn key(&self) -> String {
        format!("{} {} {}", self.id, self.tier, self.family)
    }

    /// Notes that `count` frames were seen in all.
    pub fn count_at_least(&mut self, count: usize) {
        if let Some(leak) = &mut self.fenced {
            leak.frames = leak.frames.max(count);
        }
    }

    /// What is wrong, if anything.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let who = format!("{} ({}), {}", self.key(), self.what, self.mode);
        if let Some(leak) = self.fenced.as_ref().filter(|leak| leak.frames > 0) {
            complaints.push(format!("LEAK {who}: {} frames left, {}", leak.frames, leak.told));
        }
        if let Some(vain) = &self.vain {
            complaints.push(format!("{who} proves nothing: it was not begun, {vain}"));
        }
        if let Some(leak) = self.unfenced.as_ref().filter(|leak| leak.frames == 0) {
            complaints.push(format!("{who} proves nothing: unfenced it does not leak, {}", leak.told));
        }
        if let Some(Ok(Err(told))) = &self.allowed {
            complaints.push(format!("{who}: what is allowed should work, {told}"));
        }
        complaints
    }

    /// How many things were held against what was seen.
    fn assertions(&self) -> usize {
        let twin = matches!(self.allowed, Some(Ok(_)));
        usize::from(self.fenced.is_some()) + usize::from(self.unfenced.is_some()) + usize::from(twin)
    }

    fn json(&self) -> Value {
        let frames = |leak: &Option<Leak>| leak.as_ref().map(|leak| leak.frames);
        let mut value = json!({
            "id": self.id,
            "tier": self.tier.to_string(),
            "family": self.family,
            "mode": self.mode.to_string(),
            "fenced_frames": frames(&self.fenced),
            "unfenced_frames": frames(&self.unfenced),
            "allowed_ok": self.allowed.as_ref().and_then(|twin| twin.as_ref().ok()).map(Result::is_ok),
            "section": self.section,
            "what": self.what,
        });
        if let Some(Err(reason)) = self.allowed {
            value["allowed_none"] = reason.into();
        }
        if let Some(why) = &self.skipped {
            value["skipped"] = why.as_str().into();
        }
        value
    }

    fn cell(&self) -> String {
        let (Some(fenced), Some(unfenced)) = (&self.fenced, &self.unfenced) else {
            return "skipped".to_owned();
        };
        let twin = match &self.allowed {
            Some(Ok(Ok(()))) => " ok",
            Some(Ok(Err(_))) => " BROKEN",
            Some(Err(_)) | None => "",
        };
        let leak = if fenced.frames > 0 { "LEAK " } else { "" };
        format!("{leak}{}/{}{twin}", fenced.frames, unfenced.frames)
    }
}

/// Prints the rows of `section`, and replaces them in the files of all sections.
pub fn write(section: &str, rows: &[Row]) {
    let table = table(section, rows);
    println!("{table}");
    let folder = folder();
    fs::create_dir_all(&folder).expect("the folder for results can be made");
    fs::write(folder.join(format!("bypass-{section}.txt")), table).expect("the matrix can be written");
    // Other sections may be at it in other threads or processes.
    let lock = File::create(folder.join("bypass.lock")).expect("a lock can be made");
    lock.lock().expect("a lock can be taken");
    let path = folder.join("bypass.json");
    let mut all: Vec<Value> =
        fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    all.retain(|row| row["section"] != section);
    all.extend(rows.iter().map(Row::json));
    let lines: Vec<String> = all.iter().map(Value::to_string).collect();
    fs::write(path, format!("[\n{}\n]\n", lines.join(",\n"))).expect("the results can be written");
}

/// A line for each way out and mode, a column for each tier and family.
pub fn table(section: &str, rows: &[Row]) -> String {
    let columns: BTreeSet<String> = rows.iter().map(column).collect();
    let mut lines = vec![["id", "way out", "mode"].map(str::to_owned).to_vec()];
    lines[0].extend(columns.iter().cloned());
    let mut seen = HashSet::new();
    for row in rows {
        if seen.insert((row.id, row.mode)) {
            let cell = |column_name: &String| {
                let same = |other: &&Row| (other.id, other.mode) == (row.id, row.mode);
                let found = rows.iter().filter(same).find(|other| column(other) == *column_name);
                found.map_or_else(|| "-".to_owned(), Row::cell)
            };
            let mut line = vec![row.id.to_owned(), row.what.to_owned(), row.mode.to_string()];
            line.extend(columns.iter().map(cell));
            lines.push(line);
        }
    }
    let mut text = format!("{section}: frames in the fence/without it, and whether what is allowed works\n");
    text += &aligned(&lines);
    let skipped: BTreeSet<String> =
        rows.iter().filter_map(|row| Some(format!("{}: {}", row.id, row.skipped.as_ref()?))).collect();
    for line in skipped {
        writeln!(text, "skipped {line}").expect("a string grows");
    }
    let assertions: usize = rows.iter().map(Row::assertions).sum();
    let leaks = rows.iter().filter(|row| row.fenced.as_ref().is_some_and(|leak| leak.frames > 0)).count();
    text + &format!("{} tries, {assertions} assertions, {leaks} leaks\n", rows.len())
}

fn column(row: &Row) -> String {
    format!("{} {}", row.tier, row.family)
}

fn aligned(lines: &[Vec<String>]) -> String {
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end()).expect("a string grows");
    }
    text
}

/// Beside what the build makes.
fn folder() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().expect("it lies in the target folder").join("e2e")
}

/// Exit codes of the launcher and of the shell for what they could not start.
const NOT_BEGUN: [i32; 4] = [REFUSED, 126, 127, NEVER_ENDED];
/// What no program exits with: it had to be killed, and may not even have begun.
pub const NEVER_ENDED: i32 = -1;
const REFUSED: i32 = 125;
