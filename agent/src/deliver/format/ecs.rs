//! Elastic Common Schema alert (elastic.co/guide/en/ecs, fields of the core and extended levels). `kibana.alert.*` belongs to
//! Kibana's own engine and is not written.

use serde_json::{Value, json};

use super::{object, risk, tactic};
use crate::evidence::ProcessNode;
use crate::incident::{Incident, StepEvidence};
use crate::request::Request;

/// The incident as an alert.
pub(super) fn alert(incident: &Incident) -> Value {
    let request = incident.candidates.best().map(|best| &best.request);
    let peer = incident.timeline.iter().find_map(|step| match &step.evidence {
        StepEvidence::Peer { peer, name, .. } => Some((peer, name)),
        _ => None,
    });
    let destination = peer.map_or(Value::Null, |(peer, name)| {
        object([("ip", json!(peer.ip())), ("port", json!(peer.port())), ("domain", json!(name))])
    });
    let client = request.and_then(|request| request.client);
    let source = client.map_or(Value::Null, |client| json!({"ip": client.ip(), "port": client.port()}));
    let workload = &incident.workload;
    let container = object([
        ("id", json!(workload.container_id)),
        ("name", json!(workload.container_name)),
        ("image", workload.image.as_ref().map_or(Value::Null, |image| json!({"name": image}))),
    ]);
    object([
        ("@timestamp", json!(incident.last_seen)),
        ("ecs", json!({"version": "8.17.0"})),
        ("message", json!(incident.title)),
        ("event", event(incident)),
        (
            "rule",
            json!({"id": "AN0223", "name": "Exploit Public-Facing Application", "ruleset": "MITRE ATT&CK DET0080"}),
        ),
        ("threat", threat(incident)),
        ("process", deepest(incident).map_or(Value::Null, |node| process(incident, node))),
        ("source", source),
        ("destination", destination),
        ("http", request.map_or(Value::Null, http)),
        ("url", request.map_or(Value::Null, |request| json!({"original": request.url}))),
        ("user_agent", request.map_or(Value::Null, |request| object([("original", json!(request.user_agent))]))),
        ("trace", request.map_or(Value::Null, |request| object([("id", json!(request.trace_id))]))),
        ("container", container),
        ("orchestrator", orchestrator(incident)),
        ("service", json!({"name": workload.key})),
        ("related", related(incident)),
        ("labels", labels(incident)),
        ("observer", json!({"vendor": "Breachline", "type": "sensor", "version": env!("CARGO_PKG_VERSION")})),
    ])
}

fn event(incident: &Incident) -> Value {
    object([
        ("kind", json!("alert")),
        ("category", json!(["intrusion_detection", "process", "network"])),
        ("type", json!(["info"])),
        ("module", json!("breachline")),
        ("dataset", json!("breachline.incident")),
        ("id", json!(format!("{}/{}", incident.id, incident.revision))),
        ("severity", json!(risk(incident.severity))),
        ("risk_score", json!(risk(incident.severity))),
        ("start", json!(incident.first_seen)),
        ("end", json!(incident.last_seen)),
        (
            "reason",
            json!(incident.contributions.iter().map(|part| part.reason.as_str()).collect::<Vec<_>>().join("; ")),
        ),
    ])
}

/// Parallel lists, as ECS has them: techniques as such, then those that are parts of one.
fn threat(incident: &Incident) -> Value {
    let mut tactics: Vec<_> = incident.techniques.iter().map(|technique| tactic(&technique.id)).collect();
    tactics.sort_unstable();
    tactics.dedup();
    let (ids, names): (Vec<_>, Vec<_>) = tactics.into_iter().unzip();
    let (whole, parts): (Vec<_>, Vec<_>) = incident
        .techniques
        .iter()
        .map(|technique| (&technique.id, &technique.name))
        .partition(|(id, _)| !id.contains('.'));
    let listed = |some: Vec<(_, _)>| {
        let (ids, names): (Vec<_>, Vec<_>) = some.into_iter().unzip();
        vec![("id", json!(ids)), ("name", json!(names))]
    };
    let mut technique: serde_json::Map<String, Value> =
        listed(whole).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let parts: serde_json::Map<String, Value> =
        listed(parts).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    technique.insert("subtechnique".to_owned(), Value::Object(parts));
    json!({"framework": "MITRE ATT&CK", "tactic": {"id": ids, "name": names}, "technique": technique})
}

/// The first process of the chain that did something.
fn deepest(incident: &Incident) -> Option<&ProcessNode> {
    incident.timeline.iter().find_map(|step| match &step.evidence {
        StepEvidence::Host { process, .. } | StepEvidence::Peer { process, .. } => process.as_ref(),
        StepEvidence::Request { .. } => None,
    })
}

fn process(incident: &Incident, own: &ProcessNode) -> Value {
    let nodes = &incident.processes.nodes;
    let at = nodes.iter().find(|node| node.process.process == own.process);
    let parent = at.and_then(|node| nodes.get(node.parent?)).map(|parent| object(described(&parent.process)));
    let [pid, entity, name, executable, line, start, user] = described(own);
    object([pid, entity, name, executable, line, start, user, ("parent", parent.unwrap_or_default())])
}

fn described(node: &ProcessNode) -> [(&'static str, Value); 7] {
    [
        ("pid", json!(node.process.pid)),
        ("entity_id", json!(format!("{}-{}", node.process.pid, node.process.start_ticks))),
        ("name", json!(node.exe_path.rsplit('/').next().unwrap_or_default())),
        ("executable", json!(node.exe_path)),
        ("command_line", json!(node.command_line)),
        ("start", json!(node.started)),
        ("user", json!({"id": node.uid.to_string()})),
    ]
}

fn http(request: &Request) -> Value {
    let code = request.target_status.or(request.status);
    object([
        ("request", json!({"method": request.method})),
        ("response", code.map_or(Value::Null, |code| json!({"status_code": code}))),
    ])
}

fn orchestrator(incident: &Incident) -> Value {
    let Some((namespace, name)) = incident.workload.pod.as_deref().and_then(|pod| pod.split_once('/')) else {
        return Value::Null;
    };
    json!({"type": "kubernetes", "namespace": namespace, "resource": {"type": "pod", "name": name}})
}

fn related(incident: &Incident) -> Value {
    let mut addresses: Vec<String> = Vec::new();
    let mut hosts: Vec<String> = Vec::new();
    for step in &incident.timeline {
        match &step.evidence {
            StepEvidence::Request { request, .. } => {
                addresses.extend(request.client.map(|client| client.ip().to_string()))
            }
            StepEvidence::Peer { peer, name, server_name, .. } => {
                addresses.push(peer.ip().to_string());
                hosts.extend(name.iter().chain(server_name).map(ToString::to_string));
            }
            StepEvidence::Host { .. } => {}
        }
    }
    for list in [&mut addresses, &mut hosts] {
        list.sort_unstable();
        list.dedup();
    }
    object([("ip", json!(addresses)), ("hosts", json!(hosts))])
}

/// What ECS has no field for.
fn labels(incident: &Incident) -> Value {
    let exposed: Vec<&str> = incident.exposures.iter().map(|exposure| exposure.credential.as_str()).collect();
    object([
        ("incident_id", json!(incident.id)),
        ("revision", json!(incident.revision.to_string())),
        ("severity", json!(incident.severity)),
        ("confidence", json!(format!("{:.2}", incident.confidence))),
        ("workload", json!(incident.workload.key)),
        ("owner", json!(incident.owner)),
        ("exposed", json!(exposed.join("; "))),
        ("missing", json!(incident.missing.join("; "))),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::RecordFormat;
    use super::super::tests::written;
    use super::*;

    #[test]
    fn the_chain_is_found_by_the_fields_that_people_search() {
        let alert = written(RecordFormat::Ecs);
        let check = |pointer: &str, expected: Value| assert_eq!(alert.pointer(pointer), Some(&expected), "{pointer}");
        check("/event/kind", json!("alert"));
        check("/source/ip", json!("198.51.100.9"));
        check("/destination/ip", json!("203.0.113.7"));
        check("/process/parent/pid", json!(100));
        check("/process/name", json!("dash"));
        check("/threat/technique/subtechnique/id/0", json!("T1059.004"));
        check("/threat/tactic/id/0", json!("TA0001"));
        check("/labels/incident_id", json!("bl-d6babd56a00a38b5839f"));
        check("/related/ip", json!(["198.51.100.9", "203.0.113.7"]));
        assert!(alert.get("orchestrator").is_none(), "no pod, no field");
    }
}
