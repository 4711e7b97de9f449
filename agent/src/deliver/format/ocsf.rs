//! OCSF 1.8.0 Detection Finding, class 2004 (schema.ocsf.io/1.8.0/classes/detection_finding). A later revision is activity 2
//! (update) under the same `finding_info.uid`; a superseded one is activity 3 (close).

use serde_json::{Value, json};

use super::{object, percent, risk, tactic};
use crate::event::Protocol;
use crate::evidence::{HostFinding, ProcessNode};
use crate::incident::exposure::Provider;
use crate::incident::{Candidate, Incident, Severity, Step, StepEvidence};
use crate::request::{Request, Target};
use crate::timestamp::Timestamp;
use crate::workload::Workload;

/// Version of the schema.
const VERSION: &str = "1.8.0";
/// Version of ATT&CK that technique identifiers are of.
const ATTACK_VERSION: &str = "18.1";

/// The incident as a finding.
pub(super) fn finding(incident: &Incident) -> Value {
    let (activity, activity_name) = match (&incident.superseded_by, incident.revision) {
        (Some(_), _) => (3, "Close"),
        (None, 1) => (1, "Create"),
        (None, _) => (2, "Update"),
    };
    let (severity, severity_name) = severity(incident.severity);
    let (confidence, confidence_name) = confidence(incident.confidence);
    object([
        ("activity_id", json!(activity)),
        ("activity_name", json!(activity_name)),
        ("category_uid", json!(2)),
        ("category_name", json!("Findings")),
        ("class_uid", json!(2004)),
        ("class_name", json!("Detection Finding")),
        ("type_uid", json!(200_400 + activity)),
        ("type_name", json!(format!("Detection Finding: {activity_name}"))),
        ("time", millis(incident.last_seen)),
        ("start_time", millis(incident.first_seen)),
        ("end_time", millis(incident.last_seen)),
        ("severity_id", json!(severity)),
        ("severity", json!(severity_name)),
        ("confidence_id", json!(confidence)),
        ("confidence", json!(confidence_name)),
        ("confidence_score", json!(percent(incident.confidence))),
        ("risk_level_id", json!(severity - 1)),
        ("risk_level", json!(severity_name)),
        ("risk_score", json!(risk(incident.severity))),
        ("status_id", json!(if incident.expected.is_some() { 3 } else { 1 })),
        ("is_alert", json!(true)),
        ("action_id", json!(1)),
        ("action", json!("Allowed")),
        ("disposition_id", json!(15)),
        ("disposition", json!("Detected")),
        ("message", json!(incident.title)),
        ("count", json!(incident.timeline.len().max(1))),
        ("metadata", metadata(incident)),
        ("finding_info", info(incident)),
        ("evidences", evidences(incident)),
        ("resources", resources(incident)),
        ("observables", observables(incident)),
        ("remediation", remediation(incident)),
        ("unmapped", object([("missing", json!(incident.missing)), ("provisional", json!(incident.provisional))])),
    ])
}

fn millis(at: Timestamp) -> Value {
    json!(at.as_unix_nanos().div_euclid(1_000_000))
}

const fn severity(severity: Severity) -> (u64, &'static str) {
    match severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    }
}

fn confidence(confidence: f64) -> (u64, &'static str) {
    match confidence {
        0.8.. => (3, "High"),
        0.5.. => (2, "Medium"),
        _ => (1, "Low"),
    }
}

fn metadata(incident: &Incident) -> Value {
    object([
        ("version", json!(VERSION)),
        ("uid", json!(format!("{}/{}", incident.id, incident.revision))),
        ("correlation_uid", json!(incident.id)),
        ("profiles", json!(["security_control"])),
        ("product", json!({"name": "Breachline", "vendor_name": "Breachline", "version": env!("CARGO_PKG_VERSION")})),
    ])
}

fn info(incident: &Incident) -> Value {
    let attacks = incident.techniques.iter().map(|technique| {
        let (id, name) = tactic(&technique.id);
        let parent = technique.id.split('.').next().unwrap_or_default();
        let named = json!({"uid": technique.id, "name": technique.name});
        // Only the sub-technique's own name is at hand; its parent goes by identifier.
        let (technique, sub) =
            if parent == technique.id { (named, Value::Null) } else { (json!({"uid": parent}), named) };
        object([
            ("version", json!(ATTACK_VERSION)),
            ("tactic", json!({"uid": id, "name": name})),
            ("technique", technique),
            ("sub_technique", sub),
        ])
    });
    object([
        ("uid", json!(incident.id)),
        ("title", json!(incident.title)),
        ("types", json!(["AN0223"])),
        ("first_seen_time", millis(incident.first_seen)),
        ("last_seen_time", millis(incident.last_seen)),
        ("modified_time", if incident.revision > 1 { millis(incident.last_seen) } else { Value::Null }),
        ("attacks", attacks.collect()),
        (
            "analytic",
            json!({"uid": "AN0223", "name": "Exploit Public-Facing Application", "type_id": 2, "type": "Behavioral", "category": "DET0080"}),
        ),
    ])
}

fn evidences(incident: &Incident) -> Value {
    let candidate =
        |request: &Request| incident.candidates.ranked.iter().find(|candidate| candidate.request == *request);
    let evidence = |step: &Step| match &step.evidence {
        StepEvidence::Request { request, .. } => request_evidence(step, request, candidate(request)),
        StepEvidence::Host { finding, process, .. } => {
            let endpoint = match finding {
                HostFinding::Metadata { endpoint, service, .. } => {
                    json!({"ip": endpoint.ip(), "port": endpoint.port(), "svc_name": service})
                }
                _ => Value::Null,
            };
            let connection = if endpoint.is_null() { Value::Null } else { connection(Protocol::Tcp, 2) };
            object([
                ("name", json!(step.technique.name)),
                ("process", process_tree(incident, process.as_ref())),
                ("container", container(&incident.workload)),
                ("dst_endpoint", endpoint),
                ("connection_info", connection),
                ("data", json!({"reason": step.reason})),
            ])
        }
        StepEvidence::Peer { peer, protocol, name, process, .. } => {
            let endpoint = [("ip", json!(peer.ip())), ("port", json!(peer.port())), ("hostname", json!(name))];
            object([
                ("name", json!(step.technique.name)),
                ("process", process_tree(incident, process.as_ref())),
                ("dst_endpoint", object(endpoint)),
                ("connection_info", connection(*protocol, 3)),
                ("data", json!({"reason": step.reason})),
            ])
        }
    };
    incident.timeline.iter().map(evidence).collect()
}

/// Outbound; `boundary` is 2 (internal) or 3 (external).
fn connection(protocol: Protocol, boundary: u8) -> Value {
    let (number, name) = match protocol {
        Protocol::Tcp => (6, "tcp"),
        Protocol::Udp => (17, "udp"),
        Protocol::Other(number) => (number, ""),
    };
    object([
        ("direction_id", json!(2)),
        ("boundary_id", json!(boundary)),
        ("protocol_num", json!(number)),
        ("protocol_name", json!(name)),
    ])
}

fn request_evidence(step: &Step, request: &Request, candidate: Option<&Candidate>) -> Value {
    let target = match request.target {
        Target::Socket(socket) => {
            json!({"ip": socket.ip(), "port": socket.port(), "svc_name": request.balancer})
        }
        Target::Address(address) => json!({"ip": address, "svc_name": request.balancer}),
        Target::Lambda | Target::None | Target::Unlogged => json!({"svc_name": request.balancer}),
    };
    let source = request.client.map_or(Value::Null, |client| json!({"ip": client.ip(), "port": client.port()}));
    let code = request.target_status.or(request.status);
    let http = [
        ("http_method", json!(request.method)),
        ("user_agent", json!(request.user_agent)),
        ("url", json!({"url_string": request.url})),
    ];
    let join = candidate.map_or(Value::Null, |candidate| json!(candidate.join));
    object([
        ("name", json!("edge request")),
        ("src_endpoint", source),
        ("dst_endpoint", target),
        ("http_request", object(http)),
        ("http_response", code.map_or(Value::Null, |code| json!({"code": code}))),
        ("data", object([("reason", json!(step.reason)), ("trace_id", json!(request.trace_id)), ("join", join)])),
    ])
}

/// A process with its parents nested, as far as the record's tree goes.
fn process_tree(incident: &Incident, process: Option<&ProcessNode>) -> Value {
    let Some(own) = process else { return Value::Null };
    let nodes = &incident.processes.nodes;
    let mut lineage = vec![own];
    let mut at = nodes.iter().position(|node| node.process.process == own.process);
    // Parents come before children, so this climbs and ends.
    while let Some(parent) = at.and_then(|index| nodes.get(index)?.parent.filter(|parent| *parent < index)) {
        lineage.extend(nodes.get(parent).map(|node| &node.process));
        at = Some(parent);
    }
    lineage.into_iter().rev().fold(Value::Null, |parent, node| {
        let name = node.exe_path.rsplit('/').next().unwrap_or_default();
        let file = json!({"name": name, "path": node.exe_path, "type_id": 1});
        object([
            ("pid", json!(node.process.pid)),
            ("uid", json!(format!("{}-{}", node.process.pid, node.process.start_ticks))),
            ("name", json!(name)),
            ("path", json!(node.exe_path)),
            ("cmd_line", json!(node.command_line)),
            ("created_time", millis(node.started)),
            ("user", json!({"uid": node.uid.to_string()})),
            ("file", if name.is_empty() { Value::Null } else { file }),
            ("parent_process", parent),
        ])
    })
}

fn container(workload: &Workload) -> Value {
    if !workload.is_container() {
        return Value::Null;
    }
    object([
        ("uid", json!(workload.container_id)),
        ("name", json!(workload.container_name)),
        ("image", workload.image.as_ref().map_or(Value::Null, |image| json!({"uid": image, "name": image}))),
        ("pod_uuid", json!(workload.pod_uid)),
        ("orchestrator", workload.pod.as_ref().map_or(Value::Null, |_| json!("kubernetes"))),
    ])
}

fn resources(incident: &Incident) -> Value {
    let workload = &incident.workload;
    let (namespace, name) = workload.pod.as_deref().and_then(|pod| pod.split_once('/')).unzip();
    let kind = match (workload.pod.is_some(), workload.is_container()) {
        (true, _) => "k8s.pod",
        (false, true) => "container",
        (false, false) => "host.service",
    };
    let affected = object([
        ("uid", json!(workload.key)),
        ("name", json!(name.unwrap_or(workload.key.as_str()))),
        ("namespace", json!(namespace)),
        ("type", json!(kind)),
        ("role_id", json!(1)),
        ("role", json!("Target")),
        ("owner", incident.owner.as_ref().map_or(Value::Null, |owner| json!({"name": owner}))),
    ]);
    let exposed = incident.exposures.iter().map(|exposure| {
        let kind = match exposure.provider {
            Provider::AwsInstance | Provider::AwsEcsTask | Provider::AwsEksPod => "AWS::IAM::Role",
            Provider::Gcp => "gcp.service_account",
            Provider::Azure => "azure.managed_identity",
            Provider::Unknown => "credential",
        };
        object([
            ("name", json!(exposure.role.as_ref().unwrap_or(&exposure.credential))),
            ("type", json!(kind)),
            ("role_id", json!(3)),
            ("role", json!("Affected")),
        ])
    });
    std::iter::once(affected).chain(exposed).collect()
}

fn observables(incident: &Incident) -> Value {
    let mut observables = Vec::new();
    let mut add = |at: usize, path: &str, (kind, name): (u8, &str), value: String| {
        if !value.is_empty() {
            let path = format!("evidences[{at}].{path}");
            observables.push(json!({"name": path, "type_id": kind, "type": name, "value": value}));
        }
    };
    let (address, agent, line) = ((2, "IP Address"), (16, "HTTP User-Agent"), (13, "Command Line"));
    for (at, step) in incident.timeline.iter().enumerate() {
        match &step.evidence {
            StepEvidence::Request { request, .. } => {
                let client = request.client.map_or_else(String::new, |client| client.ip().to_string());
                add(at, "src_endpoint.ip", address, client);
                add(at, "http_request.user_agent", agent, request.user_agent.clone());
                add(at, "http_request.url.url_string", (6, "URL String"), request.url.clone());
            }
            StepEvidence::Host { process: Some(process), .. } => {
                add(at, "process.cmd_line", line, process.command_line.to_string());
            }
            StepEvidence::Host { .. } => {}
            StepEvidence::Peer { peer, .. } => add(at, "dst_endpoint.ip", address, peer.ip().to_string()),
        }
    }
    Value::Array(observables)
}

fn remediation(incident: &Incident) -> Value {
    if incident.response.is_empty() {
        return Value::Null;
    }
    let step = |(number, step): (usize, &crate::incident::response::ResponseStep)| {
        let command = step.command.as_ref().map_or_else(String::new, |command| format!(" [{command}]"));
        format!("{}. {}{command}", number + 1, step.text)
    };
    let steps: Vec<String> = incident.response.iter().enumerate().map(step).collect();
    json!({"desc": format!("Suggested, nothing was executed. {}", steps.join(" "))})
}

#[cfg(test)]
mod tests {
    use super::super::RecordFormat;
    use super::super::tests::{full_chain, written};
    use super::*;

    #[test]
    fn the_required_attributes_and_the_whole_chain_are_there() {
        let finding = written(RecordFormat::Ocsf);
        for name in
            ["activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata", "finding_info"]
        {
            assert!(!finding[name].is_null(), "{name}");
        }
        assert_eq!(
            (&finding["type_uid"], &finding["activity_id"]),
            (&json!(200_402), &json!(2)),
            "revision 3 is an update"
        );
        assert_eq!((&finding["severity_id"], &finding["confidence_score"]), (&json!(5), &json!(99)));
        let evidences = finding["evidences"].as_array().expect("evidences");
        assert_eq!(evidences.len(), 4);
        assert_eq!(evidences[0]["src_endpoint"]["ip"], "198.51.100.9");
        assert_eq!(evidences[1]["process"]["parent_process"]["pid"], 100);
        assert_eq!(evidences[2]["dst_endpoint"]["ip"], "169.254.169.254");
        assert_eq!(evidences[3]["dst_endpoint"]["port"], 80);
        assert_eq!(finding["resources"][1]["name"], "shop-prod");
        let attacks = finding["finding_info"]["attacks"].as_array().expect("attacks");
        let shell = attacks.iter().find(|attack| attack["sub_technique"]["uid"] == "T1059.004").expect("the shell");
        assert_eq!((&shell["technique"]["uid"], &shell["tactic"]["uid"]), (&json!("T1059"), &json!("TA0002")));
    }

    #[test]
    fn a_revision_says_what_it_is() {
        let check = |change: &dyn Fn(&mut Incident), type_uid: u64| {
            let mut incident: Incident = serde_json::from_slice(&full_chain()).expect("reads");
            change(&mut incident);
            assert_eq!(finding(&incident)["type_uid"], type_uid);
        };
        check(&|incident| incident.revision = 1, 200_401);
        check(&|incident| incident.revision = 2, 200_402);
        check(&|incident| incident.superseded_by = Some("bl-1".into()), 200_403);
    }
}
