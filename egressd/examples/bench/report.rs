//! Medians, spread and ratios, as a table and as JSON.

use serde_json::{Value, json};
use std::fmt;

/// What a bench measured.
pub struct Report {
    pub title: String,
    /// Of every number in `rows`.
    pub unit: &'static str,
    /// The first one is what the others are compared with.
    pub rows: Vec<Row>,
    /// What is not a time, and what was meant to come out.
    pub facts: Vec<(&'static str, Value)>,
}

/// One thing that was measured often.
pub struct Row {
    pub name: String,
    pub median: f64,
    /// A tenth of the values is below, a tenth above.
    pub spread: (f64, f64),
    pub most: f64,
}

impl Row {
    /// # Panics
    /// Where nothing was measured.
    pub fn of(name: impl Into<String>, mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "something was measured");
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let at = |part: f64| values[(last as f64 * part).round() as usize];
        Self { name: name.into(), median: at(0.5), spread: (at(0.1), at(0.9)), most: at(1.0) }
    }
}

impl Report {
    pub fn to_json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name, "median": row.median, "p10": row.spread.0, "p90": row.spread.1, "max": row.most,
                "over_first": row.median - self.first(), "ratio": row.median / self.first(),
            })
        };
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        json!({
            "title": self.title, "unit": self.unit, "kernel": kernel(), "processors": processors(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "facts": facts,
        })
    }

    fn first(&self) -> f64 {
        self.rows.first().map_or(f64::NAN, |row| row.median)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (Linux {}, {} processors)", self.title, kernel(), processors())?;
        let unit = self.unit;
        writeln!(
            f,
            "{:<34}{:>11}{:>21}{:>11}{:>11}{:>8}",
            "", "median", "p10 to p90", "max", "over", "ratio"
        )?;
        for row in &self.rows {
            let (low, high) = row.spread;
            let spread = format!("{low:.2} to {high:.2}");
            let (over, ratio) = (row.median - self.first(), row.median / self.first());
            let (name, median, most) = (&row.name, row.median, row.most);
            write!(f, "{name:<34}{median:>8.2} {unit}{spread:>21}{most:>8.2} {unit}")?;
            writeln!(f, "{over:>+8.2} {unit}{ratio:>8.2}")?;
        }
        for (name, value) in &self.facts {
            writeln!(f, "{name}: {value}")?;
        }
        Ok(())
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}
