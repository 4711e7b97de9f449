//! The status for Prometheus. In: a [`Status`]. Out: its numbers in the text exposition format 0.0.4. Names of workloads and lines
//! stay out of it: whoever may scrape need not know them.

use std::fmt::Write as _;

use super::Status;

/// Every counter as `breachline_<stage>_<counter>`, each sense's state, how many troubles there are and when the agent started.
///
/// Counters keep the names that `breachline status` shows; they are untyped, since some of them are sizes.
#[must_use]
pub fn metrics(status: &Status) -> String {
    let mut out = String::new();
    let mut single = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "# TYPE breachline_{name} untyped\nbreachline_{name} {value}");
    };
    single("start_time_seconds", &(status.started.as_unix_nanos() / 1_000_000_000));
    single("troubles", &status.troubles.len());
    single("workloads_learning", &status.learning.len());
    for (name, value) in &status.counters {
        single(&metric_name(name), value);
    }
    if !status.senses.is_empty() {
        out.push_str("# HELP breachline_sense 1 for the state that the sense is in.\n# TYPE breachline_sense gauge\n");
    }
    for sense in &status.senses {
        let _ = writeln!(out, "breachline_sense{{sense=\"{}\",state=\"{}\"}} 1", sense.sense, sense.state);
    }
    if status.senses.iter().any(|sense| sense.proven.is_some()) {
        out.push_str(
            "# HELP breachline_sense_proven_timestamp_seconds When the self-check last saw the sense work.\n\
             # TYPE breachline_sense_proven_timestamp_seconds gauge\n",
        );
    }
    for (sense, at) in status.senses.iter().filter_map(|sense| Some((&sense.sense, sense.proven?))) {
        let seconds = at.as_unix_nanos() / 1_000_000_000;
        let _ = writeln!(out, "breachline_sense_proven_timestamp_seconds{{sense=\"{sense}\"}} {seconds}");
    }
    out
}

/// `deliver.http.sent` as `deliver_http_sent`; whatever is no letter, digit or `_` is one.
fn metric_name(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::SenseStatus;
    use crate::timestamp::Timestamp;

    #[test]
    fn every_counter_is_a_sample() {
        let mut status = Status::starting(Timestamp::from_unix_millis(7500));
        status.counters.insert("deliver.http.sent-ok".to_owned(), 3);
        status.unread_lines.push("secret".to_owned());
        let proven = Some(Timestamp::from_unix_millis(9500));
        let (sense, state) = ("exec".to_owned(), "active".to_owned());
        status.senses.push(SenseStatus { sense, state, proven, ..SenseStatus::default() });
        let text = metrics(&status);
        for expected in [
            "breachline_start_time_seconds 7\n",
            "breachline_troubles 0\n",
            "# TYPE breachline_deliver_http_sent_ok untyped\nbreachline_deliver_http_sent_ok 3\n",
            "breachline_sense{sense=\"exec\",state=\"active\"} 1\n",
            "breachline_sense_proven_timestamp_seconds{sense=\"exec\"} 9\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("secret"));
    }
}
