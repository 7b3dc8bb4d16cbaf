//! Lines of a shell, as far as people write commands down in them.

/// The first of `words` that is neither a flag nor the value of one.
pub(super) fn operand<'w>(words: &[&'w str]) -> Option<&'w str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            None => return Some(word),
            Some(flag) if flag.contains('=') => {}
            Some(_) => drop(words.next()),
        }
    }
    None
}

/// The flags among `words` with their values, `--flag value` or `--flag=value`.
pub(super) fn flags<'w>(words: &[&'w str]) -> Vec<(&'w str, &'w str)> {
    let mut flags = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            continue;
        }
        match word.split_once('=') {
            Some(pair) => flags.push(pair),
            None => flags.push((*word, words.next().copied().unwrap_or_default())),
        }
    }
    flags
}

/// Lines without comments and prompts, joined where one ends with `\`, with the number of the first.
pub(super) fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let (line, continues) = line.strip_suffix('\\').map_or((line, false), |line| (line.trim(), true));
        match lines.last_mut().filter(|_| is_open) {
            Some((_, held)) => {
                held.push(' ');
                held.push_str(line);
            }
            None if line.is_empty() || line.starts_with('#') => {}
            None => lines.push((index + 1, line.strip_prefix("$ ").unwrap_or(line).to_owned())),
        }
        is_open = continues;
    }
    lines
}

/// The words of a command line; quotes keep white space, and nothing is expanded.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == letter => quote = None,
            (None, '#') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None | Some(_), _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
