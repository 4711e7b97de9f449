//! The steps themselves, platform by platform. In: what is affected. Out: [`ResponseStep`]s.
//!
//! Facts: AWS "Revoke active sessions" (inline policy on `aws:TokenIssueTime`), connection tracking of security groups (a tracked
//! flow survives a change of groups, an untracked one does not), standby in Auto Scaling; Google Cloud tokens cannot be revoked one
//! by one; Azure managed identity tokens live up to 24 hours and are stopped by removing roles; a pod's service account token ends
//! with its pod. All of them are the vendors' documentation's.

use crate::workload::{Runtime, Workload};

use super::super::exposure::{Exposure, Provider};
use super::{Phase, ResponseStep, Status, placeholders, quoted};

/// Policy document of the IAM console's "Revoke active sessions", for a shell's single quotes: the time is that of the revocation.
const DENY_OLDER_SESSIONS: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:TokenIssueTime":"'"$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"}}}]}"#;
/// A policy that denies all traffic of pods with the label that the step before sets.
const QUARANTINE_POLICY: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"quarantine"},"spec":{"podSelector":{"matchLabels":{"quarantine":"true"}},"policyTypes":["Ingress","Egress"]}}"#;

/// A policy that lets pods reach everything but the metadata addresses of machines. Policies add up: where another one limits
/// the egress of the same pods, this one would widen it.
const NO_METADATA_POLICY: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"no-metadata"},"spec":{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["169.254.169.254/32","169.254.169.252/32","168.63.129.16/32"]}},{"ipBlock":{"cidr":"::/0","except":["fd00:ec2::254/128","fd20:ce::254/128"]}}]}]}}"#;

/// Steps as they come; [`Plan::finish`] orders them.
#[derive(Default)]
pub(super) struct Plan(Vec<ResponseStep>);

impl Plan {
    fn add(&mut self, phase: Phase, action: &str, text: &str, command: Option<String>) -> &mut ResponseStep {
        let open = command.as_deref().map(placeholders).unwrap_or_default();
        let (action, text) = (action.to_owned(), text.to_owned());
        let parameters = std::collections::BTreeMap::new();
        self.0.push(ResponseStep { phase, text, command, status: Status::Suggested, action, parameters, open });
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    pub(super) fn finish(mut self) -> Vec<ResponseStep> {
        self.0.sort_by_key(|step| step.phase);
        self.0
    }

    pub(super) fn preserve(&mut self, workload: &Workload, exposures: &[Exposure]) {
        self.add(
            Phase::Preserve,
            "host.processes.save",
            "save the process tree and open sockets before anything is stopped",
            Some("ps -eo pid,ppid,lstart,user,args --forest; ss -tunap".into()),
        );
        let container = workload.container_name.as_deref().or(workload.container_id.as_deref());
        let tool = match workload.runtime {
            Runtime::Docker => Some("docker"),
            Runtime::Podman => Some("podman"),
            _ => None,
        };
        if let (Some(tool), Some(name)) = (tool, container) {
            let command = format!("{tool} diff {0} && {tool} export {0} -o evidence.tar", quoted(name));
            self.add(
                Phase::Preserve,
                "container.files.save",
                "save what changed in the container's files",
                Some(command),
            )
            .know("container", name);
            return;
        }
        let command = match exposures.first().map(|exposure| exposure.provider) {
            Some(Provider::AwsInstance) => {
                Some("aws ec2 create-snapshots --instance-specification InstanceId=<instance-id> --description breach")
            }
            Some(Provider::Gcp) => {
                Some("gcloud compute disks snapshot <instance> --zone <zone> --snapshot-names breach")
            }
            Some(Provider::Azure) => Some("az snapshot create -g <group> -n breach --source <disk>"),
            _ => None,
        };
        self.add(Phase::Preserve, "host.disk.snapshot", "snapshot the disk", command.map(str::to_owned));
    }

    pub(super) fn contain(&mut self, workload: &Workload, exposures: &[Exposure], peers: &[String]) {
        match &workload.pod {
            Some(pod) => self.contain_pod(pod),
            None => self.contain_machine(exposures.first().map_or(Provider::Unknown, |exposure| exposure.provider)),
        }
        if !peers.is_empty() {
            let peers = peers.join(", ");
            let text = format!("block and search everywhere for {peers}");
            self.add(Phase::Contain, "network.peers.block", &text, None).know("peers", &peers);
        }
        if let Some(unit) = workload.unit.as_deref().filter(|_| workload.pod.is_none()) {
            let command = format!("systemctl stop {}", quoted(unit));
            self.add(Phase::Contain, "host.unit.stop", "stop the service", Some(command)).know("unit", unit);
        }
    }

    fn contain_pod(&mut self, pod: &str) {
        let (namespace, name) = namespaced(pod);
        let command =
            format!("kubectl -n {0} label pod {1} app- quarantine=true --overwrite", quoted(namespace), quoted(name));
        self.add(
            Phase::Contain,
            "kubernetes.pod.quarantine",
            "take the pod out of its service (drop the labels that its service selects) but keep it for evidence",
            Some(command),
        )
        .know("namespace", namespace)
        .know("pod", name);
        let command = format!("echo '{QUARANTINE_POLICY}' | kubectl -n {} apply -f -", quoted(namespace));
        self.add(Phase::Contain, "kubernetes.network.deny", "deny all traffic of what is in quarantine", Some(command))
            .know("namespace", namespace);
        self.add(
            Phase::Contain,
            "kubernetes.node.cordon",
            "keep new pods off the node",
            Some("kubectl cordon <node>".into()),
        );
        self.add(
            Phase::Contain,
            "kubernetes.node.drain",
            "move the other pods away once the evidence is saved; a node that an intruder may have left his pod for is replaced",
            Some("kubectl drain <node> --ignore-daemonsets --delete-emptydir-data --pod-selector='quarantine!=true'".into()),
        );
    }

    fn contain_machine(&mut self, provider: Provider) {
        match provider {
            Provider::AwsInstance => self.contain_ec2(),
            Provider::AwsEcsTask | Provider::AwsEksPod => {
                self.add(
                    Phase::Contain,
                    "aws.task.isolate",
                    "isolate the task's network interface (awsvpc) with an empty security group while its state is saved",
                    Some("aws ec2 modify-network-interface-attribute --network-interface-id <task-interface> --groups <isolation-sg>".into()),
                );
                self.add(
                    Phase::Contain,
                    "aws.task.stop",
                    "stop the task once its state is saved; its service starts a clean one",
                    Some("aws ecs stop-task --cluster <cluster> --task <task-id> --reason breach".into()),
                );
            }
            Provider::Gcp => {
                self.add(
                    Phase::Contain,
                    "gcp.firewall.deny",
                    "make a rule that denies everything to what bears the tag, in both directions",
                    Some("gcloud compute firewall-rules create quarantine-in --network <network> --direction INGRESS --action DENY --rules all --priority 0 --target-tags quarantine && gcloud compute firewall-rules create quarantine-out --network <network> --direction EGRESS --action DENY --rules all --priority 0 --target-tags quarantine".into()),
                );
                self.add(
                    Phase::Contain,
                    "gcp.instance.isolate",
                    "put the instance behind that tag",
                    Some("gcloud compute instances add-tags <instance> --zone <zone> --tags quarantine".into()),
                );
            }
            Provider::Azure => {
                self.add(
                    Phase::Contain,
                    "azure.machine.isolate",
                    "attach a deny-all network security group to the machine's interface",
                    Some("az network nic update -g <group> -n <nic> --network-security-group <deny-all>".into()),
                );
            }
            Provider::Unknown => {
                self.add(
                    Phase::Contain,
                    "host.isolate",
                    "take the machine out of the load balancer and isolate it in the network",
                    None,
                );
            }
        }
    }

    fn contain_ec2(&mut self) {
        self.add(
            Phase::Contain,
            "aws.target.deregister",
            "take the instance out of the load balancer",
            Some("aws elbv2 deregister-targets --target-group-arn <arn> --targets Id=<instance-id>".into()),
        );
        self.add(
            Phase::Contain,
            "aws.autoscaling.standby",
            "where a group scales it: set it aside, so that the group neither ends nor counts it",
            Some("aws autoscaling enter-standby --instance-ids <instance-id> --auto-scaling-group-name <autoscaling-group> --no-should-decrement-desired-capacity".into()),
        );
        self.add(
            Phase::Contain,
            "aws.instance.untrack",
            "established tracked connections survive a plain security-group change: attach an allow-all group first (flows become untracked)",
            Some("aws ec2 modify-instance-attribute --instance-id <instance-id> --groups <allow-all-sg>".into()),
        );
        self.add(
            Phase::Contain,
            "aws.instance.isolate",
            "then isolate it with an empty security group",
            Some("aws ec2 modify-instance-attribute --instance-id <instance-id> --groups <isolation-sg>".into()),
        );
    }

    pub(super) fn revoke(&mut self, provider: Provider, named: Option<&str>, workload: &Workload) {
        let role = |unnamed: &str| named.map_or_else(|| format!("<{unnamed}>"), quoted);
        match provider {
            Provider::AwsInstance | Provider::AwsEcsTask | Provider::AwsEksPod => {
                let command = format!(
                    "aws iam put-role-policy --role-name {} --policy-name AWSRevokeOlderSessions --policy-document '{DENY_OLDER_SESSIONS}'",
                    role("role")
                );
                let text = "revoke the role's older sessions; it hits everything that uses the role, so restart clean users afterwards";
                self.add(Phase::Revoke, "aws.role.revoke-sessions", text, Some(command)).know_if("role", named);
                if provider == Provider::AwsInstance && workload.pod.is_none() {
                    let text = "then take the role from this instance: clean ones keep theirs";
                    let command = "aws ec2 disassociate-iam-instance-profile --association-id $(aws ec2 describe-iam-instance-profile-associations --filters Name=instance-id,Values=<instance-id> --query 'IamInstanceProfileAssociations[0].AssociationId' --output text)";
                    self.add(Phase::Revoke, "aws.instance-profile.remove", text, Some(command.into()));
                }
                if provider == Provider::AwsEksPod {
                    let text = "take the pod's association with the role away, and make it anew for the clean pod";
                    let command = "aws eks delete-pod-identity-association --cluster-name <cluster> --association-id <association-id>";
                    self.add(Phase::Revoke, "aws.pod-identity.remove", text, Some(command.into()))
                        .know_if("role", named);
                }
                if workload.pod.is_some() && provider == Provider::AwsInstance {
                    let text = "this is the node's role, reached from a pod: rotate it for the whole node group";
                    self.add(Phase::Revoke, "aws.node-role.rotate", text, None).know_if("role", named);
                }
            }
            Provider::Gcp => {
                let text = "tokens cannot be revoked one by one and live about an hour: disable the account or remove its bindings";
                let command = format!("gcloud iam service-accounts disable {}", role("email"));
                self.add(Phase::Revoke, "gcp.account.disable", text, Some(command)).know_if("email", named);
                let text = "list the account's own keys, and delete those that nobody knows: an intruder with its token can have made one";
                let command =
                    format!("gcloud iam service-accounts keys list --managed-by=user --iam-account {}", role("email"));
                self.add(Phase::Revoke, "gcp.account.keys", text, Some(command)).know_if("email", named);
            }
            Provider::Azure => {
                let text = "tokens live up to 24 hours and cannot be revoked: remove the identity's role assignments";
                let command = "az role assignment delete --assignee <principal-id>".to_owned();
                self.add(Phase::Revoke, "azure.identity.remove-roles", text, Some(command)).know_if("identity", named);
                let text = "make a user-assigned identity anew under another name, and give the roles to that one; secrets in extension settings and custom data are to be changed too";
                self.add(Phase::Revoke, "azure.identity.replace", text, None).know_if("identity", named);
            }
            Provider::Unknown => {
                let text = "revoke or rotate the credential that the metadata service handed out";
                self.add(Phase::Revoke, "credential.rotate", text, None).know_if("role", named);
            }
        }
    }

    pub(super) fn hunt(&mut self, providers: &[Provider], since: &str, named: Option<&str>, workload: &Workload) {
        let who = |unnamed: &str| named.map_or_else(|| format!("<{unnamed}>"), quoted);
        for provider in providers {
            let (action, text, command) = match provider {
                Provider::AwsInstance => (
                    "aws.cloudtrail.search",
                    format!(
                        "search CloudTrail since {since} for this role's session (its name is the instance id) from any address but the instance's (GuardDuty: InstanceCredentialExfiltration)"
                    ),
                    Some(format!(
                        "aws cloudtrail lookup-events --lookup-attributes AttributeKey=Username,AttributeValue=<instance-id> --start-time {since}"
                    )),
                ),
                Provider::AwsEcsTask | Provider::AwsEksPod => (
                    "aws.cloudtrail.search",
                    format!(
                        "search CloudTrail since {since} for this role's sessions from any address but the task's or pod's"
                    ),
                    Some(format!(
                        "aws cloudtrail lookup-events --lookup-attributes AttributeKey=ResourceName,AttributeValue={} --start-time {since}",
                        who("role")
                    )),
                ),
                Provider::Gcp => (
                    "gcp.audit.search",
                    format!(
                        "search the audit logs since {since} for this account with a callerIp that is not the instance's"
                    ),
                    Some(format!(
                        "gcloud logging read 'timestamp>=\"{since}\" AND protoPayload.authenticationInfo.principalEmail:*' --format='value(timestamp,protoPayload.authenticationInfo.principalEmail,protoPayload.requestMetadata.callerIp,protoPayload.methodName)'"
                    )),
                ),
                Provider::Azure => (
                    "azure.signins.search",
                    format!("search sign-ins and the activity log of the managed identity since {since}"),
                    Some(format!("az monitor activity-log list --caller <principal-id> --start-time {since}")),
                ),
                Provider::Unknown => (
                    "cloud.audit.search",
                    format!("search the cloud's audit log since {since} for uses of this machine's credential"),
                    None,
                ),
            };
            self.add(Phase::Hunt, action, &text, command).know("since", since);
        }
        if let Some(pod) = &workload.pod {
            let (namespace, _) = namespaced(pod);
            let text = format!(
                "search the cluster's audit log since {since} for this pod's service account: what it read, above all secrets, and what it made; this lists what it may do"
            );
            let command = format!(
                "kubectl auth can-i --list -n {0} --as system:serviceaccount:{0}:<service-account>",
                quoted(namespace)
            );
            self.add(Phase::Hunt, "kubernetes.audit.search", &text, Some(command))
                .know("namespace", namespace)
                .know("since", since);
        }
    }

    pub(super) fn close(&mut self, workload: &Workload) {
        if let Some(pod) = &workload.pod {
            let (namespace, name) = namespaced(pod);
            let command = format!("kubectl -n {} delete pod {}", quoted(namespace), quoted(name));
            let text = "delete the pod once its state is saved: that ends its service account token";
            self.add(Phase::Revoke, "kubernetes.pod.delete", text, Some(command))
                .know("namespace", namespace)
                .know("pod", name);
        }
        let text =
            "fix the hole that the named request used, and block requests like it at the load balancer until then";
        self.add(Phase::Close, "edge.request.block", text, None);
    }

    pub(super) fn harden_pods(&mut self, pod: &str) {
        let (namespace, _) = namespaced(pod);
        let text = "let no pod of the namespace reach the machine's metadata; where their egress is limited already, make it an exception there instead (policies add up)";
        let command = format!("echo '{NO_METADATA_POLICY}' | kubectl -n {} apply -f -", quoted(namespace));
        self.add(Phase::Harden, "kubernetes.metadata.deny", text, Some(command)).know("namespace", namespace);
    }

    pub(super) fn harden(&mut self, provider: Provider) {
        let (action, text, command) = match provider {
            Provider::AwsInstance => (
                "aws.metadata.require-v2",
                "require IMDSv2 and a hop limit of 1",
                Some(
                    "aws ec2 modify-instance-metadata-options --instance-id <instance-id> --http-tokens required --http-put-response-hop-limit 1",
                ),
            ),
            Provider::AwsEcsTask => (
                "aws.metadata.block",
                "block the instance's metadata address for tasks",
                Some("echo ECS_AWSVPC_BLOCK_IMDS=true >> /etc/ecs/ecs.config"),
            ),
            Provider::AwsEksPod => (
                "aws.metadata.block",
                "keep pods from the node's metadata: IMDSv2 with a hop limit of 1",
                Some(
                    "aws ec2 modify-instance-metadata-options --instance-id <instance-id> --http-tokens required --http-put-response-hop-limit 1",
                ),
            ),
            Provider::Gcp => {
                ("gcp.scopes.narrow", "use Workload Identity and narrow scopes instead of cloud-platform", None)
            }
            Provider::Azure => (
                "azure.wireserver.deny",
                "deny the wire server (168.63.129.16, ports 80 and 32526) to users other than root",
                Some(
                    "iptables -I OUTPUT -d 168.63.129.16 -p tcp -m multiport --dports 80,32526 -m owner ! --uid-owner 0 -j DROP",
                ),
            ),
            Provider::Unknown => {
                ("metadata.deny", "deny the metadata address to everything that does not need it", None)
            }
        };
        self.add(Phase::Harden, action, text, command.map(str::to_owned));
    }
}

impl ResponseStep {
    fn know(&mut self, name: &str, value: &str) -> &mut Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    fn know_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.know(name, value),
            None => self,
        }
    }
}

/// Namespace and name.
fn namespaced(pod: &str) -> (&str, &str) {
    pod.split_once('/').unwrap_or(("default", pod))
}
