//! Measures of several subjects in several cases: a table for people, a file for programs.

use serde_json::{Value, json};
use std::{fmt, fs, path::Path};

/// Values by case, subject and metric, in the order in which they first came.
#[derive(Default)]
pub struct Measures {
    pub title: String,
    pub aims: Vec<Aim>,
    load: String,
    rows: Vec<Row>,
}

/// What was meant to come out of a bench, and what did.
pub struct Aim {
    what: String,
    found: f64,
    wanted: f64,
    is_met: bool,
}

impl Aim {
    pub fn at_least(what: String, found: f64, wanted: f64) -> Self {
        Self { what, found, wanted, is_met: found >= wanted }
    }

    pub fn at_most(what: String, found: f64, wanted: f64) -> Self {
        Self { what, found, wanted, is_met: found <= wanted }
    }
}

struct Row {
    case: String,
    subject: String,
    metric: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

impl Measures {
    pub fn new(title: String) -> Self {
        Self { title, load: load(), ..Self::default() }
    }

    pub fn add(&mut self, case: &str, subject: &str, metric: &'static str, unit: &'static str, value: f64) {
        let is_its =
            |row: &&mut Row| (row.case.as_str(), row.subject.as_str(), row.metric) == (case, subject, metric);
        match self.rows.iter_mut().find(is_its) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                case: case.to_owned(),
                subject: subject.to_owned(),
                metric,
                unit,
                values: vec![value],
            }),
        }
    }

    /// NaN where nothing was measured, which no aim is met by.
    pub fn median(&self, case: &str, subject: &str, metric: &str) -> f64 {
        let is_its =
            |row: &&Row| (row.case.as_str(), row.subject.as_str(), row.metric) == (case, subject, metric);
        self.rows.iter().find(is_its).map_or(f64::NAN, |row| row.part(0.5))
    }

    /// Of whom a metric was measured in a case.
    pub fn subjects(&self, case: &str, metric: &str) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.case == case && row.metric == metric);
        rows.map(|row| row.subject.clone()).collect()
    }

    pub fn to_json(&self) -> Value {
        self.rows.iter().map(Row::to_json).collect()
    }

    /// Writes `NAME.json` into `folder`.
    pub fn write(&self, folder: &Path, name: &str) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(name).with_extension("json"), format!("{:#}\n", self.to_json()))
    }
}

impl Row {
    /// The value below which that part of all lies; between two of them, in proportion.
    fn part(&self, part: f64) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        let place = values.len().saturating_sub(1) as f64 * part;
        let value = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
        let (below, above) = (value(place.floor()), value(place.ceil()));
        below + (above - below) * place.fract()
    }

    fn to_json(&self) -> Value {
        json!({
            "case": self.case, "subject": self.subject, "metric": self.metric, "unit": self.unit,
            "median": self.part(0.5), "p25": self.part(0.25), "p75": self.part(0.75), "rounds": self.values.len(),
        })
    }
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        // Who reads the numbers must know how quiet the machine was.
        writeln!(f, "load of the machine before and after: {} and {}", self.load, load())?;
        let subjects = widest(self.rows.iter().map(|row| row.subject.as_str()));
        let mut headings: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            let heading = (row.case.as_str(), row.metric);
            if headings.contains(&heading) {
                continue;
            }
            headings.push(heading);
            writeln!(f, "\n{}: {} ({})", row.case, row.metric, row.unit)?;
            let first = row.part(0.5);
            for row in self.rows.iter().filter(|row| (row.case.as_str(), row.metric) == heading) {
                let (median, low, high) = (row.part(0.5), row.part(0.25), row.part(0.75));
                let spread = format!("{low:.2} to {high:.2}");
                writeln!(f, "  {:<subjects$}{median:>12.2}{spread:>28}{:>8.2}", row.subject, median / first)?;
            }
        }
        let aims = widest(self.aims.iter().map(|aim| aim.what.as_str()));
        for (number, aim) in self.aims.iter().enumerate() {
            let heading = if number == 0 { "\nwhat was aimed at\n" } else { "" };
            let met = if aim.is_met { "met" } else { "MISSED" };
            writeln!(f, "{heading}  {:<aims$}{:>10.2}{:>10.2}  {met}", aim.what, aim.found, aim.wanted)?;
        }
        Ok(())
    }
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| text.chars().count()).max().unwrap_or_default()
}

/// How many tasks there were to run, in the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
