//! The hellos of tests/fixtures/hellos.

use super::{Case, Verdict};
use std::{fs, path::Path};

pub fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hellos");
    let table = fs::read_to_string(folder.join("README.md")).expect("the table is there");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let cases: Vec<Case> = rows
        .map(|row| {
            let (title, rest) = row.split_once("` | ").expect("a row starts with a name");
            let (verdict, _) = rest.split_once(" | ").expect("the verdict is its second column");
            let bytes = fs::read(folder.join(format!("{title}.hello"))).expect("the hello is there");
            match verdict.strip_prefix("kernel: hello-unreadable, proxy: ") {
                Some(name) => Case::named(title, bytes, name).unreadable(),
                None if verdict.contains('.') => Case::named(title, bytes, verdict),
                None => Case::denied(title, bytes, verdict),
            }
        })
        .collect();
    let files = fs::read_dir(folder).expect("the hellos are there").count();
    assert_eq!(files, cases.len() + 1, "the table has every hello");
    assert!(cases.iter().any(|case| case.proxy == Verdict::Named("ok.test".to_owned())));
    cases
}
