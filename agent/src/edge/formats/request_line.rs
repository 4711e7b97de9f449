//! The request line as balancers log it: `METHOD url PROTOCOL` in one field. Its bytes come from the client; nothing about
//! its form can be relied on.

use memchr::memrchr;

use super::fields::{present, space};
use super::lanes::first_of;

/// Longest scheme that is looked for (`https`, `grpcs`, `wss`). Without it each line would be searched for a colon.
const MAX_SCHEME_BYTES: usize = 7;

/// What stands between scheme and host.
const SLASHES: [&[u8]; 2] = [b"://", br":\/\/"];

/// A request line taken apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::edge) struct RequestLine<'l> {
    pub(in crate::edge) method: &'l [u8],
    pub(in crate::edge) authority: &'l [u8],
    pub(in crate::edge) path_and_query: &'l [u8],
}

impl<'l> RequestLine<'l> {
    /// Method up to the first space, protocol after the last, URL between: a URL may hold raw spaces (ALB `SpaceInUri`).
    /// A malformed request is logged by AWS as `- http://host:80- -` with or without its last token: no path.
    pub(in crate::edge) fn split(text: &'l [u8]) -> Self {
        let Some((method, [_, rest @ ..])) = text.split_at_checked(space(text)) else {
            return Self { method: present(text), authority: b"", path_and_query: b"" };
        };
        let (authority, path_and_query) = split_url(without_protocol(rest));
        if method == b"-" && path_and_query.iter().all(|byte| matches!(byte, b'-' | b' ')) {
            let authority = authority.strip_suffix(b"-").unwrap_or(authority);
            return Self { method, authority, path_and_query: b"" };
        }
        Self { method, authority, path_and_query }
    }
}

/// Cuts ` HTTP/1.1`, ` -` or a bare trailing space off the end.
#[inline]
fn without_protocol(rest: &[u8]) -> &[u8] {
    // Nothing has to be searched for in the usual case.
    if let [url @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] = rest {
        return url;
    }
    match memrchr(b' ', rest) {
        Some(space) if matches!(&rest[space + 1..], b"" | b"-" | [b'H', b'T', b'T', b'P', b'/', ..]) => &rest[..space],
        _ => rest,
    }
}

/// `scheme://host:port` and the rest. An origin-form or asterisk-form target has no authority. JSON may write a slash as `\/`.
#[inline]
pub(in crate::edge) fn split_url(url: &[u8]) -> (&[u8], &[u8]) {
    let Some(host) = host_start(url) else { return (b"", present(url)) };
    match first_of(*b"/?#\\", &url[host..]) {
        Some(path) => url.split_at(host + path),
        None => (url, b""),
    }
}

/// Where the host begins behind a scheme.
#[inline]
fn host_start(url: &[u8]) -> Option<usize> {
    if url.starts_with(b"https://") {
        return Some(8);
    }
    let scheme = url.iter().take(MAX_SCHEME_BYTES).take_while(|byte| byte.is_ascii_alphabetic()).count();
    SLASHES.iter().find(|slashes| url[scheme..].starts_with(slashes)).map(|slashes| scheme + slashes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_its_first_and_last_space() {
        let check = |line: &str, method: &str, authority: &str, path: &str| {
            let split = RequestLine::split(line.as_bytes());
            let found = [split.method, split.authority, split.path_and_query].map(String::from_utf8_lossy);
            assert_eq!(found, [method, authority, path], "{line}");
        };
        check("GET /a b HTTP/1.1", "GET", "", "/a b");
        check("GET /a b", "GET", "", "/a b");
        check("GET /?u=x://y HTTP/1.1", "GET", "", "/?u=x://y");
        check("CONNECT h:443 HTTP/1.1", "CONNECT", "", "h:443");
        check("PRI * HTTP/2.0", "PRI", "", "*");
        check(r"\x16\x03\x01", r"\x16\x03\x01", "", "");
        check("GET https://h?x HTTP/1.1", "GET", "https://h", "?x");
        check(r"GET https:\/\/h:443\/a HTTP/1.1", "GET", r"https:\/\/h:443", r"\/a");
        check("- - - ", "-", "", "");
    }
}
