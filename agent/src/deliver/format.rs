//! In which schema a record leaves: Breachline's own, OCSF or ECS. In: the record as it was stored. Out: the bytes of one JSON
//! object. The store and the spool keep Breachline's own form, so that a sink's schema can be changed at any time.

mod ecs;
mod ocsf;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::incident::{Incident, Severity};

/// The schema of delivered records.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// The incident record, with everything in it.
    #[default]
    Breachline,
    /// OCSF 1.8 Detection Finding (class 2004).
    Ocsf,
    /// Elastic Common Schema alert.
    Ecs,
}

impl RecordFormat {
    /// The record in this schema. One that does not read as an incident leaves as it is: better strange than lost.
    #[must_use]
    pub fn written(self, record: &[u8]) -> Cow<'_, [u8]> {
        let translate: fn(&Incident) -> Value = match self {
            Self::Breachline => return Cow::Borrowed(record),
            Self::Ocsf => ocsf::finding,
            Self::Ecs => ecs::alert,
        };
        let translated = serde_json::from_slice(record).and_then(|incident| serde_json::to_vec(&translate(&incident)));
        translated.map_or(Cow::Borrowed(record), Cow::Owned)
    }
}

/// An object of what is there: nulls, empty strings, lists and objects are left out.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let there = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| there(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// 0 to 100.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 100 first")]
fn percent(share: f64) -> u64 {
    (share * 100.0).round().clamp(0.0, 100.0) as u64
}

/// Risk as consumers sort by it.
const fn risk(severity: Severity) -> u64 {
    match severity {
        Severity::Low => 21,
        Severity::Medium => 47,
        Severity::High => 73,
        Severity::Critical => 99,
    }
}

/// The tactic that a technique serves in this chain: identifier and name, as of ATT&CK v18.1.
fn tactic(technique: &str) -> (&'static str, &'static str) {
    match technique.split('.').next().unwrap_or(technique) {
        "T1190" => ("TA0001", "Initial Access"),
        "T1059" => ("TA0002", "Execution"),
        "T1552" => ("TA0006", "Credential Access"),
        "T1580" => ("TA0007", "Discovery"),
        "T1620" => ("TA0005", "Defense Evasion"),
        _ => ("TA0011", "Command and Control"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn full_chain() -> Vec<u8> {
        include_bytes!("../incident/text/full_chain.json").to_vec()
    }

    pub(super) fn written(format: RecordFormat) -> Value {
        serde_json::from_slice(&format.written(&full_chain())).expect("json")
    }

    #[test]
    fn our_own_form_is_not_touched_and_rubbish_is_not_lost() {
        assert_eq!(RecordFormat::Breachline.written(&full_chain()), full_chain());
        for format in [RecordFormat::Ocsf, RecordFormat::Ecs] {
            assert_eq!(&*format.written(b"{\"no\":\"incident\"}"), b"{\"no\":\"incident\"}");
            let empty = serde_json::to_vec(&Incident::default()).expect("json");
            assert_ne!(&*format.written(&empty), empty.as_slice(), "{format:?}: an empty incident is one");
        }
    }
}
