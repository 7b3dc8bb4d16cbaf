//! What config makes of files: what it compiles them to, and every error that it shows.
//!
//! Each `errors/NAME.yaml` is a policy that must be refused, and `errors/NAME.txt` is what people
//! are then shown. `EGRESSD_BLESS=1 cargo test --test config` writes the second from the first.

#![allow(clippy::unwrap_used, reason = "tests")]

mod files;
mod packages;
mod policies;

use egressd::config::load_str;
use std::{env, fs, path::Path};

#[test]
fn every_mistake_is_shown_with_its_line_and_a_caret() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config/errors");
    let mut seen = 0;
    for found in fs::read_dir(&folder).unwrap() {
        let path = found.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            seen += 1;
            shows_its_mistake(&path);
        }
    }
    assert!(seen >= 30, "only {seen} cases in {}", folder.display());
}

fn shows_its_mistake(path: &Path) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(path).unwrap();
    let included = path.with_file_name("included");
    let error = load_str(name, &text, &included, &[]).expect_err(name);
    let shown = format!("{error}\n").replace(included.to_str().unwrap(), "INCLUDED");
    let golden = path.with_extension("txt");
    if env::var_os("EGRESSD_BLESS").is_some() {
        fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&golden).unwrap_or_default(), "{name}");
}
