//! What is true of the source and of the documents as texts: layers, sizes, scripts, test names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_module_names_only_the_layers_below_it() {
    for (module, allowed) in LAYERS {
        for file in module_files(module) {
            for (named, line) in named_modules(&code(&file), "crate::") {
                let is_allowed = named == *module || allowed.contains(&named.as_str());
                assert!(is_allowed, "{}:{line}: `{module}` must not name `{named}`", show(&file));
            }
        }
    }
}

#[test]
fn every_module_has_its_place_in_the_layers() {
    let source = root().join("egressd/src");
    let listed = |name: &str| LAYERS.iter().any(|(module, _)| *module == name) || TOP.contains(&name);
    for entry in fs::read_dir(&source).expect("the source is there").flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(listed(&name), "`{name}` has no place in the table of layers");
    }
}

#[test]
fn the_command_line_names_only_what_it_asks_and_how_it_launches() {
    for file in rust_files("egressd/src/bin") {
        let code = code(&file);
        for (named, line) in named_modules(&code, "egressd::") {
            let is_allowed = ["audit", "authoring", "config", "control", "datapath", "manual", "policy"]
                .contains(&named.as_str());
            assert!(is_allowed, "{}:{line}: `egressctl` must not name `{named}`", show(&file));
        }
        let datapath = code.match_indices("datapath").filter(|(at, _)| is_word(&code, *at, "datapath"));
        for (at, word) in datapath {
            let rest = &code[at + word.len()..];
            // The doctor works where no daemon does, so it has to look for itself.
            let is_allowed = rest.starts_with("::launch") || rest.starts_with("::probe");
            assert!(
                is_allowed,
                "{}: of `datapath`, only `launch` and `probe` are for egressctl",
                show(&file)
            );
        }
    }
}

#[test]
fn every_name_of_a_use_is_found() {
    let code = "use crate::{\n    audit::{self, Event},\n    policy::Agent,\n    dns,\n};\nlet x = crate::proxy::serve();";
    let named = named_modules(code, "crate::");
    let named: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(named, ["audit", "policy", "dns", "proxy"]);
}

#[test]
fn only_the_datapath_speaks_to_the_kernel_programs() {
    for file in rust_files("egressd/src") {
        let (code, path) = (code(&file), show(&file));
        let is_datapath = path.starts_with("egressd/src/datapath/");
        assert!(is_datapath || !code.contains("aya::"), "{path}: names aya");
        let may_share = is_datapath || path.starts_with("egressd/src/daemon/");
        // A constant of TLS is a fact, and no word between the programs and the daemon.
        let code = code.replace("egress_common::hello::RETRY", "");
        assert!(may_share || !code.contains("egress_common::"), "{path}: names egress_common");
    }
}

#[test]
fn no_file_is_too_long() {
    for file in rust_files("").into_iter().filter(|file| show(file).contains("src/")) {
        let lines = code(&file).lines().filter(|line| !line.trim().is_empty()).count();
        let bound = if is_table_of_contents(&file) { MAX_CONTENTS } else { MAX_FILE };
        assert!(lines <= bound, "{} has {lines} lines of code, {bound} are allowed", show(&file));
    }
}

#[test]
fn nothing_is_left_undone() {
    // In two parts, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
        concat!("#[ign", "ore"),
    ];
    for file in rust_files("") {
        let text = read(&file);
        for word in words {
            assert!(!text.contains(word), "{}: {word}", show(&file));
        }
    }
}

#[test]
fn every_script_says_what_it_is_for_and_stops_at_the_first_failure() {
    let scripts = scripts();
    assert!(scripts.len() >= 4, "the scripts are found");
    for script in scripts {
        let (text, path) = (read(&script), show(&script));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#!/usr/bin/env bash"), "{path}");
        let purpose = lines.next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        assert!(purpose.ends_with('.'), "{path}: its second line says in a sentence what it is for");
        assert!(lines.any(|line| line == "set -euo pipefail"), "{path}: `set -euo pipefail`");
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests = test_names();
    for document in PROMISES {
        let text = read(&root().join(document));
        for name in code_spans(&text).filter(|span| is_test_name(span)) {
            assert!(tests.contains(name), "{document}: there is no test `{name}`");
        }
    }
}

#[test]
fn every_promise_names_a_test_that_keeps_it() {
    let promises = PROMISES.map(|document| (document, read(&root().join(document))));
    for (document, text) in &promises {
        let kept: Vec<&str> = text.split("\n- **").skip(1).filter(|item| is_promise(item)).collect();
        assert!(kept.len() >= 10, "{document}: its promises are found");
        for item in kept {
            let item = item.split("\n\n").next().unwrap_or(item);
            let title = item.split("**").next().unwrap_or(item);
            assert!(code_spans(item).any(is_test_name), "{document}: nothing keeps `{title}`");
        }
    }
}

#[test]
fn no_document_points_at_what_is_not_there() {
    for document in documents() {
        let (text, folder) = (read(&document), document.parent().expect("a folder").to_owned());
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or(target);
            assert!(folder.join(file).exists(), "{}: there is no `{target}`", show(&document));
        }
    }
}

/// Each module and the modules that it may name. `daemon` joins all of them; `laws` tests them.
const LAYERS: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("config", &["policy"]),
    ("authoring", &["policy", "config", "audit"]),
    ("audit", &["policy"]),
    ("dns", &["policy", "audit"]),
    ("proxy", &["policy", "audit"]),
    ("datapath", &["policy", "audit"]),
    ("control", &["policy", "audit"]),
    ("daemon", &["policy", "config", "audit", "dns", "proxy", "datapath", "control"]),
    ("laws", &["policy", "config", "audit", "dns", "proxy", "datapath", "control"]),
    ("telemetry", &[]),
    ("manual", &[]),
];

/// What stands above the modules.
const TOP: &[&str] = &["lib", "arguments", "main", "bin"];

/// Lines of code of one file, without comments, blank lines and the tests at its end: at 400 a
/// second noun has moved in.
const MAX_FILE: usize = 400;

/// The same of a table of contents, `main.rs` or `lib.rs`.
const MAX_CONTENTS: usize = 80;

/// The documents whose promises are kept by tests. In them, a code span that looks like the name
/// of a test is one.
const PROMISES: [&str; 2] = ["SECURITY.md", "ARCHITECTURE.md"];

/// The one of the kernel programs is a flat table with a line of macros for each program.
fn is_table_of_contents(file: &Path) -> bool {
    let path = show(file);
    (path.ends_with("/main.rs") || path.ends_with("/lib.rs")) && !path.starts_with("egress-ebpf/")
}

/// `**G1. ...**` of SECURITY.md, and the invariants of ARCHITECTURE.md, which end in a full stop
/// before the bold print does.
fn is_promise(item: &str) -> bool {
    item.split("**").next().is_some_and(|title| title.ends_with('.'))
}

/// Three words or more, as the sentences are that tests are named by.
fn is_test_name(span: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    span.split('_').count() >= 3 && span.split('_').all(word)
}

fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in rust_files("") {
        let mut is_test = false;
        for line in read(&file).lines().map(str::trim) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(function) = function.filter(|_| is_test) {
                names.insert(function.split('(').next().unwrap_or_default().to_owned());
                is_test = false;
            }
        }
    }
    names
}

/// What stands between single backticks, outside of fenced blocks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// The first names after `prefix`, also those in braces, each with its line.
fn named_modules(code: &str, prefix: &str) -> Vec<(String, usize)> {
    let mut named = Vec::new();
    for (at, _) in
        code.match_indices(prefix).filter(|(at, _)| is_word(code, *at, prefix.trim_end_matches(':')))
    {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => named.extend(first_names(group).into_iter().map(|name| (name, line))),
            None => named.extend(first_name(rest).map(|name| (name, line))),
        }
    }
    named
}

/// The first name of each member of a group of uses, up to the brace that closes it.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut member) = (Vec::new(), 0, String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(first_name(&std::mem::take(&mut member))),
            _ => {}
        }
        member.push(letter);
    }
    names.extend(first_name(&member));
    names
}

fn first_name(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|letter: char| letter == ',' || letter.is_whitespace());
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn is_word(code: &str, at: usize, word: &str) -> bool {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    let before = code[..at].chars().next_back();
    let after = code[at + word.len()..].chars().next();
    !before.is_some_and(|letter| is_letter(letter) || letter == '$') && !after.is_some_and(is_letter)
}

/// A file without its comments and without the tests at its end; every line keeps its number.
fn code(file: &Path) -> String {
    let text = read(file);
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines
        .map(|line| if line.trim_start().starts_with("//") { "\n".into() } else { format!("{line}\n") })
        .collect()
}

fn module_files(module: &str) -> Vec<PathBuf> {
    let single = root().join(format!("egressd/src/{module}.rs"));
    let mut files = rust_files(&format!("egressd/src/{module}"));
    files.extend(single.exists().then_some(single));
    assert!(!files.is_empty(), "there is no module `{module}`");
    files
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    files_below(&root().join(folder))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

fn documents() -> Vec<PathBuf> {
    files_below(&root()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")).collect()
}

/// Every file that starts with a shebang.
fn scripts() -> Vec<PathBuf> {
    let is_script = |path: &PathBuf| fs::read(path).is_ok_and(|octets| octets.starts_with(b"#!"));
    files_below(&root()).into_iter().filter(|path| path.extension().is_none() && is_script(path)).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        match path.is_dir() {
            true if name == "target" || name == ".git" => {}
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn show(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the package is in a folder of the workspace").to_owned()
}
