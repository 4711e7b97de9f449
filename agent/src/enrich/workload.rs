//! Cgroup path in, workload out: the naming rules of systemd and of the container runtimes.
//!
//! The innermost container component wins, then the innermost service or scope. Reads nothing; what a runtime's state
//! files add (names, images) comes in with the [`CgroupSeen`] fact.

use std::sync::Arc;

use crate::event::CgroupSeen;
use crate::workload::{Runtime, Workload, WorkloadKey};

/// Length of the container ids of docker, containerd's CRI plugin, CRI-O and podman, in hex digits.
const CONTAINER_ID_DIGITS: usize = 64;

/// How many digits of a container id name a container that has no other name, as `docker ps` shows it.
const SHORT_ID_DIGITS: usize = 12;

/// Names longer than a path component can be (`NAME_MAX` of the kernel) are cut: they come from state files and end up in
/// every incident.
const NAME_BYTES_MAX: usize = 255;

/// Scope prefixes of systemd-driven runtimes. Order matters where one prefix begins another.
const SCOPE_PREFIXES: &[(&str, Runtime)] = &[
    ("cri-containerd-", Runtime::Containerd),
    ("nerdctl-", Runtime::Containerd),
    ("docker-", Runtime::Docker),
    ("crio-", Runtime::CriO),
    ("libpod-payload-", Runtime::Podman),
    ("libpod-", Runtime::Podman),
];

/// The workload a cgroup stands for.
pub(super) fn workload_of(seen: &CgroupSeen) -> Workload {
    let path = seen.path.as_str();
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(container) = find_container(&components) {
        return container.into_workload(seen, &components);
    }
    if let Some(user) = session_of(&components) {
        return user.into_workload(path);
    }
    if let Some(unit) = innermost_unit(&components) {
        let key = WorkloadKey::new(&format!("unit:{}", stable_unit(unit)));
        return Workload { unit: Some(Arc::from(unit)), ..Workload::bare(key, Runtime::Systemd, path) };
    }
    match components.as_slice() {
        [] | ["init.scope"] => Workload { cgroup: Arc::from(path), ..Workload::host() },
        _ => Workload::bare(WorkloadKey::new(&format!("cgroup:{path}")), Runtime::Unknown, path),
    }
}

/// Whether the path names a container: what a v1 hierarchy other than systemd's is asked for.
pub(super) fn names_container(path: &str) -> bool {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    find_container(&components).is_some()
}

/// What a path says of a container.
struct Container<'p> {
    runtime: Runtime,
    /// Empty for a pod's own cgroup (its pause process).
    id: &'p str,
    /// nspawn and LXC put the name, not an id, into the path.
    name: Option<String>,
    pod_uid: Option<String>,
}

impl Container<'_> {
    fn into_workload(self, seen: &CgroupSeen, components: &[&str]) -> Workload {
        let name = self.name.or_else(|| seen.container_name.clone()).map(|name| bounded(&name).to_owned());
        let key = match (&seen.pod, &name, &self.pod_uid) {
            (Some(pod), ..) => format!("pod:{}", controller_of(bounded(pod))),
            (None, Some(name), _) => format!("container:{name}"),
            (None, None, _) if !self.id.is_empty() => container_key(self.id, None),
            (None, None, Some(uid)) => format!("pod:{uid}"),
            (None, None, None) => WorkloadKey::HOST.to_owned(),
        };
        Workload {
            unit: innermost_unit(components).map(Arc::from),
            container_id: (!self.id.is_empty()).then(|| Arc::from(self.id)),
            container_name: name.as_deref().map(Arc::from),
            image: seen.image.as_deref().map(|image| Arc::from(bounded(image))),
            pod_uid: self.pod_uid.as_deref().map(Arc::from),
            pod: seen.pod.as_deref().map(|pod| Arc::from(bounded(pod))),
            ..Workload::bare(WorkloadKey::new(&key), self.runtime, &seen.path)
        }
    }
}

/// The key of a container with this id, by its name where that is known.
pub(super) fn container_key(id: &str, name: Option<&str>) -> String {
    // Ids that are no digits are names already (`ctr`).
    let short =
        if is_container_id(id) || is_ecs_id(id) { id.get(..SHORT_ID_DIGITS).unwrap_or(id) } else { bounded(id) };
    format!("container:{}", name.map_or(short, bounded))
}

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or(text)
}

fn find_container<'p>(components: &[&'p str]) -> Option<Container<'p>> {
    components.iter().enumerate().rev().find_map(|(depth, component)| {
        let above = components.get(..depth).unwrap_or_default();
        scope_container(component)
            .or_else(|| plain_container(component, above))
            .or_else(|| named_container(component))
            .map(|container| Container {
                pod_uid: container.pod_uid.clone().or_else(|| above.iter().rev().find_map(|part| pod_uid(part))),
                ..container
            })
            .or_else(|| pod_container(component))
    })
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `slice:cri-containerd:<id>` (runc told to use systemd names while the
/// runtime drives cgroupfs), `crio-<id>` and `libpod-<id>` without a suffix (the same runtimes on cgroupfs).
fn scope_container(component: &str) -> Option<Container<'_>> {
    let bare = component.strip_suffix(".scope").unwrap_or(component);
    if let Some((prefix, id)) = bare.rsplit_once(':')
        && is_container_id(id)
    {
        let runtime = if prefix.ends_with("cri-containerd") { Runtime::Containerd } else { runtime_of_hint(prefix) };
        return Some(Container { runtime, id, name: None, pod_uid: pod_uid(prefix.split(':').next()?) });
    }
    let (runtime, id) = SCOPE_PREFIXES
        .iter()
        .find_map(|(prefix, runtime)| bare.strip_prefix(prefix).map(|id| (*runtime, id)))
        .filter(|(_, id)| is_container_id(id))?;
    Some(Container { runtime, id, name: None, pod_uid: None })
}

/// `/docker/<id>`, `/ecs/<task>/<id>`, `/kubepods/burstable/pod<uid>/<id>`, `/k8s.io/<id>`: a bare id, the runtime told by what it lies in.
fn plain_container<'p>(component: &'p str, above: &[&str]) -> Option<Container<'p>> {
    // An ECS task on Fargate or awsvpc names its containers `<task id>-<number>`: 32 digits, a dash, digits.
    let ecs = above.first() == Some(&"ecs") && above.len() >= 2;
    if !(is_container_id(component) || ecs && is_ecs_id(component)) {
        return None;
    }
    let runtime = above.iter().rev().map(|part| runtime_of_hint(part)).find(|runtime| *runtime != Runtime::Unknown);
    Some(Container { runtime: runtime.unwrap_or(Runtime::Unknown), id: component, name: None, pod_uid: None })
}

/// What a cgroup above a container says of its runtime. A pod's cgroupfs form does not tell CRI-O from containerd by
/// itself, but CRI-O prefixes its ids, so a bare one is containerd's.
fn runtime_of_hint(part: &str) -> Runtime {
    match part {
        "docker" | "ecs" | "actions_job" => Runtime::Docker,
        _ if part.contains("kubepods") || part.contains("containerd") || part == "k8s.io" => Runtime::Containerd,
        _ if part.starts_with("crio") => Runtime::CriO,
        _ if part.starts_with("libpod") => Runtime::Podman,
        _ => Runtime::Unknown,
    }
}

/// Containers whose cgroup carries their name: systemd-nspawn (`machine-NAME.scope`, `systemd-nspawn@NAME.service`) and
/// LXC (`lxc.payload.NAME`).
fn named_container(component: &str) -> Option<Container<'_>> {
    let (runtime, name) = if let Some(name) = component.strip_prefix("lxc.payload.") {
        (Runtime::Unknown, name)
    } else if let Some(name) = component.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service"))
    {
        (Runtime::Systemd, name)
    } else {
        // libvirt registers virtual machines in the same way; they are no containers, but what runs there is qemu alone.
        (Runtime::Systemd, component.strip_prefix("machine-")?.strip_suffix(".scope")?)
    };
    (!name.is_empty()).then(|| Container { runtime, id: "", name: Some(unescape(name)), pod_uid: None })
}

/// A pod's own cgroup, which holds no container of its own.
fn pod_container(component: &str) -> Option<Container<'_>> {
    let uid = pod_uid(component)?;
    Some(Container { runtime: Runtime::Containerd, id: "", name: None, pod_uid: Some(uid) })
}

fn is_container_id(text: &str) -> bool {
    text.len() == CONTAINER_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_ecs_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && task.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The pod uid in `pod<uid>`, `kubepods-burstable-pod<uid>.slice`, `kubelet-kubepods-pod<uid>.slice`. The systemd driver writes the
/// dashes as underscores, since a dash separates slices; they are restored. Static pods carry 32 digits and no dashes.
fn pod_uid(component: &str) -> Option<String> {
    let bare = component.strip_suffix(".slice").unwrap_or(component);
    let at = bare.rfind("pod")?;
    let prefix = bare.get(..at)?;
    if !(prefix.is_empty() || (prefix.ends_with('-') && prefix.contains("kubepods"))) {
        return None;
    }
    let uid = bare.get(at + "pod".len()..)?.replace('_', "-");
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dashed = uid.len() == 36 && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && uid.split('-').all(hex);
    (dashed || (uid.len() == 32 && hex(&uid))).then_some(uid)
}

/// `namespace/name` of a pod without the suffixes its controller adds: a replaced pod is the same workload.
fn controller_of(pod: &str) -> String {
    let (namespace, name) = pod.split_once('/').unwrap_or(("", pod));
    let mut parts: Vec<&str> = name.split('-').collect();
    let last = parts.last().copied().unwrap_or_default();
    if parts.len() > 1 && is_generated(last, 5..=5) {
        parts.pop();
        // A Deployment's pod carries the hash of its ReplicaSet in front of its own suffix.
        if parts.len() > 1 && is_generated(parts.last().copied().unwrap_or_default(), 6..=10) {
            parts.pop();
        }
    } else if parts.len() > 1 && last.bytes().all(|byte| byte.is_ascii_digit()) {
        parts.pop();
    }
    format!("{namespace}/{}", parts.join("-"))
}

/// Kubernetes writes generated suffixes in an alphabet without vowels and easily mistaken digits
/// (`k8s.io/apimachinery/pkg/util/rand`), so that ordinary words are not taken for one.
fn is_generated(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte))
}

/// A user's part of the tree.
struct UserPart<'p> {
    uid: &'p str,
    /// Unit of that user's own service manager.
    unit: Option<&'p str>,
}

impl UserPart<'_> {
    fn into_workload(self, path: &str) -> Workload {
        match self.unit {
            Some(unit) => Workload {
                unit: Some(Arc::from(unit)),
                ..Workload::bare(
                    WorkloadKey::new(&format!("user:{}/{}", self.uid, stable_unit(unit))),
                    Runtime::Systemd,
                    path,
                )
            },
            None => Workload::bare(WorkloadKey::new(&format!("user:{}", self.uid)), Runtime::Session, path),
        }
    }
}

/// `/user.slice/user-1000.slice/session-3.scope`, `/user.slice/user-1000.slice/user@1000.service/app.slice/x.service`.
fn session_of<'p>(components: &[&'p str]) -> Option<UserPart<'p>> {
    let uid = components.iter().find_map(|part| part.strip_prefix("user-")?.strip_suffix(".slice"))?;
    if components.first() != Some(&"user.slice") || !uid.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let manager = components.iter().position(|part| part.starts_with("user@") && part.ends_with(".service"));
    let unit = manager.and_then(|at| innermost_unit(components.get(at + 1..)?)).filter(|unit| *unit != "init.scope");
    Some(UserPart { uid, unit })
}

/// The innermost service or scope. A service may delegate its subtree and make cgroups below it: those are part of it.
fn innermost_unit<'p>(components: &[&'p str]) -> Option<&'p str> {
    components
        .iter()
        .rev()
        .map(|part| unescape_cgroup(part))
        .find(|part| (part.ends_with(".service") || part.ends_with(".scope")) && *part != "init.scope")
}

/// systemd puts `_` in front of a unit whose name would collide with a kernel file (`cg_escape`): `_cpu.service`.
fn unescape_cgroup(component: &str) -> &str {
    component.strip_prefix('_').unwrap_or(component)
}

/// `\x2d` and its like back to the byte, as `systemd-escape --unescape` does; what is no text stays escaped.
fn unescape(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// A unit's name without what differs between replicas or runs.
fn stable_unit(unit: &str) -> String {
    let (stem, suffix) = unit.rsplit_once('.').unwrap_or((unit, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((template, instance)) = stem.split_once('@')
        && digits(instance)
    {
        return format!("{template}@.{suffix}");
    }
    // `systemd-run` without a name: run-u12, run-r<id>, run-p<pid>-i<invocation>; conmon's scopes carry a container's id.
    if stem.strip_prefix("run-").is_some_and(is_made_up) {
        return format!("run-*.{suffix}");
    }
    for monitor in ["libpod-conmon", "crio-conmon"] {
        if stem.strip_prefix(monitor).is_some_and(|rest| rest.starts_with('-')) {
            return format!("{monitor}-*.{suffix}");
        }
    }
    unit.to_owned()
}

fn is_made_up(name: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit();
    match name.as_bytes() {
        [b'u' | b'p', first, ..] => digit(*first),
        [b'r', id @ ..] => id.len() >= 32 && id.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1c0d9e8b7a65544332211000ffeeddccbbaa99887766554433221100abcdef";
    const UID: &str = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";

    fn seen(path: &str) -> CgroupSeen {
        CgroupSeen { id: 7, path: path.replace("ID", ID), container_name: None, image: None, pod: None }
    }

    #[test]
    fn every_form_of_unit_has_a_stable_key() {
        let check = |path: &str, key: &str, runtime: Runtime| {
            let workload = workload_of(&seen(path));
            assert_eq!((workload.key.as_str(), workload.runtime), (key, runtime), "{path}");
            assert!(!workload.is_container(), "{path}");
        };
        check("/", "host", Runtime::Unknown);
        check("", "host", Runtime::Unknown);
        check("/init.scope", "host", Runtime::Unknown);
        check("/system.slice/nginx.service", "unit:nginx.service", Runtime::Systemd);
        check("/system.slice/system-app.slice/app@8001.service", "unit:app@.service", Runtime::Systemd);
        check("/system.slice/postgresql@15-main.service", "unit:postgresql@15-main.service", Runtime::Systemd);
        check("/shop.slice/shop-front.slice/web.service/workers/3", "unit:web.service", Runtime::Systemd);
        check("/system.slice/_cpu.service", "unit:cpu.service", Runtime::Systemd);
        check(r"/system.slice/back\x2dup.service", r"unit:back\x2dup.service", Runtime::Systemd);
        check("/system.slice/run-u42.service", "unit:run-*.service", Runtime::Systemd);
        check("/system.slice/run-parts.service", "unit:run-parts.service", Runtime::Systemd);
        check("/machine.slice/libpod-conmon-ID.scope", "unit:libpod-conmon-*.scope", Runtime::Systemd);
        check("/user.slice/user-1000.slice/session-3.scope", "user:1000", Runtime::Session);
        check("/user.slice/user-1000.slice/user@1000.service/init.scope", "user:1000", Runtime::Session);
        check(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
            "user:1000/web.service",
            Runtime::Systemd,
        );
        check("/batch/a", "cgroup:/batch/a", Runtime::Unknown);
        check("/system.slice", "cgroup:/system.slice", Runtime::Unknown);
    }

    #[test]
    fn every_form_of_container_gives_its_id() {
        let check = |path: &str, runtime: Runtime, pod_uid: Option<&str>| {
            let workload = workload_of(&seen(path));
            assert_eq!(workload.container_id.as_deref(), Some(ID), "{path}");
            assert_eq!((workload.runtime, workload.pod_uid.as_deref()), (runtime, pod_uid), "{path}");
            assert_eq!(workload.key.as_str(), "container:4f1c0d9e8b7a", "{path}");
        };
        let pod = Some(UID);
        check("/system.slice/docker-ID.scope", Runtime::Docker, None);
        check("/docker/ID", Runtime::Docker, None);
        check("/docker/ID/init.scope", Runtime::Docker, None);
        check("/ecs/0123456789abcdef0123456789abcdef/ID", Runtime::Docker, None);
        check("/ecstasks.slice/ecstasks-0123456789abcdef.slice/docker-ID.scope", Runtime::Docker, None);
        check("/machine.slice/libpod-ID.scope/container", Runtime::Podman, None);
        check("/machine.slice/libpod-payload-ID", Runtime::Podman, None);
        check("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", Runtime::Podman, None);
        check("/system.slice/nerdctl-ID.scope", Runtime::Containerd, None);
        check("/k8s.io/ID", Runtime::Containerd, None);
        let under = "0b1c2d3e_4f50_6172_8394_a5b6c7d8e9f0";
        check(&format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-ID.scope"), Runtime::Containerd, pod);
        check(
            &format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/crio-ID.scope/container"
            ),
            Runtime::CriO,
            pod,
        );
        check(&format!("/kubepods/besteffort/pod{UID}/ID"), Runtime::Containerd, pod);
        check(&format!("/kubepods/pod{UID}/crio-ID"), Runtime::CriO, pod);
        check(
            &format!("/system.slice/containerd.service/kubepods-burstable-pod{under}.slice:cri-containerd:ID"),
            Runtime::Containerd,
            pod,
        );
        check(
            &format!("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-ID.scope"),
            Runtime::Containerd,
            pod,
        );
        check(&format!("/docker/{}/kubelet/kubepods/pod{UID}/ID", "9".repeat(64)), Runtime::Containerd, pod);
    }

    #[test]
    fn named_containers_keep_their_name() {
        let check = |path: &str, key: &str| assert_eq!(workload_of(&seen(path)).key.as_str(), key, "{path}");
        check("/machine.slice/systemd-nspawn@shop.service/payload/system.slice/nginx.service", "container:shop");
        check(r"/machine.slice/machine-shop\x2dweb.scope", "container:shop-web");
        check("/lxc.payload.shop/system.slice/nginx.service", "container:shop");
        check(&format!("/kubepods/pod{UID}"), &format!("pod:{UID}"));
        check("/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-42", "container:0123456789ab");
    }

    #[test]
    fn what_the_runtime_told_names_the_workload() {
        let check = |pod: Option<&str>, name: Option<&str>, key: &str| {
            let mut fact = seen("/kubepods/pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0/ID");
            fact.pod = pod.map(str::to_owned);
            fact.container_name = name.map(str::to_owned);
            assert_eq!(workload_of(&fact).key.as_str(), key);
        };
        check(None, Some("web"), "container:web");
        check(Some("shop/web-7d4b9c6f5-x2x8p"), Some("web"), "pod:shop/web");
        check(Some("shop/agent-x2x8p"), None, "pod:shop/agent");
        check(Some("shop/db-0"), None, "pod:shop/db");
        check(Some("shop/front-office"), None, "pod:shop/front-office");
        check(Some("solo"), None, "pod:/solo");
    }

    #[test]
    fn odd_paths_are_no_trouble() {
        for path in [
            "//",
            "/..",
            "/pod",
            "/kubepods-pod.slice",
            r"/machine-\x.scope",
            r"/machine-\xff.scope",
            "/user.slice/user-.slice",
            "/é/ü.scope",
            "/docker-short.scope",
        ] {
            let workload = workload_of(&seen(path));
            assert_eq!(workload.container_id, None, "{path}");
        }
    }
}
