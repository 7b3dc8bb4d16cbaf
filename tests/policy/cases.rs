//! Runs every case file.

use crate::case::Case;
use std::{fs, path::Path};

#[test]
fn every_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/policy/cases");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for found in fs::read_dir(folder).unwrap() {
        let path = found.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            seen += run(&path, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(seen >= 80, "only {seen} cases");
}

/// How many lines were run; those that do not hold are added to `wrong`.
fn run(path: &Path, wrong: &mut Vec<String>) -> usize {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let (section, lines) = text.split_once("---\n").unwrap_or_else(|| panic!("{name} has no line `---`"));
    let mut case = Case::new(name, section);
    let first = section.lines().count() + 2;
    let lines = lines.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let mut seen = 0;
    for (nth, line) in lines {
        seen += 1;
        if let Err(why) = case.run(line) {
            wrong.push(format!("{name}:{}: {line}: {why}", first + nth));
        }
    }
    seen
}
