//! Credentials that an intruder can now have: which, how they were asked for, since when.
//!
//! Names and lifetimes are the vendors' documentation's (AWS IAM and EKS Pod Identity user guides, Google Cloud metadata server,
//! Azure managed identities).

use serde::{Deserialize, Serialize};

use crate::event::{MetadataPath, ProcessKey};
use crate::evidence::{HostEvidence, HostFinding};
use crate::timestamp::Timestamp;

/// Most exposures listed: a host has a handful of endpoints, a probing intruder may name endless roles.
pub const EXPOSURES_MAX: usize = 16;

/// Who hands out the credential; decides the response.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// EC2 instance profile (also a node's role reached from a pod).
    AwsInstance,
    /// ECS task role.
    AwsEcsTask,
    /// EKS Pod Identity.
    AwsEksPod,
    /// Google Cloud service account.
    Gcp,
    /// Azure managed identity, or the settings that the wire server holds.
    Azure,
    /// 169.254.169.254 of a cloud that nothing has told apart, or a smaller one.
    Unknown,
}

/// One credential exposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    /// Who hands it out.
    pub provider: Provider,
    /// What it is, as a responder would search for it.
    pub credential: String,
    /// Role or account named in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How it was asked for.
    pub how: String,
    /// First time that it was asked for: the start of the hunt for its use.
    pub since: Timestamp,
    /// The process that asked.
    pub process: Option<ProcessKey>,
    /// The credential itself was asked for, not only its name or the endpoint.
    pub requested: bool,
}

impl Provider {
    /// From the endpoint's service name, and from what the request shows where clouds share an address: only AWS (and clouds
    /// that copy it) hands out session tokens. `configured` is the operator's word and decides the shared address.
    #[must_use]
    pub fn of(service: &str, token: Option<bool>, path: MetadataPath, configured: Option<Self>) -> Self {
        match service {
            "aws_imds" => Self::AwsInstance,
            "aws_ecs" => Self::AwsEcsTask,
            "aws_eks_pod_identity" => Self::AwsEksPod,
            "gcp_metadata" | "gke_metadata" => Self::Gcp,
            "azure_wireserver" => Self::Azure,
            _ => configured.unwrap_or(match (token, path) {
                (Some(true), _) | (_, MetadataPath::Session) => Self::AwsInstance,
                _ => Self::Unknown,
            }),
        }
    }
}

/// The exposures that `findings` amount to: one for each provider and role, the strongest request for it, the earliest time.
#[must_use]
pub fn exposures<'f>(
    findings: impl IntoIterator<Item = &'f HostEvidence>,
    configured: Option<Provider>,
) -> Vec<Exposure> {
    let asked: Vec<(&HostEvidence, Asked<'_>)> =
        findings.into_iter().filter_map(|finding| Some((finding, Asked::of(finding, configured)?))).collect();
    // A session's token tells the cloud; what the same chain asks at that address is the same cloud's.
    let known = asked.iter().map(|(_, asked)| asked.provider).find(|provider| *provider != Provider::Unknown);
    let mut exposures: Vec<Exposure> = Vec::new();
    for (finding, mut asked) in asked {
        if asked.provider == Provider::Unknown {
            asked.provider = known.unwrap_or(Provider::Unknown);
        }
        let exposure = asked.exposure(finding);
        let same = exposures.iter().position(|known| known.provider == exposure.provider && asked.same(known));
        if let Some(known) = same.and_then(|at| exposures.get_mut(at)) {
            let since = known.since.min(exposure.since);
            if exposure.requested && (!known.requested || asked.role.is_some()) {
                *known = exposure;
            }
            known.since = since;
        } else if exposures.len() < EXPOSURES_MAX {
            exposures.push(exposure);
        }
    }
    exposures
}

#[derive(Copy, Clone)]
struct Asked<'f> {
    provider: Provider,
    path: MetadataPath,
    role: Option<&'f str>,
    token: Option<bool>,
}

impl<'f> Asked<'f> {
    fn of(evidence: &'f HostEvidence, configured: Option<Provider>) -> Option<Self> {
        let HostFinding::Metadata { service, path, role, token, .. } = &evidence.finding else { return None };
        (*path != MetadataPath::Benign).then(|| Self {
            provider: Provider::of(service, *token, *path, configured),
            path: *path,
            role: role.as_deref(),
            token: *token,
        })
    }

    /// A request without a role is part of the same asking as one with it.
    fn same(&self, known: &Exposure) -> bool {
        self.role.is_none() || known.role.is_none() || self.role == known.role.as_deref()
    }

    fn exposure(&self, evidence: &HostEvidence) -> Exposure {
        Exposure {
            provider: self.provider,
            credential: self.credential(evidence),
            role: self.role.map(str::to_owned),
            how: self.how(evidence.status),
            since: evidence.at,
            process: evidence.place.process().map(|node| node.process),
            requested: matches!(self.path, MetadataPath::Credential | MetadataPath::UserData),
        }
    }

    fn credential(&self, evidence: &HostEvidence) -> String {
        if self.path == MetadataPath::UserData {
            return "user data and start-up scripts of this instance, with every secret written into them".into();
        }
        let named = |what: &str, unnamed: &str| match self.role {
            Some(role) => format!("{what} `{role}`"),
            None => unnamed.to_owned(),
        };
        match self.provider {
            Provider::AwsInstance => {
                named("instance role", "the instance role (CloudTrail: assumed-role/<role>/<instance id>)")
            }
            Provider::AwsEcsTask => {
                named("ECS task role", "the ECS task role (CloudTrail: assumed-role/<task role>/<task id>)")
            }
            Provider::AwsEksPod => match &evidence.place.workload.pod {
                Some(pod) => format!("the Pod Identity role of pod `{pod}` (session name eks-<cluster>-<pod>-…)"),
                None => "the Pod Identity role of this pod (session name eks-<cluster>-<pod>-…)".into(),
            },
            Provider::Gcp => named("service account", "the attached service account (token lives about an hour)"),
            Provider::Azure => named("managed identity", "the managed identity or extension settings of this machine"),
            Provider::Unknown => named("role or account", "the machine's metadata credential"),
        }
    }

    fn how(&self, status: Option<u16>) -> String {
        let what = match self.path {
            MetadataPath::Credential => "the credential itself was requested",
            MetadataPath::Recon => "the list of credentials was requested",
            MetadataPath::Session => "a session token was requested",
            MetadataPath::UserData => "user data was requested",
            MetadataPath::Benign | MetadataPath::Unknown => "the endpoint was contacted; the request was not seen",
        };
        let version = match (self.provider, self.token) {
            (Provider::AwsInstance | Provider::Unknown, Some(true)) => " with a session token (IMDSv2)",
            (Provider::AwsInstance, Some(false)) => " without a session token (IMDSv1)",
            _ => "",
        };
        let answer = match status {
            Some(status @ 200..=299) => format!(", and answered ({status})"),
            Some(status) => format!(", and not handed out ({status})"),
            None => String::new(),
        };
        format!("{what}{version}{answer}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_clouds_share_is_told_apart_by_the_request() {
        let check = |service: &str, token: Option<bool>, configured: Option<Provider>, expected: Provider| {
            assert_eq!(
                Provider::of(service, token, MetadataPath::Credential, configured),
                expected,
                "{service} {token:?}"
            );
        };
        check("instance_metadata", Some(true), None, Provider::AwsInstance);
        check("instance_metadata", None, None, Provider::Unknown);
        check("instance_metadata", None, Some(Provider::Azure), Provider::Azure);
        check("aws_ecs", None, Some(Provider::Azure), Provider::AwsEcsTask);
        check("gke_metadata", None, None, Provider::Gcp);
    }
}
