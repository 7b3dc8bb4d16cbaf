//! JSON on one line, with nothing in it that a terminal would obey.

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

/// `value` as one line of JSON with its newline. Control characters and characters that turn the
/// direction of text around are written as escapes, also those that JSON would let through
/// (DEL, C1, U+2028, bidirectional controls).
#[must_use]
pub fn encode_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(512);
    // Writing to memory does not fail, and our wire types have neither maps with other keys than
    // text nor a Serialize of their own that fails.
    let written = value.serialize(&mut Serializer::with_formatter(&mut line, Escaping));
    debug_assert!(written.is_ok(), "{written:?}");
    line.push(b'\n');
    line
}

/// Whether `character` may move a cursor, change colours or reorder the text around it.
#[must_use]
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut plain_from = 0;
        for (index, character) in fragment.char_indices().filter(|(_, c)| is_unprintable(*c)) {
            writer.write_all(&fragment.as_bytes()[plain_from..index])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain_from = index + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain_from..])
    }
}
