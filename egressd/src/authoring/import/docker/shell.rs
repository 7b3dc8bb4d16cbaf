//! Lines of a shell, as far as people write commands down in them.

/// A line with a command.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) words: Vec<String>,
    /// Whether the words are those that the command gets: nothing is expanded, and nothing else runs.
    pub(super) is_plain: bool,
}

/// The lines without comments and prompts, joined where one ends with `\`, with the number of the first.
pub(super) fn lines(text: &str) -> Vec<Line> {
    logical_lines(text).into_iter().map(|(number, text)| Line::read(number, text)).collect()
}

impl Line {
    /// Quotes keep white space, and nothing is expanded.
    fn read(number: usize, text: String) -> Self {
        let mut words: Vec<String> = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        let mut is_plain = true;
        for letter in text.chars() {
            is_plain &= quote == Some('\'') || !SYNTAX.contains(&letter);
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
        is_plain &= quote.is_none();
        Self { number, text, words, is_plain }
    }
}

/// What ends a command, runs another, or stands for something else.
const SYNTAX: [char; 10] = [';', '&', '|', '<', '>', '(', ')', '$', '`', '\\'];

fn logical_lines(text: &str) -> Vec<(usize, String)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_plain_where_its_words_are_what_the_command_gets() {
        for (text, is_plain) in [
            ("a b # c; d", true),
            ("a 'b; $c' \"d e\"", true),
            ("a b && c", false),
            ("a \"$b\"", false),
            ("a b; c", false),
            ("a 'b", false),
            ("for h in a; do b $h; done", false),
        ] {
            let [line] = lines(text).try_into().unwrap();
            assert_eq!(line.is_plain, is_plain, "{text}");
        }
    }
}
