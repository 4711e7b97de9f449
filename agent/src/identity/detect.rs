//! What the machine shows of itself: firmware tables (DMI), what cloud-init noted at boot, the agent's own environment. In: files
//! below a root. Out: [`Found`]. Asks nobody.
//!
//! Facts: EC2's Nitro machines carry the instance id as DMI board asset tag (Amazon EC2 user guide, "Identify EC2 instances");
//! Compute Engine's product name is `Google Compute Engine`; Azure's chassis asset tag is the constant below (as cloud-init and
//! systemd-detect-virt test for it); cloud-init writes `instance-data.json` with the standardised keys under `v1`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::incident::exposure::Provider;

/// Azure's chassis asset tag.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";
/// Bytes of a file that are read; cloud-init's notes have some ten kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longest value: an identifier is shorter, and more would be something else.
const VALUE_MAX: usize = 256;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Which cloud.
    pub platform: Option<Provider>,
    /// Placeholder of the response steps to value.
    pub values: BTreeMap<String, String>,
}

/// Looks below `root` (`/`) and into the environment by `variable`.
#[must_use]
pub fn detect(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Found {
    let mut found = Found::default();
    found.firmware(root);
    found.cloud_init(root);
    found.environment(variable);
    found
}

impl Found {
    fn set(&mut self, name: &str, value: &str) {
        let value = value.trim();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte);
        // What a responder pastes must be one word and nothing else.
        if !value.is_empty() && value.len() <= VALUE_MAX && value.bytes().all(plain) {
            self.values.insert(name.to_owned(), value.to_owned());
        }
    }

    fn firmware(&mut self, root: &Path) {
        let dmi = |name: &str| read(&root.join("sys/class/dmi/id").join(name)).trim().to_owned();
        if dmi("sys_vendor") == "Amazon EC2" || dmi("product_version").contains("amazon") {
            self.platform = Some(Provider::AwsInstance);
            let tag = dmi("board_asset_tag");
            if tag.starts_with("i-") {
                self.set("instance-id", &tag);
            }
        } else if dmi("product_name") == "Google Compute Engine" {
            self.platform = Some(Provider::Gcp);
        } else if dmi("chassis_asset_tag") == AZURE_CHASSIS {
            self.platform = Some(Provider::Azure);
        }
        if self.platform.is_some() {
            let hostname = read(&root.join("etc/hostname"));
            self.set("instance", hostname.split('.').next().unwrap_or_default());
        }
    }

    fn cloud_init(&mut self, root: &Path) {
        let text = read(&root.join("run/cloud-init/instance-data.json"));
        let Ok(data) = serde_json::from_str::<Value>(&text) else { return };
        let told = |key: &str| data.get("v1").and_then(|v1| v1.get(key)).and_then(Value::as_str);
        let platform = match told("cloud_name").unwrap_or_default() {
            "aws" => Some(Provider::AwsInstance),
            "gce" => Some(Provider::Gcp),
            "azure" => Some(Provider::Azure),
            _ => None,
        };
        self.platform = self.platform.or(platform);
        let names = [("region", "region"), ("availability_zone", "zone"), ("instance_id", "instance-id")];
        for (key, name) in names {
            // Elsewhere than in a known cloud cloud-init makes up an instance id.
            if let Some(value) = told(key).filter(|_| platform.is_some() || key != "instance_id") {
                self.set(name, value);
            }
        }
    }

    fn environment(&mut self, variable: impl Fn(&str) -> Option<String>) {
        let names = [
            ("AWS_REGION", "region"),
            ("AWS_DEFAULT_REGION", "region"),
            ("NODE_NAME", "node"),
            ("CLUSTER_NAME", "cluster"),
            ("GOOGLE_CLOUD_PROJECT", "account"),
        ];
        for (key, name) in names.into_iter().rev() {
            if let Some(value) = variable(key) {
                self.set(name, &value);
            }
        }
    }
}

fn read(path: &Path) -> String {
    let mut text = Vec::new();
    // A file that is not there tells nothing, which is the usual case.
    let _ = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
        platform: Option<Provider>,
        expected: &[(&str, &str)],
    ) {
        let root = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = detect(root.path(), variable);
        let values: Vec<_> = found.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!((found.platform, values.as_slice()), (platform, expected));
    }

    #[test]
    fn each_cloud_is_known_by_its_firmware_or_by_what_was_noted_at_boot() {
        check(&[], &[], None, &[]);
        check(
            &[
                ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"),
                ("sys/class/dmi/id/board_asset_tag", "i-0aa11bb22cc33dd44\n"),
                (
                    "run/cloud-init/instance-data.json",
                    r#"{"v1":{"cloud_name":"aws","region":"eu-north-1","availability_zone":"eu-north-1b"}}"#,
                ),
            ],
            &[],
            Some(Provider::AwsInstance),
            &[("instance-id", "i-0aa11bb22cc33dd44"), ("region", "eu-north-1"), ("zone", "eu-north-1b")],
        );
        check(
            &[
                ("sys/class/dmi/id/product_name", "Google Compute Engine\n"),
                ("etc/hostname", "web-1.c.shop.internal\n"),
            ],
            &[("GOOGLE_CLOUD_PROJECT", "shop-prod")],
            Some(Provider::Gcp),
            &[("account", "shop-prod"), ("instance", "web-1")],
        );
        check(
            &[("sys/class/dmi/id/chassis_asset_tag", AZURE_CHASSIS)],
            &[("AWS_DEFAULT_REGION", "a"), ("AWS_REGION", "b")],
            Some(Provider::Azure),
            &[("region", "b")],
        );
    }

    #[test]
    fn what_is_no_plain_word_is_not_taken() {
        check(
            &[(
                "run/cloud-init/instance-data.json",
                r#"{"v1":{"cloud_name":"none","instance_id":"iid-made-up","region":"a; reboot"}}"#,
            )],
            &[("NODE_NAME", "$(id)"), ("CLUSTER_NAME", "")],
            None,
            &[],
        );
        check(&[("run/cloud-init/instance-data.json", "[[[")], &[], None, &[]);
    }
}
