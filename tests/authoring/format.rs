//! One layout for policy files.

use crate::{file, policies, random::section};
use egressd::{
    authoring::format::{format, means_the_same},
    config::load_dir,
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{fs, path::Path};

proptest! {
    #[test]
    fn a_file_that_is_laid_out_means_the_same(section in block_section(), flow in section()) {
        for section in [&section, &flow] {
            let text = file(section);
            let laid_out = format(&text).unwrap();
            prop_assert!(means_the_same(&policies(&text), &policies(&laid_out)), "{text}\n{laid_out}");
            prop_assert_eq!(format(&laid_out), Ok(laid_out));
        }
    }

    #[test]
    fn no_text_makes_the_layout_panic_or_lose_a_comment(text in "([a-c]: |- |#|\\[|\\]|\\{|\"|'| |\n|x|,|:){0,40}") {
        if let Ok(laid_out) = format(&text) {
            prop_assert!(format(&laid_out).is_ok_and(|again| again == laid_out));
        }
    }
}

#[test]
fn a_file_is_laid_out_with_its_comments() {
    let text = "\
# About the file.


agents:   # all
    build:
        rules:
         # The first.
         -   reason: 'it is #1'   # why
             host: '*.a.test'


             # Only these.
             ports: [443,   8443]
         - {host: b.test, reason: [] }
         # - host: gone.test
        include:
            - one   # here
            - 'two'
    # The end of build.
version: 1
# The end.
";
    let laid_out = "\
# About the file.

version: 1
agents:   # all
  build:
    include:
      - one   # here
      - \"two\"
    rules:
      # The first.
      - host: \"*.a.test\"

        # Only these.
        ports: [443,   8443]
        reason: \"it is #1\"   # why
      - {host: b.test, reason: [] }
      # - host: gone.test
  # The end of build.
# The end.
";
    assert_eq!(format(text).unwrap(), laid_out);
    assert_eq!(format(laid_out).unwrap(), laid_out);
}

#[test]
fn what_cannot_be_laid_out_without_guessing_is_left() {
    for (text, line) in [
        ("a: [1,\n  2]\n", "line 1"),
        ("a: |\n  text\n", "line 1"),
        ("a: one\n  two\n", "line 2"),
        ("a: \"one\n  two\"\n", "line 1"),
        ("a:\n\tb: c\n", "line 2"),
        ("---\na: b\n", "line 1"),
        ("a:\n    b: c\n  d: e\n", "line 3"),
        ("- a\n", "line 1"),
        ("a:\n  - - b\n", "line 2"),
        ("? a\n: b\n", "line 1"),
        ("a: b\rc\n", "line 1"),
    ] {
        let error = format(text).unwrap_err().to_string();
        assert!(error.starts_with(line), "{text:?}: {error}");
    }
    assert!(format("").is_err() && format("# only\n").is_err());
}

#[test]
fn the_shipped_files_are_laid_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../allowlists");
    for path in load_dir(&folder).unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(format(&text).unwrap(), text, "{}", path.display());
    }
}

/// An agent in blocks, indented and ordered by chance, with comments.
fn block_section() -> impl Strategy<Value = String> {
    let host = select(vec![
        "host: a.test",
        "host: '*.a.test'",
        "host: \"**.b.test\"   # why",
        "hosts: [a.test, 'b.test']",
    ]);
    let more = select(vec![
        "ports: [443, 444]",
        "reason: it's # not said",
        "reason: 'a # b'",
        "private: true",
        "types:\n- TXT\n-   MX # mail",
        "# a comment\nech: refuse",
        "protocol: tls",
    ]);
    let rule = (host, vec(more, 0..3), any::<bool>(), 1..5_usize);
    vec(rule, 1..5).prop_map(|rules| {
        let mut text = "rules:\n# The rules.\n".to_owned();
        for (host, mut more, is_first, width) in rules {
            more.sort_unstable();
            more.dedup_by_key(|key| key.split(':').next().unwrap_or_default().to_owned());
            more.insert(if is_first { 0 } else { more.len() }, host);
            let lines: Vec<&str> = more.iter().flat_map(|key| key.lines()).collect();
            let starts_with_comment = lines[0].starts_with('#');
            for (nth, line) in lines.iter().enumerate() {
                let dash = usize::from(starts_with_comment);
                let mark = if nth == dash { '-' } else { ' ' };
                match nth < dash {
                    true => text.push_str(&format!("{line}\n")),
                    false => text.push_str(&format!("{mark}{:width$}{line}\n", "")),
                }
            }
            text.push_str("\n\n");
        }
        text + "leak_budget: 10\n"
    })
}
