//! Allowlists whose names are like one that there is not.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where `name` was looked for, and what it may have been meant for.
pub(super) fn missing<'f>(name: &str, folders: impl Iterator<Item = &'f PathBuf>) -> String {
    let folders: Vec<&PathBuf> = folders.collect();
    let shown = |folder: &&PathBuf| match folder.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => folder.display().to_string(),
    };
    let searched: Vec<String> = folders.iter().map(shown).collect();
    let searched = format!("searched in: {}", searched.join(", "));
    match folders.iter().flat_map(|folder| names_in(folder)).find(|known| is_like(name, known)) {
        Some(known) => format!("did you mean `{known}`? {searched}"),
        None => searched,
    }
}

/// The names of the files in a folder that may be allowlists; none where it cannot be listed.
fn names_in(folder: &Path) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_NAMES);
    let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".yaml")?.to_owned());
    let mut names: Vec<String> = found.filter_map(name).collect();
    names.sort();
    names
}

/// The most files of a folder that are looked at, some twenty times as many as there are allowlists of ours.
const MAX_NAMES: usize = 1024;

/// Whether one becomes the other by at most two changes of a letter, in names that have more letters than that.
fn is_like(one: &str, other: &str) -> bool {
    let bound = if one.len() < 5 { 1 } else { 2 };
    one.len().abs_diff(other.len()) <= bound && one.len() <= MAX_LENGTH && distance(one, other) <= bound
}

/// The longest name that is compared: it takes the square of it.
const MAX_LENGTH: usize = 64;

/// How many letters have to be added, left out or replaced.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, also) in row.iter().skip(1).zip(other.bytes()) {
            left = (diagonal + usize::from(letter != also)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_alike_that_differ_by_a_slip() {
        for (one, other, expected) in [
            ("github", "githup", 1),
            ("github", "gihtub", 2),
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("go", "rust", 4),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
        assert!(is_like("gihub", "github") && is_like("pyhton", "python"));
        assert!(!is_like("go", "zig") && !is_like("node", "rust"));
    }
}
