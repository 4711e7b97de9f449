//! Names and images of containers, from the files their runtimes keep: a container's id changes with every restart, its
//! name does not.
//!
//! Read only when a cgroup is met for the first time, and never through a runtime's API: no socket, no privilege, no wait.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::read_bounded;
use crate::enrich::workload;
use crate::event::CgroupSeen;
use crate::workload::Runtime;

/// Bytes read of one state file. OCI configs are some ten KiB; podman's list grows with the containers of the host.
const STATE_BYTES_MAX: u64 = 4 << 20;

/// Where the host's files may be seen: directly, or from a container that shares the host's pid namespace.
const ROOTS: &[&str] = &["", "/proc/1/root"];

/// OCI configs by runtime, `ID` for the container's: containerd under Kubernetes, k3s and RKE2, nerdctl, Docker; CRI-O.
const OCI_CONFIGS: &[&str] = &[
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
    "/run/containerd/io.containerd.runtime.v2.task/default/ID/config.json",
    "/run/containers/storage/overlay-containers/ID/userdata/config.json",
];

/// podman's lists of containers; those started with `--rm` stand in the volatile one.
const PODMAN_LISTS: &[&str] = &[
    "/var/lib/containers/storage/overlay-containers/containers.json",
    "/var/lib/containers/storage/overlay-containers/volatile-containers.json",
    "/run/containers/storage/overlay-containers/volatile-containers.json",
];

/// What a runtime knows of a container.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    name: Option<String>,
    image: Option<String>,
    /// `namespace/name`
    pod: Option<String>,
}

/// Adds what the runtime of the cgroup's container knows of it, if it is one.
pub(super) fn name(seen: &mut CgroupSeen) {
    let workload = workload::workload_of(seen);
    // An id of anything but letters and digits is no id, and no part of a path.
    let id = workload.container_id.filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let Some(id) = id else { return };
    let state = ROOTS.iter().find_map(|root| read(root, workload.runtime, &id)).unwrap_or_default();
    (seen.container_name, seen.image, seen.pod) = (state.name, state.image, state.pod);
}

fn read(root: &str, runtime: Runtime, id: &str) -> Option<State> {
    let file = |path: &str| read_bounded(Path::new(&format!("{root}{}", path.replace("ID", id))), STATE_BYTES_MAX);
    match runtime {
        Runtime::Docker => of_docker(&file("/var/lib/docker/containers/ID/config.v2.json")?),
        Runtime::Podman => PODMAN_LISTS.iter().find_map(|path| of_podman(&file(path)?, id)),
        Runtime::Containerd | Runtime::CriO | Runtime::Unknown => {
            OCI_CONFIGS.iter().find_map(|path| of_oci(&file(path)?))
        }
        Runtime::Systemd | Runtime::Session => None,
    }
}

/// Docker's own record (`daemon/container`, `config.v2.json`). A replica of Compose or Swarm is named by its service.
fn of_docker(bytes: &[u8]) -> Option<State> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        #[serde(default)]
        name: String,
        config: Inner,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inner {
        #[serde(default)]
        image: String,
        #[serde(default)]
        labels: Option<HashMap<String, String>>,
    }
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let labels = record.config.labels.unwrap_or_default();
    let compose = labels
        .get("com.docker.compose.service")
        .map(|service| format!("{}-{service}", labels.get("com.docker.compose.project").map_or("", String::as_str)));
    let service = compose.or_else(|| labels.get("com.docker.swarm.service.name").cloned());
    let name = service.or_else(|| some(record.name.trim_start_matches('/')));
    Some(State { name, image: some(&record.config.image), pod: None })
}

/// Annotations that containerd's CRI plugin (`io.kubernetes.cri.…`), CRI-O (`io.kubernetes.…`) and nerdctl leave in the OCI config.
fn of_oci(bytes: &[u8]) -> Option<State> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    let annotations = serde_json::from_slice::<Config>(bytes).ok()?.annotations;
    let first = |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key)).and_then(|value| some(value));
    let pod = first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]);
    let namespace = first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]);
    Some(State {
        name: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
        image: first(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]),
        pod: pod.zip(namespace).map(|(pod, namespace)| format!("{namespace}/{pod}")),
    })
}

/// podman's list; the image's name stands in `metadata`, which is JSON in a string.
fn of_podman(bytes: &[u8], id: &str) -> Option<State> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        metadata: String,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "kebab-case", default)]
    struct Metadata {
        image_name: String,
    }
    let entries: Vec<Entry> = serde_json::from_slice(bytes).ok()?;
    let entry = entries.into_iter().find(|entry| entry.id == id)?;
    let metadata: Metadata = serde_json::from_str(&entry.metadata).unwrap_or_default();
    Some(State { name: entry.names.into_iter().next(), image: some(&metadata.image_name), pod: None })
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, image: &str, pod: &str) -> Option<State> {
        Some(State { name: some(name), image: some(image), pod: some(pod) })
    }

    #[test]
    fn docker_names_replicas_by_their_service() {
        let check =
            |record: &str, expected: Option<State>| assert_eq!(of_docker(record.as_bytes()), expected, "{record}");
        check(r#"{"Name":"/web","Config":{"Image":"shop:1","Labels":null}}"#, state("web", "shop:1", ""));
        check(
            r#"{"Name":"/shop-web-2","Config":{"Image":"shop:1","Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}}}"#,
            state("shop-web", "shop:1", ""),
        );
        check(
            r#"{"Name":"/web.1.x","Config":{"Labels":{"com.docker.swarm.service.name":"web"}}}"#,
            state("web", "", ""),
        );
        check("{", None);
    }

    #[test]
    fn kubernetes_runtimes_name_the_pod() {
        let check = |config: &str, expected: Option<State>| assert_eq!(of_oci(config.as_bytes()), expected, "{config}");
        check(
            r#"{"annotations":{"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.image-name":"shop:1","io.kubernetes.cri.sandbox-name":"web-1","io.kubernetes.cri.sandbox-namespace":"shop"}}"#,
            state("web", "shop:1", "shop/web-1"),
        );
        check(
            r#"{"annotations":{"io.kubernetes.container.name":"web","io.kubernetes.cri-o.ImageName":"shop:1","io.kubernetes.pod.name":"web-1","io.kubernetes.pod.namespace":"shop"}}"#,
            state("web", "shop:1", "shop/web-1"),
        );
        check(r#"{"annotations":{"nerdctl/name":"web"}}"#, state("web", "", ""));
        check(r#"{"ociVersion":"1.1.0"}"#, state("", "", ""));
        check("7", None);
    }

    #[test]
    fn podman_lists_its_containers() {
        let list =
            r#"[{"id":"aa","names":["web"],"metadata":"{\"image-name\":\"shop:1\",\"name\":\"web\"}"},{"id":"bb"}]"#;
        assert_eq!(of_podman(list.as_bytes(), "aa"), state("web", "shop:1", ""));
        assert_eq!(of_podman(list.as_bytes(), "bb"), state("", "", ""));
        assert_eq!(of_podman(list.as_bytes(), "cc"), None);
    }
}
