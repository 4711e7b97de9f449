//! Lists of targets and of their answers. nginx writes one item per server tried: `a:1, b:2 : c:3`, a comma between servers of
//! one group, a spaced colon between groups (`ngx_http_upstream_module`, `$upstream_addr`). Slices in, slices out.

use std::net::SocketAddr;

use memchr::memchr;

use super::fields::{address, present, socket};
use crate::request::{AccessRecord, Target};

/// Cuts a list off the front of `text`: items are single words, a word ending in a comma or followed by a lone colon is not
/// the last. The rest begins after the space behind the list.
pub(in crate::edge) fn split_list(text: &[u8]) -> (&[u8], &[u8]) {
    let mut end = 0;
    loop {
        end += memchr(b' ', &text[end..]).unwrap_or(text.len() - end);
        let (list, rest) = (&text[..end], text.get(end + 1..).unwrap_or_default());
        if list.ends_with(b",") && !rest.is_empty() {
            end += 1;
        } else if rest.starts_with(b": ") {
            end += 3;
        } else {
            return (list, rest);
        }
    }
}

/// The items of a list, in the order in which they were tried.
pub(in crate::edge) fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| matches!(byte, b' ' | b',')).filter(|item| !item.is_empty() && *item != b":")
}

/// The sockets in [`AccessRecord::tried`]: all of them received the request, only the last answered it.
pub fn sockets_tried<'l>(record: &AccessRecord<'l>) -> impl Iterator<Item = SocketAddr> + use<'l> {
    items(record.tried).filter_map(socket)
}

/// Puts a list of targets into the record: the last as the target, all of them as tried where there were several.
pub(in crate::edge) fn place<'l>(record: &mut AccessRecord<'l>, list: &'l [u8]) {
    record.target = target(items(list).last().unwrap_or_default());
    record.tried = if items(list).nth(1).is_some() { list } else { b"" };
}

/// One target: `address:port`, an address, or a name. A Unix socket and the name of a group without a live server say
/// nothing that could be found on a host, but only the second was not dispatched.
pub(in crate::edge) fn target(text: &[u8]) -> Target {
    let text = text.strip_prefix(b"tcp://").unwrap_or(text);
    if present(text).is_empty() {
        return Target::None;
    }
    match (socket(text), address(text)) {
        // Unbracketed IPv6 reads both ways; a format that logs bare addresses reads them itself.
        (Some(socket), _) => Target::Socket(socket),
        (None, Some(address)) => Target::Address(address),
        (None, None) if text.starts_with(b"unix:") || text.starts_with(b"/") => Target::Unlogged,
        (None, None) => Target::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp::Timestamp;

    #[test]
    fn a_list_ends_where_its_grammar_does() {
        let check = |text: &str, list: &str, rest: &str| {
            assert_eq!(split_list(text.as_bytes()), (list.as_bytes(), rest.as_bytes()), "{text}");
        };
        check("10.0.0.1:80 200", "10.0.0.1:80", "200");
        check("10.0.0.1:80, 10.0.0.2:80 502, 200 x", "10.0.0.1:80, 10.0.0.2:80", "502, 200 x");
        check("10.0.0.1:80 : 10.0.0.2:80", "10.0.0.1:80 : 10.0.0.2:80", "");
        check("10.0.0.1:80, [fd00::2]:80 : unix:/run/a 1", "10.0.0.1:80, [fd00::2]:80 : unix:/run/a", "1");
        check("- -", "-", "-");
        check("", "", "");
        check("a, ", "a,", "");
    }

    #[test]
    fn the_last_target_answered_and_all_were_tried() {
        let check = |list: &str, target: Target, tried: usize| {
            let mut record = AccessRecord::blank(Timestamp::MIN, Timestamp::MIN);
            place(&mut record, list.as_bytes());
            assert_eq!((record.target, sockets_tried(&record).count()), (target, tried), "{list}");
        };
        let socket = |text: &str| Target::Socket(text.parse().expect("a socket"));
        check("10.0.0.1:80", socket("10.0.0.1:80"), 0);
        check("10.0.0.1:80, [fd00::2]:8080", socket("[fd00::2]:8080"), 2);
        check("10.0.0.1:80 : unix:/run/app.sock", Target::Unlogged, 1);
        check("tcp://10.0.0.1:80", socket("10.0.0.1:80"), 0);
        check("10.0.0.1", Target::Address("10.0.0.1".parse().expect("an address")), 0);
        check("backend_group", Target::None, 0);
        check("-", Target::None, 0);
        check("", Target::None, 0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_splits_within_itself(text in "[a, :]{0,60}") {
            let (list, rest) = split_list(text.as_bytes());
            proptest::prop_assert!(list.len() + rest.len() <= text.len());
        }
    }
}
