//! Points and spans of time as logs write them: ISO 8601 with or without a zone, the Common Log Format's date, seconds since
//! the epoch. A time without a zone is taken for UTC. Text in, values out; what is no time is `None`, never a guess.

use std::time::Duration;

use super::fields::{days_from_civil, digits, fraction_nanos};
use crate::timestamp::Timestamp;

/// Month names of the Common Log Format.
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `2021-10-14T22:17:11.25+02:00`: `T` or a space between, any number of fraction digits, zone `Z`, `±HH:MM`, `±HHMM` or none.
pub(in crate::edge) fn iso_time(text: &[u8]) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let (separator, clock) = rest.split_first()?;
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    date_and_time(date, clock)
}

/// `2021-10-14` and `22:17:11`, as two fields of a W3C log.
pub(in crate::edge) fn date_and_time(date: &[u8], clock: &[u8]) -> Option<Timestamp> {
    let [year @ .., b'-', mo1, mo2, b'-', d1, d2] = date else { return None };
    at(digits(year)?, digits(&[*mo1, *mo2])?, digits(&[*d1, *d2])?, clock)
}

/// `07/Feb/2020:11:48:51 +0000`, as in the Common Log Format; HAProxy adds a fraction and leaves the zone out.
pub(in crate::edge) fn clf_time(text: &[u8]) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(11)?;
    let [d1, d2, b'/', mo1, mo2, mo3, b'/', year @ ..] = date else { return None };
    let month = MONTHS.iter().position(|name| **name == [*mo1, *mo2, *mo3])? + 1;
    at(digits(year)?, i64::try_from(month).ok()?, digits(&[*d1, *d2])?, rest.strip_prefix(b":")?)
}

/// `1646861401.5241024`: seconds since the Unix epoch.
pub(in crate::edge) fn epoch_seconds(text: &[u8]) -> Option<Timestamp> {
    Some(Timestamp::from_unix_nanos(0).plus(seconds(text)?))
}

/// `1576280412771`: milliseconds since the Unix epoch.
pub(in crate::edge) fn epoch_millis(text: &[u8]) -> Option<Timestamp> {
    digits(text).map(Timestamp::from_unix_millis)
}

/// A time in whichever of these forms it is written.
pub(in crate::edge) fn any_time(text: &[u8]) -> Option<Timestamp> {
    iso_time(text).or_else(|| clf_time(text)).or_else(|| epoch_seconds(text))
}

/// `0.034`, `12` or `9.3e-4`: a span in seconds, with or without an `s` behind it. Negative (not measured) is `None`.
pub(in crate::edge) fn seconds(text: &[u8]) -> Option<Duration> {
    let text = text.strip_suffix(b"s").unwrap_or(text);
    let (whole, fraction) = text.split_at(text.iter().position(|byte| *byte == b'.').unwrap_or(text.len()));
    match (digits(whole), fraction_nanos(fraction)) {
        (Some(whole), Some(nanos)) => Some(Duration::new(u64::try_from(whole).ok()?, u32::try_from(nanos).ok()?)),
        // A JSON encoder may write a float with an exponent.
        _ => Duration::try_from_secs_f64(std::str::from_utf8(text).ok()?.parse().ok()?).ok(),
    }
}

/// A span in milliseconds. Negative (not measured) is `None`.
pub(in crate::edge) fn millis(text: &[u8]) -> Option<Duration> {
    digits(text).and_then(|value| u64::try_from(value).ok()).map(Duration::from_millis)
}

/// The point that a date and `HH:MM:SS[.fraction][ ][zone]` name.
fn at(year: i64, month: i64, day: i64, clock: &[u8]) -> Option<Timestamp> {
    let [h1, h2, b':', mi1, mi2, b':', s1, s2, rest @ ..] = clock else { return None };
    let (hour, minute, second) = (digits(&[*h1, *h2])?, digits(&[*mi1, *mi2])?, digits(&[*s1, *s2])?);
    if year > 9999 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    let zone = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(zone);
    let [year, month, day] = [year, month, day].map(u32::try_from);
    let seconds = days_from_civil(year.ok()?, month.ok()?, day.ok()?) * 86_400 + hour * 3600 + minute * 60 + second
        - offset(zone)?;
    Some(Timestamp::from_unix_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(fraction_nanos(fraction)?)?))
}

/// How many seconds the zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, h, m) = match zone.strip_prefix(b" ").unwrap_or(zone) {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [*h1, *h2], [*m1, *m2]),
        _ => return None,
    };
    let seconds = digits(&h)? * 3600 + digits(&m)? * 60;
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_every_form_agree_with_the_calendar_library() {
        let check = |found: Option<Timestamp>, expected: &str| {
            assert_eq!(found, Some(expected.parse().expect("a time")), "{expected}");
        };
        check(iso_time(b"2026-05-04T10:00:01.25+02:00"), "2026-05-04T08:00:01.25Z");
        check(iso_time(b"2026-05-04 10:00:01-0330"), "2026-05-04T13:30:01Z");
        check(iso_time(b"2026-05-04T10:00:01"), "2026-05-04T10:00:01Z");
        check(iso_time(b"2026-05-04T10:00:01.1234567Z"), "2026-05-04T10:00:01.1234567Z");
        check(clf_time(b"04/May/2026:10:00:01 +0200"), "2026-05-04T08:00:01Z");
        check(clf_time(b"04/May/2026:10:00:01.655"), "2026-05-04T10:00:01.655Z");
        check(epoch_seconds(b"1777888801.250"), "2026-05-04T10:00:01.25Z");
        check(epoch_millis(b"1777888801250"), "2026-05-04T10:00:01.25Z");
        check(any_time(b"04/May/2026:10:00:01 +0000"), "2026-05-04T10:00:01Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            "2026-05-04",
            "2026-13-04T10:00:01Z",
            "2026-05-04T10:00:01+2",
            "04/Mai/2026:10:00:01",
            "-1",
            "NaN",
        ] {
            assert_eq!(any_time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(iso_time("2026-05-0é10:00:01Z".as_bytes()), None);
    }

    #[test]
    fn spans_keep_their_unit() {
        assert_eq!(seconds(b"0.034"), Some(Duration::from_millis(34)));
        assert_eq!(seconds(b"0.058927s"), Some(Duration::from_micros(58_927)));
        assert_eq!(seconds(b"9.25e-4"), Some(Duration::from_micros(925)));
        assert_eq!(seconds(b"12"), Some(Duration::from_secs(12)));
        assert_eq!(millis(b"226"), Some(Duration::from_millis(226)));
        for text in ["-1", "-0.5", "", "x", "1e300", "inf"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
