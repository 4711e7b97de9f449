//! What a person would name: a systemd unit, a container, a pod.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The stable name of a workload: outlives restarts and is the same for all replicas of one service.
///
/// Forms: `unit:nginx.service`, `container:shop-web`, `pod:shop/web` (namespace and controller name where known, else the
/// container's), `user:1000` (a login session), `host` (nothing better is known). Baselines are kept under it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkloadKey(Arc<str>);

impl WorkloadKey {
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
