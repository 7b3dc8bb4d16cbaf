//! What holds for all bytes that a log can end with.

use super::{
    encode::{encode_line, is_unprintable},
    record::Line,
    recover::read_lines,
};

/// The numbering of what is read only grows, goes on behind it, and every line is written as one
/// line that reads the same again.
pub fn lines(bytes: &[u8]) {
    let recovered = read_lines(bytes);
    let seqs: Vec<u64> = recovered.lines.iter().map(Line::seq).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    assert!(seqs.last().is_none_or(|last| *last < recovered.next_seq));
    assert!(recovered.next_seq >= 1);
    assert!(!recovered.torn || recovered.ends_within_a_line);
    for line in &recovered.lines {
        is_one_line(line);
    }
}

/// No terminal obeys anything in it, and nothing in it ends it.
pub fn is_one_line(line: &Line) {
    let bytes = encode_line(line);
    let text = std::str::from_utf8(&bytes).expect("JSON is text");
    let text = text.strip_suffix('\n').expect("a line ends");
    assert!(!text.contains(is_unprintable), "{text:?}");
    assert_eq!(serde_json::from_str::<Line>(text).ok().as_ref(), Some(line), "{text:?}");
}
