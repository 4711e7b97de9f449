//! The container image, from nothing: one layer with the binary, its config and the folders it mounts onto.
//!
//! Out: an OCI image layout in a tar file (OCI image specification 1.0.2) that also carries `manifest.json`, so that
//! `docker load` of any age takes it as well as containerd and podman. No registry and no base image are involved.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::archive::Tree;
use super::{Release, sha256};
use crate::process::{capture, command};

/// What `packaging/kubernetes/daemonset.yaml` asks for.
const REPOSITORY: &str = "docker.io/breachline/breachline";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Builds it.
pub(super) fn build(release: &Release) -> Result<PathBuf> {
    let name = name(release);
    let layer = layer(release)?;
    let tree = Tree::new(release.folder.join("image"))?;
    let blob = |content: &[u8]| -> Result<(String, usize)> {
        let digest = sha256(content);
        tree.add(&format!("blobs/sha256/{digest}"), content, 0o644)?;
        Ok((digest, content.len()))
    };

    let (layer_digest, layer_size) = blob(&layer)?;
    let (config_digest, config_size) = blob(&bytes(&image_config(release, &layer_digest)?)?)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &config_digest, config_size),
        "layers": [descriptor(LAYER_TYPE, &layer_digest, layer_size)],
    });
    let (manifest_digest, manifest_size) = blob(&bytes(&manifest)?)?;

    tree.add("oci-layout", bytes(&json!({"imageLayoutVersion": "1.0.0"}))?, 0o644)?;
    tree.add("index.json", bytes(&index(&name, release.version, &manifest_digest, manifest_size))?, 0o644)?;
    let blob_path = |digest: &str| format!("blobs/sha256/{digest}");
    let docker = json!([{
        "Config": blob_path(&config_digest), "RepoTags": [name], "Layers": [blob_path(&layer_digest)],
    }]);
    tree.add("manifest.json", bytes(&docker)?, 0o644)?;

    let archive = path(release);
    tree.pack(&archive, &release.epoch)?;
    Ok(archive)
}

/// What it is called once imported.
pub(super) fn name(release: &Release) -> String {
    format!("{REPOSITORY}:{}", release.version)
}

/// Where its archive lies.
pub(super) fn path(release: &Release) -> PathBuf {
    release.folder.join(format!("breachline_{}_amd64.image.tar", release.version))
}

/// The one layer. Its folders are the mount points of the DaemonSet: a read-only root cannot grow them later.
fn layer(release: &Release) -> Result<Vec<u8>> {
    let tree = Tree::new(release.folder.join("layer"))?;
    tree.add("usr/bin/breachline", fs::read(&release.binary)?, 0o755)?;
    tree.add("etc/breachline/breachline.toml", &release.config, 0o644)?;
    for folder in ["etc/ssl/certs", "proc", "run/breachline", "sys", "tmp", "var/lib/breachline", "var/log"] {
        tree.add_folder(folder)?;
    }
    let archive = release.folder.join("layer.tar");
    tree.pack(&archive, &release.epoch)?;
    let layer = fs::read(&archive)?;
    fs::remove_file(archive)?;
    Ok(layer)
}

/// The layer is not compressed, so its digest is its diff id too.
fn image_config(release: &Release, layer_digest: &str) -> Result<Value> {
    let created =
        capture(command("date").args(["--utc", "--iso-8601=seconds", "--date"]).arg(format!("@{}", release.epoch)))?;
    let config = "/etc/breachline/breachline.toml";
    Ok(json!({
        "created": created.trim().replace("+00:00", "Z"),
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/breachline"],
            "Cmd": ["run", "--config", config],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "breachline",
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": created.trim().replace("+00:00", "Z"), "created_by": "cargo xtask dist"}],
    }))
}

fn index(name: &str, version: &str, manifest_digest: &str, manifest_size: usize) -> Value {
    let mut manifest = descriptor(MANIFEST_TYPE, manifest_digest, manifest_size);
    manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
    // containerd and docker read the first, podman and skopeo the second.
    manifest["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": version});
    json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [manifest]})
}

fn descriptor(media_type: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_daemonset_asks_for_this_image() {
        let manifest = fs::read_to_string(workspace::root().join("packaging/kubernetes/daemonset.yaml")).unwrap();
        let image = format!("image: {REPOSITORY}:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(manifest.contains(&image), "no `{}` in the DaemonSet", image.trim());
    }
}
