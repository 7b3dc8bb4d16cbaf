//! The lines of `squid.conf`, as Squid joins them before it reads their words.

/// The lines that say something, with the number of their first, and the number of one in which the text ends.
pub(super) struct Lines {
    pub(super) whole: Vec<(usize, String)>,
    pub(super) torn: Option<usize>,
}

impl Lines {
    /// Squid's `cache_cf.cc`: a line goes on behind a `\` at its very end, over empty lines and comments.
    pub(super) fn of(text: &str) -> Self {
        let mut whole = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.split('\r').next().unwrap_or_default();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (line, goes_on) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
            let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
            joined.push_str(if joined.is_empty() { line } else { line.trim_start() });
            match goes_on {
                true => open = Some((number, joined)),
                false => whole.push((number, joined)),
            }
        }
        Self { whole, torn: open.map(|(number, _)| number) }
    }
}

/// The words of a line, without its comment.
pub(super) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().take_while(|word| !word.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_as_squid_joins_them() {
        for (text, joined) in [
            ("a b \\\n  c\nd", "1 a b c|3 d"),
            ("a \\\n# x\n\nb", "1 a b"),
            ("a # x \\\n b\nc", "1 a # x b|3 c"),
            ("a \\ \nb", "1 a \\ |2 b"),
            ("a\\\r\nb\r\n", "1 ab"),
        ] {
            let lines: Vec<String> =
                Lines::of(text).whole.iter().map(|(number, line)| format!("{number} {line}")).collect();
            assert_eq!(lines.join("|"), joined);
        }
        assert_eq!(Lines::of("a\nb \\").torn, Some(2));
    }
}
