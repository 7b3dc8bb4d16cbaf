//! YAML, JSON and TOML as one tree in which every value knows its place.

use super::ImportError;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Options, Spanned};
use std::fmt;
use toml::de::{DeTable, DeValue};

/// A value of a foreign file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// `file:line`, or `file: key.path` of JSON.
    pub(super) place: String,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// A string, or the text of a number or a boolean.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of `key`, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(own, _)| own == key).map(|(_, node)| node)
    }

    /// The value at the end of `keys`.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The items of a list; of anything else but null, itself.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Null => &[],
            Value::Text(_) | Value::Map(_) => std::slice::from_ref(self),
        }
    }

    /// The entries of a map, in the order of the file.
    pub(super) fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Text(_) | Value::List(_) => &[],
        }
    }

    /// The text of this value for a report, in the manner of JSON.
    pub(super) fn show(&self) -> String {
        let mut shown = String::new();
        self.show_within(&mut shown);
        shown
    }

    fn show_within(&self, shown: &mut String) {
        match &self.value {
            Value::Null => shown.push_str("null"),
            Value::Text(text) => shown.push_str(text),
            Value::List(items) => {
                shown.push('[');
                for (index, item) in items.iter().enumerate() {
                    shown.push_str(if index == 0 { "" } else { ", " });
                    item.show_within(shown);
                }
                shown.push(']');
            }
            Value::Map(entries) => {
                shown.push('{');
                for (index, (key, node)) in entries.iter().enumerate() {
                    shown.push_str(if index == 0 { "" } else { ", " });
                    shown.push_str(key);
                    shown.push_str(": ");
                    node.show_within(shown);
                }
                shown.push('}');
            }
        }
    }
}

/// The documents of `text`, whose first line is line `first` of `file`.
pub(super) fn yaml(file: &str, text: &str, first: u64) -> Result<Vec<Node>, ImportError> {
    let parsed: Vec<Spanned<Raw>> =
        serde_saphyr::from_multiple_with_options(text, bounded()).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line().saturating_sub(1));
            let message = error.to_string();
            let why = message.lines().next().unwrap_or_default();
            let end = why.rfind(" at line ").unwrap_or(why.len());
            syntax(format!("{file}:{}", first + line), &why[..end])
        })?;
    Ok(parsed.into_iter().map(|raw| planted(file, first, raw)).collect())
}

pub(super) fn json(file: &str, text: &str) -> Result<Node, ImportError> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| syntax(format!("{file}:{}", error.line()), &error.to_string()))?;
    Ok(grown(file, "", value))
}

pub(super) fn toml(file: &str, text: &str) -> Result<Node, ImportError> {
    let line = |octet: usize| text.get(..octet).map_or(0, |before| before.matches('\n').count()) + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let octet = error.span().map_or(0, |span| span.start);
        syntax(format!("{file}:{}", line(octet)), error.message())
    })?;
    Ok(Node {
        place: format!("{file}:1"),
        value: Value::Map(table_entries(table.into_inner(), &|octet| format!("{file}:{}", line(octet)))),
    })
}

fn syntax(place: String, why: &str) -> ImportError {
    ImportError::Syntax { place, why: super::super::fate::quote(why) }
}

fn planted(file: &str, first: u64, raw: Spanned<Raw>) -> Node {
    let line = first + raw.referenced.line().saturating_sub(1);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => Value::List(items.into_iter().map(|item| planted(file, first, item)).collect()),
        Raw::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (key, planted(file, first, value))).collect())
        }
    };
    Node { place: format!("{file}:{line}"), value }
}

fn grown(file: &str, path: &str, value: serde_json::Value) -> Node {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let place = if path.is_empty() {
        file.to_owned()
    } else {
        format!("{file}: {}", crate::authoring::fate::quote(path))
    };
    let value = match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Text(truth.to_string()),
        serde_json::Value::Number(number) => Value::Text(number.to_string()),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(items) => Value::List(
            items
                .into_iter()
                .enumerate()
                .map(|(at, item)| grown(file, &format!("{path}[{at}]"), item))
                .collect(),
        ),
        serde_json::Value::Object(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let node = grown(file, &below(&key), value);
                    (key, node)
                })
                .collect(),
        ),
    };
    Node { place, value }
}

fn table_entries(table: DeTable<'_>, place: &dyn Fn(usize) -> String) -> Vec<(String, Node)> {
    let entry = |(key, value): (toml::Spanned<toml::de::DeString<'_>>, toml::Spanned<DeValue<'_>>)| {
        (key.get_ref().to_string(), harvested(value, place))
    };
    table.into_iter().map(entry).collect()
}

fn harvested(value: toml::Spanned<DeValue<'_>>, place: &dyn Fn(usize) -> String) -> Node {
    let at = place(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Text(number.as_str().to_owned()),
        DeValue::Float(number) => Value::Text(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Value::Text(truth.to_string()),
        DeValue::Datetime(moment) => Value::Text(moment.to_string()),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| harvested(item, place)).collect()),
        DeValue::Table(table) => Value::Map(table_entries(table, place)),
    };
    Node { place: at, value }
}

/// Foreign files may use anchors; what they expand to stays as small as a large file.
fn bounded() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_aliases: MAX_ANCHORS,
            max_anchors: MAX_ANCHORS,
            max_documents: MAX_DOCUMENTS,
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_buffered_comment_events: MAX_NODES,
        },
    }
}

/// Workflows with some dozens of steps that share a block have as many aliases.
const MAX_ANCHORS: usize = 256;

/// A folder of Cilium's policies in one file has some hundreds.
const MAX_DOCUMENTS: usize = 1024;

/// Cilium's schema nests 14 deep.
const MAX_DEPTH: usize = 32;

/// As many as a policy file of ours may have.
const MAX_NODES: usize = 100_000;

/// A value as the YAML parser gives it.
#[derive(Debug)]
enum Raw {
    Null,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(String, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Raw, E> {
        Ok(Raw::Text(truth.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Text(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Text(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Text(number.to_string()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Raw, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Raw, M::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_says_where_a_value_stands() {
        let text = "a:\n  - b: 1\n  - c: [x, null]\n";
        let node = &yaml("f", text, 1).unwrap()[0];
        let inner = &node.get("a").unwrap().items()[1];
        assert_eq!((inner.place.as_str(), inner.show().as_str()), ("f:3", "{c: [x, null]}"));
        let node = json("f", r#"{"a": {"b": ["x", "y"]}}"#).unwrap();
        assert_eq!(node.at(&["a", "b"]).unwrap().items()[1].place, "f: a.b[1]");
        let node = toml("f", "[a]\nb = [\n  'x',\n  'y',\n]\n").unwrap();
        assert_eq!(node.at(&["a", "b"]).unwrap().items()[1].place, "f:4");
    }

    #[test]
    fn an_error_tells_its_line() {
        for error in [yaml("f", "a: 1\nb: [", 1), json("f", "{\n!").map(|node| vec![node])] {
            let ImportError::Syntax { place, .. } = error.unwrap_err() else { panic!("a syntax error") };
            assert_eq!(place, "f:2");
        }
        assert!(toml("f", "a = 1\nb =").unwrap_err().to_string().contains("f:2"));
    }

    #[test]
    fn a_small_file_stays_a_small_tree() {
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
            + &(1..9)
                .map(|n| {
                    let (own, last) = (char::from(b'a' + n), char::from(b'a' + n - 1));
                    format!("{own}: &{own} [{}]\n", vec![format!("*{last}"); 10].join(", "))
                })
                .collect::<String>();
        assert!(yaml("f", &bomb, 1).is_err());
        assert!(yaml("f", &"[".repeat(1000), 1).is_err());
        assert!(json("f", &"[".repeat(1000)).is_err());
        assert!(toml("f", &format!("a = {}", "[".repeat(1000))).is_err());
    }
}
