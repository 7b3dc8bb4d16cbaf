//! What people are shown of each mistake.

use egressd::config::{DaemonConfig, load_str};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[test]
fn every_mistake_is_shown_with_its_line_and_a_caret() {
    for path in files(&root().join("tests/config/errors"), "yaml") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let included = path.with_file_name("included");
        let error = load_str(name, &text, &included, &[]).expect_err(name);
        is_golden(&path, &error.to_string().replace(included.to_str().unwrap(), "INCLUDED"));
    }
}

#[test]
fn every_mistake_in_the_daemons_own_file_is_shown_with_its_line_and_a_caret() {
    for path in files(&root().join("tests/config/daemon-errors"), "yaml") {
        let error = DaemonConfig::load(&path).expect_err(path.to_str().unwrap());
        is_golden(&path, &error.to_string().replace(&format!("{}/", path.parent().unwrap().display()), ""));
    }
}

#[test]
fn every_message_of_the_compiler_is_in_a_test() {
    let folder = root().join("tests/config");
    let tests = ["", "errors", "daemon-errors"].map(|name| folder.join(name));
    let tests = tests.iter().flat_map(|folder| [files(folder, "txt"), files(folder, "rs")].concat());
    let shown: String = tests.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut seen = 0;
    for path in files(&root().join("egressd/src/config"), "rs") {
        let source = fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for title in titles(source) {
            seen += 1;
            // What stands in braces is another each time.
            let constant = title.split(['{', '}']).step_by(2).map(str::trim);
            for part in constant.filter(|part| part.len() > 5) {
                assert!(shown.contains(part), "{}: no test shows {title:?}", path.display());
            }
        }
    }
    assert!(seen >= 50, "only {seen} messages were found");
}

/// The texts that are handed to `.error(PLACE, TEXT)`.
fn titles(source: &str) -> impl Iterator<Item = &str> {
    source.split(".error(").skip(1).filter_map(|call| {
        let (before, rest) = call.split_once('"')?;
        // Where the text is made elsewhere, no literal stands in the call.
        (!before.contains(';')).then(|| rest.split('"').next()).flatten()
    })
}

fn is_golden(path: &Path, shown: &str) {
    let shown = format!("{shown}\n");
    let golden = path.with_extension("txt");
    if env::var_os("EGRESSD_BLESS").is_some() {
        fs::write(&golden, &shown).unwrap();
    }
    assert_eq!(shown, fs::read_to_string(&golden).unwrap_or_default(), "{}", path.display());
}

/// At least one.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap().map(|found| found.unwrap().path());
    let mut files: Vec<_> =
        found.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
