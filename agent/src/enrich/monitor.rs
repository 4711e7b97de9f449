//! Containers by the process that watches over each: what its arguments say of the container whose processes descend from it.
//!
//! A cgroup says it better where a container has one of its own that was read in time. These are for the rest: a container
//! that was gone before its cgroup was looked at, one that shares its caller's (rootless ones without delegation), and one whose
//! cgroup bears a name that only its runtime understands (`ctr`). Pure: only arguments are read.

use std::sync::Arc;

use super::names::basename;
use super::workload::container_key;
use crate::workload::{Runtime, Workload, WorkloadKey};

/// Arguments looked at: monitors name their container among the first.
const ARGUMENTS_MAX: usize = 32;

/// The container that a program with these arguments watches over: `conmon` (podman, CRI-O) and containerd's shims.
///
/// `conmon --api-version 1 -c ID -u ID -r /usr/bin/runc … -n NAME …` (conmon(8)),
/// `containerd-shim-runc-v2 -namespace NAMESPACE -id ID -address …` (containerd, `runtime/v2/README.md`).
pub(super) fn container_of(exe_path: &str, argv: &[String]) -> Option<Workload> {
    let name = basename(exe_path);
    let argument = |flag: &str| {
        let words = argv.iter().take(ARGUMENTS_MAX);
        let value = words.skip_while(|word| *word != flag).nth(1)?;
        (!value.is_empty()).then_some(value.as_str())
    };
    let (runtime, id, named) = if name == "conmon" {
        (Runtime::Podman, argument("-c")?, argument("-n"))
    } else if name.starts_with("containerd-shim") {
        let runtime = if argument("-namespace") == Some("moby") { Runtime::Docker } else { Runtime::Containerd };
        (runtime, argument("-id")?, None)
    } else {
        return None;
    };
    let key = WorkloadKey::new(&container_key(id, named));
    Some(Workload {
        container_id: Some(Arc::from(id)),
        container_name: named.map(Arc::from),
        ..Workload::bare(key, runtime, "")
    })
}

/// What is best said of a process whose cgroup says `told` and whose monitor says `watched`.
pub(super) fn better(told: Arc<Workload>, watched: Option<&Arc<Workload>>) -> Arc<Workload> {
    let Some(watched) = watched else { return told };
    if !told.is_container() {
        // The monitor's arguments do not tell the cgroup, which is where the container can be stopped.
        return Arc::new(Workload { cgroup: Arc::clone(&told.cgroup), unit: told.unit.clone(), ..(**watched).clone() });
    }
    let nameless = told.container_name.is_none() && told.pod.is_none() && told.pod_uid.is_none();
    if nameless && told.container_id == watched.container_id {
        let (key, container_name) = (watched.key.clone(), watched.container_name.clone());
        return Arc::new(Workload { key, container_name, ..(*told).clone() });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0d9e8b7a65544332211000ffeeddccbbaa99887766554433221100abcdef";

    fn watched(exe_path: &str, line: &str) -> Option<Workload> {
        let argv: Vec<String> = line.replace("ID", ID).split(' ').map(ToOwned::to_owned).collect();
        container_of(exe_path, &argv)
    }

    #[test]
    fn monitors_name_their_container() {
        let check = |exe_path: &str, line: &str, expected: Option<(&str, Runtime)>| {
            let found = watched(exe_path, line);
            let found = found.as_ref().map(|workload| (workload.key.as_str(), workload.runtime));
            assert_eq!(found, expected, "{exe_path} {line}");
        };
        let conmon = "conmon --api-version 1 -c ID -u ID -r /usr/bin/runc -b /x/userdata -n shop --exit-dir /run/exits";
        check("/usr/bin/conmon", conmon, Some(("container:shop", Runtime::Podman)));
        check("/usr/bin/conmon", "conmon -c ID -u ID", Some(("container:4f1c0d9e8b7a", Runtime::Podman)));
        check("/usr/bin/conmon", "conmon --version", None);
        let shim = "containerd-shim-runc-v2 -namespace default -id web -address /run/containerd/containerd.sock";
        check("/usr/bin/containerd-shim-runc-v2", shim, Some(("container:web", Runtime::Containerd)));
        let docker = "containerd-shim-runc-v2 -namespace moby -id ID -address /run/containerd/containerd.sock";
        check("/usr/bin/containerd-shim-runc-v2", docker, Some(("container:4f1c0d9e8b7a", Runtime::Docker)));
        check("/usr/bin/containerd-shim-runc-v2", "containerd-shim-runc-v2 -id", None);
        check("/usr/bin/sleep", conmon, None);
    }

    #[test]
    fn a_cgroup_that_names_a_container_is_believed_first() {
        let watching = watched("/usr/bin/conmon", "conmon -c ID -n shop").map(Arc::new);
        let check = |told: Workload, expected: &str| {
            assert_eq!(better(Arc::new(told.clone()), watching.as_ref()).key.as_str(), expected, "{told:?}");
            assert_eq!(better(Arc::new(told.clone()), None).key, told.key);
        };
        check(Workload::host(), "container:shop");
        check(Workload::bare(WorkloadKey::new("user:1000"), Runtime::Session, "/user.slice"), "container:shop");
        let container = |key: &str, id: &str, name: Option<&str>| Workload {
            container_id: Some(Arc::from(id)),
            container_name: name.map(Arc::from),
            ..Workload::bare(WorkloadKey::new(key), Runtime::Podman, "/libpod_parent/x")
        };
        check(container("container:4f1c0d9e8b7a", ID, None), "container:shop");
        check(container("container:web", ID, Some("web")), "container:web");
        // A container within the container, whose runtime is not seen.
        check(container("container:0000", "0000", None), "container:0000");
    }
}
