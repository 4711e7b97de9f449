//! What to do next, for exactly this platform: ordered, as text and as commands that a machine can read. Suggested, never
//! executed. The order is the field's usual one: preserve, contain, revoke, hunt, close, harden.
//!
//! In: workload, exposures, peers; later, in [`fill`], what is known of the machine. What nobody knows stays a placeholder in angle
//! brackets, and is named in [`ResponseStep::open`].

mod plan;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::workload::Workload;

use super::exposure::{Exposure, Provider};
use plan::Plan;

/// What a step is for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Keep what will be gone.
    #[default]
    Preserve,
    /// Stop the spread.
    Contain,
    /// Make what was taken worthless.
    Revoke,
    /// Find what was done with it.
    Hunt,
    /// Shut the way in.
    Close,
    /// Make it not work again.
    Harden,
}

/// One step. Always a suggestion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseStep {
    /// What it is for.
    pub phase: Phase,
    /// What to do and why, one sentence.
    pub text: String,
    /// The command, where one does it; words in angle brackets are for the responder to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Always `suggested`: nothing here was executed.
    pub status: Status,
    /// Stable name of what is to be done, for playbooks: `aws.instance.isolate`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// What is known of the things it concerns: instance, role, pod, unit, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Placeholders of the command that nobody could fill in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<String>,
}

/// State of a step.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Suggested, not executed.
    #[default]
    Suggested,
}

/// The steps for an incident on `workload` with these `exposures`; `peers` are the external addresses contacted.
#[must_use]
pub fn steps(workload: &Workload, exposures: &[Exposure], peers: &[String]) -> Vec<ResponseStep> {
    let mut plan = Plan::default();
    plan.preserve(workload, exposures);
    plan.contain(workload, exposures, peers);
    let mut providers: Vec<Provider> = exposures.iter().map(|exposure| exposure.provider).collect();
    providers.sort_unstable();
    providers.dedup();
    for provider in &providers {
        let named = exposures.iter().filter(|exposure| exposure.provider == *provider).find_map(|e| e.role.as_deref());
        plan.revoke(*provider, named, workload);
    }
    if let Some(since) = exposures.iter().map(|exposure| exposure.since).min() {
        let named = exposures.iter().find_map(|exposure| exposure.role.as_deref());
        plan.hunt(&providers, &since.to_string(), named, workload);
    }
    plan.close(workload);
    if let Some(pod) = workload.pod.as_deref().filter(|_| !exposures.is_empty()) {
        plan.harden_pods(pod);
    }
    providers.iter().for_each(|provider| plan.harden(*provider));
    plan.finish()
}

/// Fills in placeholders: `values` has them by name. A value is quoted where it is not one plain word.
pub fn fill(step: &mut ResponseStep, values: &BTreeMap<String, String>) {
    let Some(command) = &mut step.command else { return };
    for name in placeholders(command) {
        if let Some(value) = values.get(&name) {
            *command = command.replace(&format!("<{name}>"), &quoted(value));
            step.parameters.insert(name, value.clone());
        }
    }
    step.open = placeholders(command);
}

/// Names in angle brackets, in order, each once. A redirection (`< file`) or a here-document is none.
fn placeholders(command: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in command.split('<').skip(1) {
        let Some((name, _)) = part.split_once('>') else { continue };
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if plain && names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// One shell word: names come from container runtimes and pods, and a responder will paste this.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:@/".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Incident;
    use super::*;
    use crate::timestamp::Timestamp;
    use crate::workload::Runtime;

    fn exposure(provider: Provider, role: Option<&str>) -> Exposure {
        Exposure {
            provider,
            credential: String::new(),
            role: role.map(str::to_owned),
            how: String::new(),
            since: Timestamp::default(),
            process: None,
            requested: true,
        }
    }

    #[test]
    fn every_platform_has_its_own_way() {
        let check = |workload: Workload, exposures: &[Exposure], expected: &[&str]| {
            let steps = steps(&workload, exposures, &["203.0.113.7:80".into()]);
            assert!(steps.is_sorted_by_key(|step| step.phase));
            let commands: Vec<_> = steps.iter().filter_map(|step| step.command.as_deref()).collect();
            for words in expected {
                assert!(commands.iter().any(|command| command.contains(words)), "{words} not in {commands:#?}");
            }
        };
        let plain = || Incident::default().workload;
        let pod = || Workload { pod: Some(Arc::from("shop/web-0")), ..plain() };
        let docker =
            |name: &str| Workload { runtime: Runtime::Docker, container_name: Some(Arc::from(name)), ..plain() };
        check(
            plain(),
            &[exposure(Provider::AwsInstance, Some("shop"))],
            &[
                "--role-name shop ",
                "deregister-targets",
                "enter-standby",
                "disassociate-iam-instance-profile",
                "AttributeValue=<instance-id>",
            ],
        );
        check(plain(), &[exposure(Provider::AwsEcsTask, None)], &["--role-name <role>", "ecs stop-task"]);
        check(plain(), &[exposure(Provider::Gcp, Some("a@p.iam"))], &["service-accounts disable a@p.iam", "add-tags"]);
        check(plain(), &[exposure(Provider::Azure, None)], &["role assignment delete", "nic update"]);
        check(
            pod(),
            &[exposure(Provider::AwsEksPod, None)],
            &[
                "kubectl -n shop label pod web-0",
                "cordon",
                "kubectl drain <node>",
                "kubectl -n shop delete pod web-0",
                "delete-pod-identity-association",
                "system:serviceaccount:shop:",
                "169.254.169.254/32",
            ],
        );
        check(docker("web"), &[], &["docker diff web"]);
        check(docker("a; reboot 'now'"), &[], &[r"docker diff 'a; reboot '\''now'\'''"]);
    }

    #[test]
    fn what_is_known_is_filled_in_and_the_rest_is_named() {
        let steps = steps(&Incident::default().workload, &[exposure(Provider::AwsInstance, Some("shop"))], &[]);
        let mut isolate = steps.iter().find(|step| step.action == "aws.instance.isolate").expect("isolate").clone();
        assert_eq!(isolate.open, ["instance-id", "isolation-sg"]);
        let values = [("instance-id", "i-1; reboot"), ("zone", "b")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        fill(&mut isolate, &values.into());
        assert_eq!(isolate.open, ["isolation-sg"]);
        assert_eq!(isolate.parameters.get("instance-id").map(String::as_str), Some("i-1; reboot"));
        assert!(isolate.command.as_ref().expect("command").contains("--instance-id 'i-1; reboot' "), "{isolate:?}");
        let revoke = steps.iter().find(|step| step.action == "aws.role.revoke-sessions").expect("revoke");
        assert_eq!(revoke.parameters.get("role").map(String::as_str), Some("shop"));
        assert!(revoke.open.is_empty(), "{:?}", revoke.open);
        assert!(steps.iter().all(|step| !step.action.is_empty() && step.status == Status::Suggested));
    }
}
