//! What to do next, for exactly this platform: ordered, as text and as commands that a machine can read. Suggested, never
//! executed. The order is the field's usual one: preserve, contain, revoke, hunt, close, harden.
//!
//! Facts: AWS "Revoke active sessions" (inline policy on `aws:TokenIssueTime`) and connection tracking of security groups; Google
//! Cloud tokens cannot be revoked one by one; Azure managed identity tokens live up to 24 hours and are stopped by removing roles.

use serde::{Deserialize, Serialize};

use crate::workload::{Runtime, Workload};

use super::exposure::{Exposure, Provider};

/// Policy document of the IAM console's "Revoke active sessions".
const DENY_OLDER_SESSIONS: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"<now>"}}}]}"#;

/// What a step is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Keep what will be gone.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let mut plan = Plan(Vec::new());
    plan.preserve(workload);
    plan.contain(workload, exposures, peers);
    let mut providers: Vec<Provider> = exposures.iter().map(|exposure| exposure.provider).collect();
    providers.sort_unstable();
    providers.dedup();
    for provider in &providers {
        let named = exposures.iter().filter(|exposure| exposure.provider == *provider).find_map(|e| e.role.as_deref());
        plan.revoke(*provider, named, workload);
    }
    if let Some(since) = exposures.iter().map(|exposure| exposure.since).min() {
        plan.hunt(&providers, &since.to_string());
    }
    plan.add(
        Phase::Close,
        "fix the hole that the named request used, and block requests like it at the load balancer until then",
        None,
    );
    providers.iter().for_each(|provider| plan.harden(*provider));
    plan.0.sort_by_key(|step| step.phase);
    plan.0
}

struct Plan(Vec<ResponseStep>);

impl Plan {
    fn add(&mut self, phase: Phase, text: &str, command: Option<String>) {
        self.0.push(ResponseStep { phase, text: text.to_owned(), command, status: Status::Suggested });
    }

    fn preserve(&mut self, workload: &Workload) {
        self.add(
            Phase::Preserve,
            "save the process tree and open sockets before anything is stopped",
            Some("ps -eo pid,ppid,lstart,user,args --forest; ss -tunap".into()),
        );
        let container = workload.container_name.as_deref().or(workload.container_id.as_deref());
        match (workload.runtime, container) {
            (Runtime::Docker, Some(name)) => self.add(
                Phase::Preserve,
                "save what changed in the container's files",
                Some(format!("docker diff {0} && docker export {0} -o evidence.tar", quoted(name))),
            ),
            (Runtime::Podman, Some(name)) => self.add(
                Phase::Preserve,
                "save what changed in the container's files",
                Some(format!("podman diff {0} && podman export {0} -o evidence.tar", quoted(name))),
            ),
            _ => self.add(Phase::Preserve, "snapshot the disk", None),
        }
    }

    fn contain(&mut self, workload: &Workload, exposures: &[Exposure], peers: &[String]) {
        if let Some(pod) = &workload.pod {
            let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
            let (namespace, name) = (quoted(namespace), quoted(name));
            self.add(
                Phase::Contain,
                "take the pod out of its service but keep it for evidence, and deny its traffic (a NetworkPolicy selecting this label must exist)",
                Some(format!("kubectl -n {namespace} label pod {name} app- quarantine=true --overwrite")),
            );
            self.add(Phase::Contain, "keep new pods off the node", Some("kubectl cordon <node>".into()));
            return;
        }
        let provider = exposures.first().map_or(Provider::Unknown, |exposure| exposure.provider);
        match provider {
            Provider::AwsInstance => {
                self.add(
                    Phase::Contain,
                    "take the instance out of the load balancer",
                    Some("aws elbv2 deregister-targets --target-group-arn <arn> --targets Id=<instance-id>".into()),
                );
                self.add(
                    Phase::Contain,
                    "isolate it: established tracked connections survive a plain security-group change, so attach an allow-all group first (flows become untracked), then an empty one",
                    Some("aws ec2 modify-instance-attribute --instance-id <instance-id> --groups <isolation-sg>".into()),
                );
            }
            Provider::AwsEcsTask | Provider::AwsEksPod => self.add(
                Phase::Contain,
                "stop the task once its state is saved; its service starts a clean one",
                Some("aws ecs stop-task --cluster <cluster> --task <task-id> --reason breach".into()),
            ),
            Provider::Gcp => self.add(
                Phase::Contain,
                "put the instance behind a deny-all firewall tag",
                Some("gcloud compute instances add-tags <instance> --zone <zone> --tags quarantine".into()),
            ),
            Provider::Azure => self.add(
                Phase::Contain,
                "attach a deny-all network security group to the machine's interface",
                Some("az network nic update -g <group> -n <nic> --network-security-group <deny-all>".into()),
            ),
            Provider::Unknown => self.add(
                Phase::Contain,
                "take the machine out of the load balancer and isolate it in the network",
                None,
            ),
        }
        if !peers.is_empty() {
            self.add(Phase::Contain, &format!("block and search everywhere for {}", peers.join(", ")), None);
        }
        if let Some(unit) = &workload.unit {
            self.add(Phase::Contain, "stop the service", Some(format!("systemctl stop {}", quoted(unit))));
        }
    }

    fn revoke(&mut self, provider: Provider, named: Option<&str>, workload: &Workload) {
        match provider {
            Provider::AwsInstance | Provider::AwsEcsTask | Provider::AwsEksPod => {
                self.add(
                    Phase::Revoke,
                    "revoke the role's older sessions; it hits everything that uses the role, so restart clean users afterwards",
                    Some(format!(
                        "aws iam put-role-policy --role-name {} --policy-name AWSRevokeOlderSessions --policy-document '{DENY_OLDER_SESSIONS}'",
                        named.map_or_else(|| "<role>".into(), quoted)
                    )),
                );
                if workload.pod.is_some() && provider == Provider::AwsInstance {
                    self.add(Phase::Revoke, "this is the node's role, reached from a pod: rotate it for the whole node group", None);
                }
            }
            Provider::Gcp => self.add(
                Phase::Revoke,
                "tokens cannot be revoked one by one and live about an hour: disable the account or remove its bindings",
                Some(format!("gcloud iam service-accounts disable {}", named.map_or_else(|| "<email>".into(), quoted))),
            ),
            Provider::Azure => self.add(
                Phase::Revoke,
                "tokens live up to 24 hours and cannot be revoked: remove the identity's role assignments",
                Some("az role assignment delete --assignee <principal-id>".into()),
            ),
            Provider::Unknown => self.add(Phase::Revoke, "revoke or rotate the credential that the metadata service handed out", None),
        }
        if workload.pod.is_some() {
            self.add(
                Phase::Revoke,
                "delete the pod once its state is saved: that ends its service account token",
                None,
            );
        }
    }

    fn hunt(&mut self, providers: &[Provider], since: &str) {
        for provider in providers {
            let text = match provider {
                Provider::AwsInstance | Provider::AwsEcsTask | Provider::AwsEksPod => format!(
                    "search CloudTrail since {since} for this role's session from any address but the instance's (GuardDuty: InstanceCredentialExfiltration)"
                ),
                Provider::Gcp => format!(
                    "search the audit logs since {since} for this account with a callerIp that is not the instance's"
                ),
                Provider::Azure => {
                    format!("search sign-ins and the activity log of the managed identity since {since}")
                }
                Provider::Unknown => {
                    format!("search the cloud's audit log since {since} for uses of this machine's credential")
                }
            };
            self.add(Phase::Hunt, &text, None);
        }
    }

    fn harden(&mut self, provider: Provider) {
        match provider {
            Provider::AwsInstance => self.add(
                Phase::Harden,
                "require IMDSv2 and a hop limit of 1",
                Some("aws ec2 modify-instance-metadata-options --instance-id <instance-id> --http-tokens required --http-put-response-hop-limit 1".into()),
            ),
            Provider::AwsEcsTask | Provider::AwsEksPod => {
                self.add(Phase::Harden, "block the instance metadata address for tasks and pods", None);
            }
            Provider::Gcp => self.add(Phase::Harden, "use Workload Identity and narrow scopes instead of cloud-platform", None),
            Provider::Azure => self.add(Phase::Harden, "deny the wire server (168.63.129.16, ports 80 and 32526) to users other than root", None),
            Provider::Unknown => self.add(Phase::Harden, "deny the metadata address to everything that does not need it", None),
        }
    }
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
        check(plain(), &[exposure(Provider::AwsInstance, Some("shop"))], &["--role-name shop ", "deregister-targets"]);
        check(plain(), &[exposure(Provider::AwsEcsTask, None)], &["--role-name <role>", "ecs stop-task"]);
        check(plain(), &[exposure(Provider::Gcp, Some("a@p.iam"))], &["service-accounts disable a@p.iam", "add-tags"]);
        check(plain(), &[exposure(Provider::Azure, None)], &["role assignment delete", "nic update"]);
        check(pod(), &[exposure(Provider::AwsEksPod, None)], &["kubectl -n shop label pod web-0", "cordon"]);
        check(docker("web"), &[], &["docker diff web"]);
        check(docker("a; reboot 'now'"), &[], &[r"docker diff 'a; reboot '\''now'\'''"]);
    }
}
