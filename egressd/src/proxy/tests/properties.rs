//! What holds for all bytes, not only for those that somebody thought of.

use super::bytes::{client_hello, in_records};
use crate::proxy::{
    framing::{Body, Framing, Trailers},
    head::HeadScan,
    hello::HelloReader,
    request::Request,
    response::Response,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_hello_with_any_octets_changed_is_read_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        size in 1..400_usize,
    ) {
        let mut handshake = client_hello("ok.test").split_off(5);
        for (index, octet) in changes {
            let at = index.index(handshake.len());
            handshake[at] = octet;
        }
        let bytes = in_records(&handshake, size);
        let whole = HelloReader::new().read(&bytes);
        let mut reader = HelloReader::new();
        let pieces = (0..=bytes.len()).find_map(|end| reader.read(&bytes[..end]).transpose()).transpose();
        prop_assert_eq!(whole, pieces, "however the bytes arrive");
    }

    #[test]
    fn any_first_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = HelloReader::new().read(&bytes);
        let _ = HelloReader::new().read(&in_records(&bytes, 50));
        let _ = HeadScan::default().end(&bytes);
        let _ = Request::parse(&bytes);
        let _ = Response::parse(&bytes, "GET");
    }

    #[test]
    fn a_request_that_passes_reads_the_same_when_it_is_read_again(
        method in "GET|POST|OPTIONS|get",
        target in "(http://)?(ok\\.test|evil\\.test|OK\\.TEST:80|a@ok\\.test)?(/[a-z?#@:/]{0,6}|\\*)?",
        fields in proptest::collection::vec(
            ("Host|host|Content-Length|Transfer-Encoding|Connection|X", "[: ]{1,2}",
             "ok\\.test|ok\\.test:80|evil\\.test|0|5|chunked|close|Host|Content-Length|x"),
            0..5,
        ),
        version in 0..2_u8,
    ) {
        let fields: String =
            fields.iter().map(|(name, colon, value)| format!("{name}{colon}{value}\r\n")).collect();
        let text = format!("{method} {target} HTTP/1.{version}\r\n{fields}\r\n");
        if let Ok(Request::Plain(head)) = Request::parse(text.as_bytes()) {
            let sent = head.to_bytes(80);
            let Ok(Request::Plain(again)) = Request::parse(&sent) else {
                return Err(TestCaseError::fail(format!("{text:?} became unreadable")));
            };
            prop_assert_eq!(head.destination(), again.destination());
            prop_assert_eq!(&head.target, &again.target);
            // No body and a body of no length are one.
            prop_assert_eq!(head.framing, again.framing);
            prop_assert_eq!(sent, again.to_bytes(80));
        }
    }

    #[test]
    fn a_body_ends_at_the_same_octet_however_it_arrives(
        bytes in "([0-9a-f]{1,2}(;x)?\r\n|[ab]{0,20}|\r\n|\n|0\r\n\r\n){0,8}",
        split in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes.as_bytes();
        let split = split.index(bytes.len() + 1);
        let mut whole = Body::new(Framing::Chunked, Trailers::Refuse);
        let all = whole.advance(bytes);
        let mut parts = Body::new(Framing::Chunked, Trailers::Refuse);
        let first = parts.advance(&bytes[..split]);
        let both = first.and_then(|first| Ok(first + parts.advance(&bytes[first..])?));
        prop_assert_eq!(all, both);
        prop_assert_eq!(all.is_ok() && whole.is_at_end(), all.is_ok() && parts.is_at_end());
    }
}
