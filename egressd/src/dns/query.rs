//! Reading what an agent asks (RFC 1035, section 4; RFC 6891 for EDNS).
//!
//! Only the plain form that stub resolvers send is read: one question, no records but one OPT,
//! no compression, no octets left over. What differs is refused, not interpreted.

use crate::policy::{HostName, HostNameError};

/// One question that can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub echo: Echo,
    pub name: HostName,
    pub kind: Kind,
}

/// What an answer repeats of its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    pub id: u16,
    /// The header's second word, of which answers keep opcode, RD and CD.
    pub flags: u16,
    /// The question section as it was received, in the agent's own spelling. Empty if unreadable.
    pub question: Vec<u8>,
    pub edns: Option<Edns>,
}

/// That the agent speaks EDNS, and how large a UDP answer it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Octets.
    pub payload: u16,
}

/// What is asked of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Address(Family),
    /// HTTPS and SVCB (RFC 9460): answered as absent, for they carry keys that hide server names,
    /// addresses that nobody granted, and other ports.
    Service,
    /// Every other type, by its number.
    Other(u16),
}

/// Which addresses of a name are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// A message that no question could be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What can be repeated of it; None where it must not be answered at all.
    pub echo: Option<Echo>,
    pub error: QueryError,
}

/// Why a message is not a question that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("message is shorter than a header")]
    NoHeader,
    #[error("message is a response")]
    Response,
    #[error("opcode {0} is not a query")]
    Opcode(u16),
    #[error("message holds {0} questions, exactly one is allowed")]
    Questions(u16),
    #[error("message holds records that no query needs")]
    Records,
    #[error("message ends within its {0}")]
    Truncated(&'static str),
    #[error("message has {0} octets after its end")]
    Excess(usize),
    #[error("question's name is compressed or has a reserved label type")]
    LabelType,
    #[error("question's name is longer than 255 octets")]
    NameTooLong,
    #[error("edns record is not valid")]
    Edns,
    #[error("edns version {0} is not known")]
    EdnsVersion(u8),
    #[error("name `{text}` is not a host name: {error}")]
    Name { text: String, error: HostNameError },
    #[error("class {0} of `{1}` is not IN")]
    Class(u16, HostName),
}

impl QueryError {
    /// The name that was asked for, where it could still be read.
    #[must_use]
    pub fn name(&self) -> Option<&HostName> {
        if let Self::Class(_, name) = self { Some(name) } else { None }
    }
}

/// Reads one message.
///
/// # Errors
/// Says what is wrong with it, and what an answer that says so repeats.
pub fn parse(message: &[u8]) -> Result<Question, Unreadable> {
    let mut echo = parse_header(message).map_err(|error| Unreadable { echo: None, error })?;
    match parse_body(message, &mut echo) {
        Ok((name, kind)) => Ok(Question { echo, name, kind }),
        Err(error) => Err(Unreadable { echo: Some(echo), error }),
    }
}

fn parse_header(message: &[u8]) -> Result<Echo, QueryError> {
    let mut reader = Reader { message, at: 0 };
    let (Ok(id), Ok(flags)) = (reader.u16("header"), reader.u16("header")) else {
        return Err(QueryError::NoHeader);
    };
    if message.len() < HEADER {
        return Err(QueryError::NoHeader);
    }
    // Two resolvers that answer each other's answers would never stop.
    if flags & QR != 0 {
        return Err(QueryError::Response);
    }
    Ok(Echo { id, flags, question: Vec::new(), edns: None })
}

fn parse_body(message: &[u8], echo: &mut Echo) -> Result<(HostName, Kind), QueryError> {
    let mut reader = Reader { message, at: 4 };
    let questions = reader.u16("header")?;
    let records = [reader.u16("header")?, reader.u16("header")?];
    let additional = reader.u16("header")?;
    let opcode = (echo.flags & OPCODE) >> 11;
    if opcode != 0 {
        return Err(QueryError::Opcode(opcode));
    }
    if questions != 1 {
        return Err(QueryError::Questions(questions));
    }
    if records != [0, 0] || additional > 1 || echo.flags & TC != 0 {
        return Err(QueryError::Records);
    }
    let labels = reader.labels()?;
    let kind = Kind::of(reader.u16("question")?);
    let class = reader.u16("question")?;
    echo.question = message[HEADER..reader.at].to_vec();
    if additional == 1 {
        parse_edns(&mut reader, echo)?;
    }
    match message.len() - reader.at {
        0 => {}
        excess => return Err(QueryError::Excess(excess)),
    }
    let name = host_name(&labels)?;
    if class == CLASS_IN { Ok((name, kind)) } else { Err(QueryError::Class(class, name)) }
}

/// The OPT record (RFC 6891, section 6.1.2). Its options are skipped: none is obeyed, none relayed.
fn parse_edns(reader: &mut Reader<'_>, echo: &mut Echo) -> Result<(), QueryError> {
    let [root, kind_high, kind_low] = reader.array("edns record")?;
    if root != 0 || u16::from_be_bytes([kind_high, kind_low]) != TYPE_OPT {
        return Err(QueryError::Records);
    }
    let payload = reader.u16("edns record")?;
    let [_extended_code, version, _, _] = reader.array("edns record")?;
    let length = reader.u16("edns record")?;
    let options = reader.bytes(usize::from(length), "edns record")?;
    if !are_options(options) {
        return Err(QueryError::Edns);
    }
    echo.edns = Some(Edns { payload });
    if version == 0 { Ok(()) } else { Err(QueryError::EdnsVersion(version)) }
}

fn are_options(mut rest: &[u8]) -> bool {
    while let [_, _, high, low, body @ ..] = rest {
        let Some((_, next)) = body.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))) else {
            return false;
        };
        rest = next;
    }
    rest.is_empty()
}

/// The name, from labels as they stand on the wire: a dot inside one is an octet that no host
/// name has, not a separator.
fn host_name(labels: &[&[u8]]) -> Result<HostName, QueryError> {
    let refuse = |error| QueryError::Name { text: presentation(labels), error };
    if labels.iter().any(|label| label.contains(&b'.')) {
        return Err(refuse(HostNameError::Octet(b'.')));
    }
    HostName::from_ascii(&labels.join(&b'.')).map_err(refuse)
}

/// The labels as text, with escapes (RFC 1035, section 5.1), at most [`MAX_TEXT`] octets.
fn presentation(labels: &[&[u8]]) -> String {
    let mut text = String::new();
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        for &octet in *label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                b'!'..=b'~' => text.push(char::from(octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
        if text.len() > MAX_TEXT {
            text.truncate(MAX_TEXT);
            return text + "...";
        }
    }
    text
}

impl Kind {
    /// The number of the type (RFC 6895, section 3.1); of HTTPS and SVCB that of HTTPS.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Address(Family::V4) => 1,
            Self::Address(Family::V6) => 28,
            Self::Service => 65,
            Self::Other(number) => number,
        }
    }

    fn of(number: u16) -> Self {
        match number {
            1 => Self::Address(Family::V4),
            28 => Self::Address(Family::V6),
            64 | 65 => Self::Service,
            _ => Self::Other(number),
        }
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize, part: &'static str) -> Result<&'a [u8], QueryError> {
        let bytes = self.message.get(self.at..self.at.saturating_add(length));
        self.at = self.at.saturating_add(length);
        bytes.ok_or(QueryError::Truncated(part))
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], QueryError> {
        self.bytes(N, part)?.try_into().map_err(|_| QueryError::Truncated(part))
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, QueryError> {
        Ok(u16::from_be_bytes(self.array(part)?))
    }

    /// A first name has nothing before it to point to, so each pointer is malice or damage.
    fn labels(&mut self) -> Result<Vec<&'a [u8]>, QueryError> {
        let start = self.at;
        let mut labels = Vec::new();
        loop {
            let [length] = self.array("name")?;
            match length {
                0 => return Ok(labels),
                1..=63 => labels.push(self.bytes(usize::from(length), "name")?),
                64.. => return Err(QueryError::LabelType),
            }
            // The root's octet is still to come.
            if self.at - start >= MAX_WIRE_NAME {
                return Err(QueryError::NameTooLong);
            }
        }
    }
}

pub(super) const HEADER: usize = 12;
pub(super) const QR: u16 = 0x8000;
pub(super) const OPCODE: u16 = 0x7800;
pub(super) const TC: u16 = 0x0200;
pub(super) const CLASS_IN: u16 = 1;
pub(super) const TYPE_OPT: u16 = 41;

/// RFC 1035, section 2.3.4.
const MAX_WIRE_NAME: usize = 255;

/// Octets of an invalid name that a record keeps: enough to recognise it, too few to fill a log.
const MAX_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_query_is_read_and_its_spelling_kept() {
        let message = query(&[b"Ok", b"Test"], 28, 1, &[]);
        let question = parse(&message).unwrap();
        assert_eq!(question.name.as_str(), "ok.test");
        assert_eq!(question.kind, Kind::Address(Family::V6));
        assert_eq!((question.echo.id, question.echo.flags), (0x1234, 0x0100));
        assert_eq!(question.echo.question, message[HEADER..]);
        assert_eq!(question.echo.edns, None);
        let edns = [0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 5, 0, 10, 0, 1, 7];
        assert_eq!(parse(&query(&[b"ok"], 1, 1, &edns)).unwrap().echo.edns, Some(Edns { payload: 1232 }));
    }

    #[test]
    fn a_label_is_never_read_again_as_text() {
        let name = |labels: &[&[u8]]| {
            let refusal = refusal(&query(labels, 1, 1, &[]));
            let QueryError::Name { text, error } = refusal else { panic!("{refusal}") };
            (text, error)
        };
        assert_eq!(name(&[b"ok.test"]), (r"ok\.test".to_owned(), HostNameError::Octet(b'.')));
        assert_eq!(
            name(&[b"evil\0", b"ok", b"test"]),
            (r"evil\000.ok.test".to_owned(), HostNameError::Octet(0))
        );
        assert_eq!(
            name(&[b"\xc3\xb6k", b"test"]),
            (r"\195\182k.test".to_owned(), HostNameError::Octet(0xc3))
        );
        assert_eq!(name(&[b"a b"]), (r"a\032b".to_owned(), HostNameError::Octet(b' ')));
        assert_eq!(name(&[b"*", b"ok"]), ("*.ok".to_owned(), HostNameError::Octet(b'*')));
        assert_eq!(name(&[b"127", b"1"]), ("127.1".to_owned(), HostNameError::Number));
        assert_eq!(name(&[]), (String::new(), HostNameError::Empty));
        assert!(name(&[&[0; 63], &[0; 63], &[0; 63]]).0.len() <= MAX_TEXT + 3);
    }

    #[test]
    fn a_message_that_is_not_one_plain_question_is_refused() {
        let plain = query(&[b"ok", b"test"], 1, 1, &[]);
        let with = |at: usize, octet: u8| {
            let mut message = plain.clone();
            message[at] = octet;
            refusal(&message)
        };
        assert_eq!(with(2, 0x80), QueryError::Response);
        assert_eq!(with(2, 0x28), QueryError::Opcode(5));
        assert_eq!(with(2, 0x03), QueryError::Records);
        assert_eq!(with(5, 0), QueryError::Questions(0));
        assert_eq!(with(5, 2), QueryError::Questions(2));
        assert_eq!(with(7, 1), QueryError::Records);
        assert_eq!(with(9, 1), QueryError::Records);
        assert_eq!(with(11, 2), QueryError::Records);
        assert_eq!(with(11, 1), QueryError::Truncated("edns record"));
        assert_eq!(with(12, 0xc0), QueryError::LabelType);
        assert_eq!(with(15, 0xc0), QueryError::LabelType);
        assert_eq!(with(12, 0x40), QueryError::LabelType);
        assert_eq!(with(plain.len() - 1, 3), QueryError::Class(3, HostName::parse("ok.test").unwrap()));
    }

    #[test]
    fn a_name_that_points_to_itself_ends() {
        let mut looped = query(&[], 1, 1, &[]);
        looped.splice(HEADER..=HEADER, [0xc0, 12]);
        assert_eq!(refusal(&looped), QueryError::LabelType);
    }

    #[test]
    fn a_name_longer_than_names_are_is_refused() {
        let label: &[u8] = &[b'a'; 63];
        assert_eq!(refusal(&query(&[label; 4], 1, 1, &[])), QueryError::NameTooLong);
        assert!(parse(&query(&[label, label, label, &label[..61]], 1, 1, &[])).is_ok());
    }

    #[test]
    fn an_edns_record_is_read_strictly() {
        let refuses = |edns: &[u8], why| assert_eq!(refusal(&query(&[b"ok"], 1, 1, edns)), why);
        refuses(&[0, 0, 41, 2, 0, 0, 1, 0, 0, 0, 0], QueryError::EdnsVersion(1));
        refuses(&[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0], QueryError::Edns);
        refuses(&[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 9], QueryError::Edns);
        refuses(&[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0], QueryError::Truncated("edns record"));
        refuses(&[1, b'a', 0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0], QueryError::Records);
        refuses(&[0, 0, 250, 2, 0, 0, 0, 0, 0, 0, 0], QueryError::Records);
    }

    #[test]
    fn no_message_cut_short_or_prolonged_is_read() {
        let edns = [0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0];
        let message = query(&[b"ok", b"test"], 1, 1, &edns);
        assert!(parse(&message).is_ok());
        for length in 0..message.len() {
            assert!(parse(&message[..length]).is_err(), "{length}");
        }
        let long = [message, vec![0; 65_000]].concat();
        assert_eq!(refusal(&long), QueryError::Excess(65_000));
        assert_eq!(refusal(&[0; 65_535]), QueryError::Questions(0));
        assert_eq!(refusal(&[0xff; 65_535]), QueryError::Response);
    }

    proptest::proptest! {
        #[test]
        fn no_message_can_make_the_reader_panic(bytes: Vec<u8>, tail in proptest::collection::vec(0u8..70, 0..300)) {
            let _ = parse(&bytes);
            let header = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            let _ = parse(&[&header[..], &tail].concat());
        }
    }

    fn refusal(message: &[u8]) -> QueryError {
        parse(message).unwrap_err().error
    }

    fn query(labels: &[&[u8]], kind: u16, class: u16, additional: &[u8]) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
        for label in labels {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label);
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&class.to_be_bytes());
        message.extend_from_slice(additional);
        message
    }
}
