//! What text formats have in common: a cursor over space-separated, partly quoted fields, and readers for the values in
//! them. Bytes in, values out; no field is copied, none is decoded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::{memchr, memmem, memrchr};

use super::lanes::{first_of, no_digits, nth};
use super::{ParseError, Problem};
use crate::timestamp::Timestamp;

/// Walks the fields of one line from left to right.
///
/// What reads a field of the commonest formats is inlined whatever the compiler makes of its size: the cursor then stays in
/// registers all along the line, which makes an ALB line a seventh cheaper.
pub(in crate::edge) struct Fields<'l> {
    rest: &'l [u8],
    position: u8,
    /// The day of the time read last, as written, and its beginning in seconds: the next is as a rule of the same.
    day: ([u8; 10], i64),
}

impl<'l> Fields<'l> {
    pub(in crate::edge) const fn new(line: &'l [u8]) -> Self {
        Self { rest: line, position: 0, day: ([0; 10], 0) }
    }

    /// An error about the field read last.
    pub(in crate::edge) const fn error(&self, field: &'static str, problem: Problem) -> ParseError {
        ParseError::new(field, self.position, problem)
    }

    /// The next field, up to the next space.
    #[inline(always)]
    pub(in crate::edge) fn bare(&mut self, name: &'static str) -> Result<&'l [u8], ParseError> {
        self.position = self.position.saturating_add(1);
        if self.rest.is_empty() {
            return Err(self.error(name, Problem::Missing));
        }
        let end = space(self.rest);
        Ok(self.take(end, end + 1))
    }

    /// Passes over some fields, each up to the next space.
    #[inline(always)]
    pub(in crate::edge) fn skip<const N: usize>(&mut self, names: [&'static str; N]) -> Result<(), ParseError> {
        if let Some(end) = nth::<N>(b' ', self.rest) {
            self.position = self.position.saturating_add(u8::try_from(N).unwrap_or(u8::MAX));
            self.take(end, end + 1);
            return Ok(());
        }
        names.into_iter().try_for_each(|name| self.bare(name).map(drop))
    }

    /// The next field, without its quotes. A backslash keeps the character after it from ending the field (`\"`, `\\`,
    /// `\x22`).
    #[inline(always)]
    pub(in crate::edge) fn quoted(&mut self, name: &'static str) -> Result<&'l [u8], ParseError> {
        if self.absent() {
            return Ok(b"-");
        }
        self.position = self.position.saturating_add(1);
        let inner = self.opened(b'"', name)?;
        let mut at = 0;
        loop {
            match first_of(*b"\"\\", inner.get(at..).unwrap_or_default()) {
                None => return Err(self.error(name, Problem::Quoting)),
                Some(found) if inner[at + found] == b'"' => {
                    at += found;
                    break;
                }
                Some(found) => at += found + 2,
            }
        }
        let field = &inner[..at];
        self.take(at + 2, at + 3);
        Ok(field)
    }

    /// What stands behind the mark that opens the field.
    #[inline(always)]
    const fn opened(&self, mark: u8, name: &'static str) -> Result<&'l [u8], ParseError> {
        match self.rest {
            [first, inner @ ..] if *first == mark => Ok(inner),
            [] => Err(self.error(name, Problem::Missing)),
            _ => Err(self.error(name, Problem::Quoting)),
        }
    }

    /// The next field, a time in UTC.
    #[inline(always)]
    pub(in crate::edge) fn time(&mut self, name: &'static str) -> Result<Timestamp, ParseError> {
        // Microseconds, as AWS writes them: where the field ends is known.
        if let Some((date, [b'T', rest @ ..])) = self.rest.split_first_chunk()
            && let Some((clock, rest)) = rest.split_first_chunk()
            && let Some((fraction, [b' ', rest @ ..])) = rest.split_first_chunk()
            && let Some(clock) = clock_seconds(clock)
            && let Some(nanos) = micros(fraction)
            && let Some(day) = if *date == self.day.0 { Some(self.day.1) } else { day_seconds(date) }
            && let Some(at) = (day + clock).checked_mul(1_000_000_000).and_then(|seconds| seconds.checked_add(nanos))
        {
            self.position = self.position.saturating_add(1);
            self.rest = rest;
            self.day = (*date, day);
            return Ok(Timestamp::from_unix_nanos(at));
        }
        let text = self.bare(name)?;
        utc_time(text).ok_or_else(|| self.error(name, Problem::Time))
    }

    /// The next field, `address:port` or `-`.
    #[inline(always)]
    pub(in crate::edge) fn endpoint(&mut self, name: &'static str) -> Result<Option<SocketAddr>, ParseError> {
        if let Some((socket, length)) = socket_v4(self.rest) {
            self.position = self.position.saturating_add(1);
            self.take(length, length + 1);
            return Ok(Some(socket));
        }
        match self.bare(name)? {
            b"-" => Ok(None),
            text => socket(text).map(Some).ok_or_else(|| self.error(name, Problem::Socket)),
        }
    }

    /// The next field, a status code. 0 and `-` (no answer) are absent.
    #[inline(always)]
    pub(in crate::edge) fn code(&mut self, name: &'static str) -> Result<Option<u16>, ParseError> {
        if let Some((code @ 1..=999, length)) = short_number(self.rest) {
            self.position = self.position.saturating_add(1);
            self.take(length, length + 1);
            return Ok(u16::try_from(code).ok());
        }
        let text = self.bare(name)?;
        status(text).map_err(|problem| self.error(name, problem))
    }

    /// The next field, a number of bytes, with `+` before it where it was still growing; `-` is zero.
    #[inline(always)]
    pub(in crate::edge) fn count(&mut self, name: &'static str) -> Result<u64, ParseError> {
        if let Some((count, length)) = short_number(self.rest) {
            self.position = self.position.saturating_add(1);
            self.take(length, length + 1);
            return Ok(count.into());
        }
        let text = self.bare(name)?;
        let text = text.strip_prefix(b"+").unwrap_or(text);
        Ok(number(text).map_err(|problem| self.error(name, problem))?.unwrap_or(0))
    }

    /// The next field without the square brackets around it.
    pub(in crate::edge) fn bracketed(&mut self, name: &'static str) -> Result<&'l [u8], ParseError> {
        self.position = self.position.saturating_add(1);
        let inner = self.opened(b'[', name)?;
        let end = memchr(b']', inner).ok_or_else(|| self.error(name, Problem::Quoting))?;
        let field = &inner[..end];
        self.take(end + 2, end + 3);
        Ok(field)
    }

    /// Everything up to `delimiter`, which is skipped.
    pub(in crate::edge) fn through(&mut self, name: &'static str, delimiter: &[u8]) -> Result<&'l [u8], ParseError> {
        self.position = self.position.saturating_add(1);
        let end = memmem::find(self.rest, delimiter).ok_or_else(|| self.error(name, Problem::Missing))?;
        Ok(self.take(end, end + delimiter.len()))
    }

    /// What has not been read yet.
    pub(in crate::edge) const fn rest(&self) -> &'l [u8] {
        self.rest
    }

    /// The next field whether or not it is quoted; `None` at the end of the line.
    #[inline(always)]
    pub(in crate::edge) fn either(&mut self, name: &'static str) -> Result<Option<&'l [u8]>, ParseError> {
        match self.rest.first() {
            None => Ok(None),
            Some(b'"') => self.quoted(name).map(Some),
            Some(_) => self.bare(name).map(Some),
        }
    }

    /// Passes over the commonest quoted field of all: an absent one.
    #[inline(always)]
    fn absent(&mut self) -> bool {
        let rest = self.rest.strip_prefix(b"\"-\" ");
        if let Some(rest) = rest {
            self.position = self.position.saturating_add(1);
            self.rest = rest;
        }
        rest.is_some()
    }

    /// Cuts `field_end` bytes off the front and skips to `next`; both are held within the line.
    #[inline(always)]
    fn take(&mut self, field_end: usize, next: usize) -> &'l [u8] {
        let Some(rest) = self.rest.get(next..) else { return self.last(field_end) };
        let field = &self.rest[..field_end];
        self.rest = rest;
        field
    }

    /// The field that the line ends with.
    #[cold]
    fn last(&mut self, field_end: usize) -> &'l [u8] {
        let field = &self.rest[..field_end.min(self.rest.len())];
        self.rest = b"";
        field
    }
}

/// A byte in every byte of a word.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Where the first space stands, or the end.
#[inline]
pub(in crate::edge) fn space(text: &[u8]) -> usize {
    first_of(*b" ", text).unwrap_or(text.len())
}

/// The digits of `word` as their values, and the top bit of every byte that is none, and perhaps of some behind one above
/// `\xB9`.
#[inline]
const fn decimals(word: u64) -> (u64, u64) {
    // Digits differ from '0' in the low four bits alone.
    let values = word ^ eight(b'0');
    (values, (values.wrapping_add(eight(0x80 - 10)) | values) & eight(0x80))
}

/// A number of at most seven digits with a space behind it at the front of `text`, and its length; `None` for whatever else
/// stands there. Without a branch on how many digits it has, which no processor can foretell.
#[inline(always)]
fn short_number(text: &[u8]) -> Option<(u32, usize)> {
    let (values, others) = decimals(u64::from_le_bytes(*text.first_chunk()?));
    let length = others.trailing_zeros() as usize / 8;
    if !(1..8).contains(&length) || text.get(length) != Some(&b' ') {
        return None;
    }
    // The last digit comes to the top, zeros before the first; then pairs of digits, of pairs, of those.
    let values = values << (u64::BITS as usize - 8 * length);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    let whole = fours.wrapping_mul(10_000).wrapping_add(fours >> 32);
    let [a, b, c, d, ..] = whole.to_le_bytes();
    Some((u32::from_le_bytes([a, b, c, d]), length))
}

/// An IPv4 `address:port` with a space behind it at the front of `text`, and its length; `None` for whatever else stands
/// there. Without a branch on lengths, as [`short_number`].
#[inline(always)]
fn socket_v4(text: &[u8]) -> Option<(SocketAddr, usize)> {
    // `255.255.255.255:` is the longest, so the marks behind all four numbers are among these.
    let mut ends = no_digits(text.first_chunk()?);
    let (mut address, mut start) = (0, 0);
    for mark in *b"...:" {
        let end = ends.trailing_zeros() as usize;
        let length = end - start;
        if !(1..4).contains(&length) || text.get(end) != Some(&mark) {
            return None;
        }
        ends &= ends - 1;
        let digits = u32::from_le_bytes(*text.get(start..)?.first_chunk()?) ^ u32::from_le_bytes([b'0'; 4]);
        // Three digits, with zeros before the first where there are fewer.
        let [hundreds, tens, ones, _] = (digits << (24 - 8 * length)).to_le_bytes();
        let value = u32::from(hundreds) * 100 + u32::from(tens) * 10 + u32::from(ones);
        if value > 255 {
            return None;
        }
        address = address << 8 | value;
        start = end + 1;
    }
    let (port, length) = short_number(text.get(start..)?)?;
    let socket = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), u16::try_from(port).ok()?);
    Some((socket, start + length))
}

/// `2025-03-11T00:00:01.086435Z`: ISO 8601 in UTC, any number of fraction digits (those past nanoseconds are dropped).
#[inline]
pub(in crate::edge) fn utc_time(text: &[u8]) -> Option<Timestamp> {
    let (date, [b'T', rest @ ..]) = text.split_first_chunk()? else { return None };
    let (clock, fraction) = rest.split_first_chunk()?;
    let nanos = match fraction.try_into() {
        Ok(fraction) => micros(fraction)?,
        Err(_) => fraction_nanos(fraction.strip_suffix(b"Z")?)?,
    };
    // A year of four digits is less than nanoseconds of 64 bits can count.
    let seconds = day_seconds(date)? + clock_seconds(clock)?;
    Some(Timestamp::from_unix_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?))
}

/// `2025-03-11`: its beginning, in seconds.
fn day_seconds(text: &[u8; 10]) -> Option<i64> {
    let [century, ..] = numerals(text.first_chunk()?, b"0000-00-")?;
    let [of_century, _, _, month, _, _, day, _] = numerals(text.last_chunk()?, b"00-00-00")?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = u32::from(century) * 100 + u32::from(of_century);
    Some(days_from_civil(year, month.into(), day.into()) * 86_400)
}

/// `00:00:01` in seconds.
#[inline]
fn clock_seconds(text: &[u8; 8]) -> Option<i64> {
    let [hour, _, _, minute, _, _, second, _] = numerals(text, b"00:00:00")?;
    // A leap second is written :60; it maps onto the next second, as Unix time does.
    let fits = hour <= 23 && minute <= 59 && second <= 60;
    fits.then(|| i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second))
}

/// `.086435Z` in nanoseconds.
#[inline]
fn micros(text: &[u8; 8]) -> Option<i64> {
    let [_, first, _, second, _, third, ..] = numerals(text, b".000000Z")?;
    Some(((i64::from(first) * 100 + i64::from(second)) * 100 + i64::from(third)) * 1000)
}

/// Reads eight bytes that look like `form`, which is made of zeros (any digit may stand there) and marks (which stand for
/// themselves): at every place, the number that the digit there and the next one make; a mark counts as zero.
#[inline]
fn numerals(text: &[u8; 8], form: &[u8; 8]) -> Option<[u8; 8]> {
    // Digits differ from '0' in the low four bits alone, and become their values; marks become zero.
    let word = u64::from_le_bytes(*text) ^ u64::from_le_bytes(*form);
    let marks = u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0 } else { u8::MAX }));
    let high = word.wrapping_add(eight(0x80 - 10)) | word;
    (high & eight(0x80) | word & marks == 0).then(|| word.wrapping_mul(10).wrapping_add(word >> 8).to_le_bytes())
}

/// `.086435` in nanoseconds; nothing at all is zero.
pub(in crate::edge) fn fraction_nanos(text: &[u8]) -> Option<i64> {
    let Some(fraction) = text.strip_prefix(b".") else {
        return text.is_empty().then_some(0);
    };
    let kept = &fraction[..fraction.len().min(9)];
    if kept.is_empty() || !fraction[kept.len()..].iter().all(u8::is_ascii_digit) {
        return None;
    }
    const SCALE: [i64; 10] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    Some(digits(kept)? * SCALE[kept.len()])
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, of a year of at most four digits: the year is counted from
/// March, so that the leap day is its last.
#[inline]
pub(in crate::edge) const fn days_from_civil(year: u32, month: u32, day: u32) -> i64 {
    // A cycle of 400 years more keeps January of the year 0 above nothing.
    let (year, month) = if month <= 2 { (year + 399, month + 9) } else { (year + 400, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    days as i64 - 719_469 - 146_097
}

/// A decimal number of at most 18 digits.
#[inline]
pub(in crate::edge) fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// `-` stands for what is absent.
pub(in crate::edge) fn present(field: &[u8]) -> &[u8] {
    if field == b"-" { b"" } else { field }
}

/// An unsigned number; `-` and a leading minus (`-1`: not measured) are absent.
pub(in crate::edge) fn number(text: &[u8]) -> Result<Option<u64>, Problem> {
    if text.first() == Some(&b'-') {
        return Ok(None);
    }
    digits(text).and_then(|value| u64::try_from(value).ok()).map(Some).ok_or(Problem::Number)
}

/// A status code; `-` and 0 (several balancers' word for a client that was gone before the answer) are absent.
pub(in crate::edge) fn status(text: &[u8]) -> Result<Option<u16>, Problem> {
    match number(text)? {
        None => Ok(None),
        Some(0) => Ok(None),
        Some(value) => u16::try_from(value).map(Some).map_err(|_| Problem::Number),
    }
}

/// `address:port`, split at the last colon because AWS writes IPv6 without brackets; brackets are accepted too.
pub(in crate::edge) fn socket(text: &[u8]) -> Option<SocketAddr> {
    let colon = memrchr(b':', text)?;
    let port = u16::try_from(digits(&text[colon + 1..])?).ok()?;
    Some(SocketAddr::new(address(&text[..colon])?, port))
}

/// An address, IPv6 with or without brackets.
pub(in crate::edge) fn address(text: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = ipv4(text) {
        return Some(IpAddr::V4(v4));
    }
    let inner = text.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or(text);
    std::str::from_utf8(inner).ok()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Four decimal parts of one to three digits, as balancers write them.
#[inline]
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut part, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 && digits < 3 {
            part = part * 10 + u32::from(digit);
            digits += 1;
        } else if *byte == b'.' && digits > 0 && part < 256 && dots < 3 {
            address = address << 8 | part;
            (part, digits, dots) = (0, 0, dots + 1);
        } else {
            return None;
        }
    }
    (digits > 0 && part < 256 && dots == 3).then(|| Ipv4Addr::from(address << 8 | part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_agree_with_the_calendar_library() {
        let check = |text: &str| {
            assert_eq!(utc_time(text.as_bytes()), Some(text.parse().expect("a time")), "{text}");
        };
        check("1970-01-01T00:00:00Z");
        check("2024-02-29T23:59:59.999999999Z");
        check("2025-03-11T00:00:01.086435Z");
        check("1999-12-31T23:59:59.5Z");
        check("2000-03-01T00:00:00.000Z");
        check("2100-02-28T12:30:00.1234567Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "-", "2025-03-11", "2025-13-11T00:00:01Z", "2025-03-11T24:00:00Z", "2025-03-11T00:00:01.Z"] {
            assert_eq!(utc_time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(utc_time(b"2025-03-11T00:00:01.1234567890xZ"), None);
        // Every byte of the head counts.
        let time = b"2025-03-11T00:00:01Z";
        assert!(utc_time(time).is_some());
        for at in 0..19 {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit() && *byte != time[at]) {
                let mut text = *time;
                text[at] = byte;
                assert_eq!(utc_time(&text), None, "{}", text.escape_ascii());
            }
        }
    }

    #[test]
    fn sockets_split_at_the_last_colon() {
        let check = |text: &str, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse::<SocketAddr>().expect("a socket"));
            assert_eq!(socket(text.as_bytes()), expected, "{text}");
        };
        check("192.0.2.7:2817", Some("192.0.2.7:2817"));
        check("2001:db8::7:443", Some("[2001:db8::7]:443"));
        check("[2001:db8::7]:443", Some("[2001:db8::7]:443"));
        check("192.0.2.255:1", Some("192.0.2.255:1"));
        for text in ["192.0.2.700:1", "192.0.2.256:1", "192.0.256.2:1", "192.0..2:1", "192.0.2.:1", ".192.0.2:1"] {
            check(text, None);
        }
        for text in ["192.0.2:1", "192.0.2.0001:1", "192.0.2.1.1:1", "192.0.2.1x:1"] {
            check(text, None);
        }
        check("192.0.2.7", None);
        check("192.0.2.7:65536", None);
        check("-", None);
    }

    /// A field is read as its text alone is, whatever stands behind it.
    fn check_alike(text: &[u8]) {
        let lines = [&b" next 12345678"[..], b" x", b""].map(|behind| [text, behind].concat());
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let field = text.split(|byte| *byte == b' ').next().unwrap_or_default();
            let shown = line.escape_ascii();
            let fields = || Fields::new(line);
            let endpoint = if field == b"-" { Some(None) } else { socket(field).map(Some) };
            assert_eq!(fields().endpoint("x").ok(), endpoint, "{shown}");
            assert_eq!(fields().code("x").ok(), status(field).ok(), "{shown}");
            let digits = field.strip_prefix(b"+").unwrap_or(field);
            assert_eq!(fields().count("x").ok(), number(digits).ok().map(Option::unwrap_or_default), "{shown}");
            assert_eq!(fields().time("x").ok(), utc_time(field), "{shown}");
        }
    }

    #[test]
    fn a_value_is_read_alike_whether_or_not_its_end_is_looked_for() {
        for text in ["192.0.2.7:2817", "255.255.255.255:65535", "1.2.3.4:5", "1.2.3.4:65536", "1.2.3.4:0000080"] {
            check_alike(text.as_bytes());
        }
        for text in ["256.1.1.1:1", "1.2.3:4", "1..2.3:4", "1.2.3.4.5:6", "1.2.3.4:", "1.2.3.4:5x", "2001:db8::7:443"] {
            check_alike(text.as_bytes());
        }
        for text in ["-", "0", "7", "200", "999", "1000", "65536", "1234567", "12345678", "+512", "-1", "1e3", "+"] {
            check_alike(text.as_bytes());
        }
        for time in [
            "2025-03-11T00:00:01.086435Z",
            "2025-13-11T00:00:01.086435Z",
            "2025-03-11T24:00:01.086435Z",
            "9999-03-11T00:00:01.086435Z",
        ] {
            check_alike(time.as_bytes());
        }
        check_alike(b"1.2.3.\xff:80");
        check_alike(b"1.2\xc03.4.5:80");
        let mut fields = Fields::new(b"2025-03-11T23:59:59.000001Z 2025-03-12T00:00:00.000001Z 2025-03-12T00:00:01Z");
        let times: Vec<_> = (0..3).filter_map(|_| fields.time("x").ok()).collect();
        assert_eq!(times[1].since(times[0]), std::time::Duration::from_secs(1), "of another day");
        assert_eq!(times.len(), 3);
    }

    #[test]
    fn fields_are_skipped_as_they_are_read() {
        let long = "x".repeat(40);
        for line in
            ["0.001 0.248 0.000 200", "a b c", "a b", "", "   d", &format!("{long} b c d"), &format!("a b c {long}")]
        {
            let (mut skipped, mut read) = (Fields::new(line.as_bytes()), Fields::new(line.as_bytes()));
            let one_by_one = ["a", "b", "c"].into_iter().try_for_each(|name| read.bare(name).map(drop));
            assert_eq!(skipped.skip(["a", "b", "c"]), one_by_one, "{line}");
            assert_eq!((skipped.rest, skipped.position), (read.rest, read.position), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read_alike(text in "[0-9.:+-]{0,26}", odd in proptest::collection::vec(proptest::num::u8::ANY, 0..24)) {
            check_alike(text.as_bytes());
            check_alike(&odd);
        }
    }

    #[test]
    fn a_backslash_keeps_a_quote_inside_its_field() {
        let mut fields = Fields::new(br#""a \" b" "c\\" d"#);
        assert_eq!(fields.quoted("first"), Ok(&br#"a \" b"#[..]));
        assert_eq!(fields.quoted("second"), Ok(&br"c\\"[..]));
        assert_eq!(fields.bare("third"), Ok(&b"d"[..]));
        assert_eq!(fields.either("fourth"), Ok(None));
        let mut fields = Fields::new(br#""-" "200" "a\"b" "forward" "-""#);
        for expected in [&b"-"[..], b"200", br#"a\"b"#, b"forward", b"-"] {
            assert_eq!(fields.either("any"), Ok(Some(expected)), "{}", fields.rest().escape_ascii());
        }
        assert_eq!(Fields::new(br#""open \"#).quoted("x").map_err(|error| error.problem), Err(Problem::Quoting));
    }
}
