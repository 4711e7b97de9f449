//! Who this machine is to its cloud, and who answers for its workloads. In: the operator's config, and what [`detect`] found on the
//! machine itself. Out: values for the placeholders of the response steps, and an incident's owner. Pure but for [`detect`]; it
//! asks no metadata service: a sensor that watches for those requests should not make them.

pub mod detect;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::incident::Incident;
use crate::incident::exposure::Provider;
use crate::incident::response;
use crate::workload::Workload;

/// What the operator says; everything is optional, and wins over what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Identifier of the machine in its cloud (`i-0abc…`, a VM's name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Account, project or subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Resource group (Azure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Name of the Kubernetes or ECS cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Name of the Kubernetes node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who answers for everything on this machine that `owners` does not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Who answers for a workload: the first that matches counts.
    pub owners: Vec<OwnerRule>,
    /// Values for other placeholders of the response steps, by name: `isolation-sg`, `arn`, `deny-all`, `nic`, …
    pub values: BTreeMap<String, String>,
}

/// Who answers for a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct OwnerRule {
    /// Key of the workload; `*` stands for any letters.
    pub workload: String,
    /// Who.
    pub owner: String,
}

/// The machine, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its cloud, where the machine itself shows it.
    pub platform: Option<Provider>,
    values: BTreeMap<String, String>,
    owner: Option<String>,
    owners: Vec<OwnerRule>,
}

impl Identity {
    /// What the operator said, then what was `found` (placeholder to value).
    #[must_use]
    pub fn new(config: &Config, found: &detect::Found) -> Self {
        let said = [
            ("instance-id", &config.instance),
            ("instance", &config.instance),
            ("region", &config.region),
            ("zone", &config.zone),
            ("account", &config.account),
            ("group", &config.group),
            ("cluster", &config.cluster),
            ("node", &config.node),
        ];
        let mut values = found.values.clone();
        values.extend(said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
        values.extend(config.values.clone());
        Self { platform: found.platform, values, owner: config.owner.clone(), owners: config.owners.clone() }
    }

    /// Fills in what is known of the machine and who answers for the workload.
    pub fn sign(&self, incident: &mut Incident) {
        if !self.values.is_empty() {
            for step in &mut incident.response {
                response::fill(step, &self.values);
            }
        }
        incident.owner = self.owner_of(&incident.workload).or_else(|| incident.owner.take());
    }

    fn owner_of(&self, workload: &Workload) -> Option<String> {
        let named = self.owners.iter().find(|rule| matches(&rule.workload, workload.key.as_str()));
        named.map(|rule| rule.owner.clone()).or_else(|| self.owner.clone())
    }
}

/// Whether `text` is of the form of `pattern`, in which `*` stands for any letters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        let check = |pattern: &str, text: &str, expected: bool| {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}")
        };
        check("unit:shop.service", "unit:shop.service", true);
        check("unit:shop.service", "unit:shop.service2", false);
        check("unit:shop*", "unit:shop-web.service", true);
        check("*", "", true);
        check("pod:*/web", "pod:shop/web", true);
        check("pod:*/web", "pod:shop/website", false);
        check("*shop*web*", "pod:shop/web-0", true);
        check("a*a", "a", false);
        check("", "x", false);
    }

    #[test]
    fn the_operator_wins_over_what_was_found_and_the_first_owner_counts() {
        let text = "instance = \"i-1\"\nowner = \"platform\"\nowners = [{ workload = \"unit:shop*\", owner = \"shop team\" }]\n[values]\nisolation-sg = \"sg-1\"\n";
        let config: Config = toml::from_str(text).expect("reads");
        let found = detect::Found {
            platform: None,
            values: [("instance-id", "i-2"), ("region", "eu-west-1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        };
        let identity = Identity::new(&config, &found);
        let mut incident: Incident =
            serde_json::from_str(include_str!("incident/text/full_chain.json")).expect("reads");
        identity.sign(&mut incident);
        assert_eq!(incident.owner.as_deref(), Some("shop team"));
        let commands: Vec<_> = incident.response.iter().filter_map(|step| step.command.as_deref()).collect();
        let all = commands.join("\n");
        assert!(all.contains("--instance-id i-1") && all.contains("sg-1") && !all.contains("<instance-id>"), "{all}");
        assert!(all.contains("<arn>"), "what nobody knows stays a placeholder: {all}");
        incident.workload.key = crate::workload::WorkloadKey::new("unit:other.service");
        identity.sign(&mut incident);
        assert_eq!(incident.owner.as_deref(), Some("platform"));
    }
}
