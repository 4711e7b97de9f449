//! What a person would name: a systemd unit, a container, a pod.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The stable name of a workload: outlives restarts and is the same for all replicas of one service. Baselines are kept under it.
///
/// | form | what it names |
/// |---|---|
/// | `unit:nginx.service` | a systemd unit; a numbered instance is named by its template (`unit:app@.service` for `app@8001`), a named one by itself (`unit:postgresql@15-main.service`); names that `systemd-run` makes up become `unit:run-*.service` |
/// | `container:shop-web` | a container by its name; by the first 12 digits of its id where nothing told the name |
/// | `pod:shop/web` | a pod by namespace and controller (ReplicaSet, DaemonSet and StatefulSet suffixes cut); by its uid where nothing told the name and the container is not known either |
/// | `user:1000` | everything a user does in login sessions; `user:1000/app.service` for a unit of that user's own manager |
/// | `cgroup:/batch/a` | a cgroup of no known runtime |
/// | `host` | the root cgroup, or nothing is known |
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadKey(Arc<str>);

impl WorkloadKey {
    /// Text of the key that stands for the host itself.
    pub const HOST: &'static str = "host";

    /// From its text form.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What runs the workload.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A systemd service, socket or scope.
    Systemd,
    /// A login session.
    Session,
    /// Docker Engine.
    Docker,
    /// containerd, directly or through its CRI plugin.
    Containerd,
    /// CRI-O.
    CriO,
    /// podman.
    Podman,
    /// A cgroup of no known runtime.
    Unknown,
}

/// One running instance of a workload: what a cgroup stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Stable name.
    pub key: WorkloadKey,
    /// What runs it.
    pub runtime: Runtime,
    /// Cgroup path, from the root of the hierarchy.
    pub cgroup: Arc<str>,
    /// systemd unit, where it is or lies within one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Arc<str>>,
    /// Full container id (64 hex digits as a rule).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<Arc<str>>,
    /// Container name, where something told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<Arc<str>>,
    /// Image reference, where something told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// Pod uid in its dashed form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<Arc<str>>,
    /// `namespace/name` of the pod, where something told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Arc<str>>,
}

impl Workload {
    /// The host itself: what is left when a process sits in the root cgroup, or its cgroup is not known.
    #[must_use]
    pub fn host() -> Self {
        Self::bare(WorkloadKey::new(WorkloadKey::HOST), Runtime::Unknown, "/")
    }

    /// A workload of which only name, runtime and cgroup are known.
    #[must_use]
    pub fn bare(key: WorkloadKey, runtime: Runtime, cgroup: &str) -> Self {
        Self {
            key,
            runtime,
            cgroup: Arc::from(cgroup),
            unit: None,
            container_id: None,
            container_name: None,
            image: None,
            pod_uid: None,
            pod: None,
        }
    }

    /// Whether it is a container of any runtime.
    #[must_use]
    pub const fn is_container(&self) -> bool {
        self.container_id.is_some() || self.container_name.is_some() || self.pod_uid.is_some()
    }
}
