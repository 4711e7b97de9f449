//! Durations as people write them in a config: `"500ms"`, `"30s"`, `"24h"`, `"30d"`.
//!
//! Use as `#[serde(with = "crate::config::duration")]` on a [`Duration`] field.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes the largest unit that divides the value exactly.
///
/// # Errors
///
/// Only the serializer's own.
pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = value.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let text = units
        .into_iter()
        .find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit))
        .map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit));
    serializer.serialize_str(&text)
}

/// Reads a number and a unit, in any of the spellings of jiff's friendly format (`1h 30m`, `90 minutes`).
///
/// # Errors
///
/// Says what was written and shows the form expected. Negative durations are refused.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        D::Error::custom(format!("`{text}` is not a duration; write for example \"500ms\", \"30s\", \"6h\" or \"30d\""))
    })
}

/// Reads a number and a unit; `None` for anything else, and for what is negative.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    // jiff refuses days without a calendar; a day here is 24 hours.
    if let Some(days) = text.trim().strip_suffix('d') {
        return Some(Duration::from_secs(days.trim().parse::<u64>().ok()?.checked_mul(86_400)?));
    }
    let span: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(span).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let check = |text: &str, expected: Option<Duration>| assert_eq!(parse(text), expected, "{text}");
        check("500ms", Some(Duration::from_millis(500)));
        check("30s", Some(Duration::from_secs(30)));
        check("6h", Some(Duration::from_secs(6 * 3600)));
        check("1h 30m", Some(Duration::from_secs(5400)));
        check("30d", Some(Duration::from_secs(30 * 86_400)));
        check("-5s", None);
        check("soon", None);
    }
}
