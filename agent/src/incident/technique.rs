//! ATT&CK techniques that the chain can name: identifiers and names as of ATT&CK v18.1 (November 2025).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::event::MetadataPath;
use crate::evidence::{HostFinding, ProgramClass};

/// A technique: identifier and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Technique {
    /// For example `T1190`.
    pub id: Cow<'static, str>,
    /// Its name.
    pub name: Cow<'static, str>,
}

impl Technique {
    /// The request that broke in.
    pub const EXPLOIT_PUBLIC_FACING: Self = Self::named("T1190", "Exploit Public-Facing Application");
    /// A shell.
    pub const UNIX_SHELL: Self = Self::named("T1059.004", "Unix Shell");
    /// An interpreter, whichever.
    pub const INTERPRETER: Self = Self::named("T1059", "Command and Scripting Interpreter");
    /// python.
    pub const PYTHON: Self = Self::named("T1059.006", "Python");
    /// node, deno, bun.
    pub const JAVASCRIPT: Self = Self::named("T1059.007", "JavaScript");
    /// curl, wget and the like.
    pub const TOOL_TRANSFER: Self = Self::named("T1105", "Ingress Tool Transfer");
    /// A program that has no file.
    pub const REFLECTIVE_LOADING: Self = Self::named("T1620", "Reflective Code Loading");
    /// Credentials of the instance, task or pod.
    pub const METADATA_API: Self = Self::named("T1552.005", "Cloud Instance Metadata API");
    /// Reading what the instance is, short of credentials.
    pub const INFRASTRUCTURE_DISCOVERY: Self = Self::named("T1580", "Cloud Infrastructure Discovery");
    /// Contact with an external peer.
    pub const APPLICATION_LAYER_PROTOCOL: Self = Self::named("T1071", "Application Layer Protocol");
    /// A shell whose descriptors are a socket.
    pub const NON_APPLICATION_LAYER: Self = Self::named("T1095", "Non-Application Layer Protocol");
    /// A contact on a port that no common service uses.
    pub const NON_STANDARD_PORT: Self = Self::named("T1571", "Non-Standard Port");

    const fn named(id: &'static str, name: &'static str) -> Self {
        Self { id: Cow::Borrowed(id), name: Cow::Borrowed(name) }
    }

    /// The technique of a finding on the host; `exe_path` tells interpreters apart.
    #[must_use]
    pub fn of_finding(finding: &HostFinding, exe_path: &str) -> Self {
        match finding {
            HostFinding::Spawn { class: ProgramClass::Shell, .. } => Self::UNIX_SHELL,
            HostFinding::Spawn { class: ProgramClass::Interpreter, .. } => Self::of_interpreter(exe_path),
            HostFinding::Spawn { class: ProgramClass::TransferTool, .. } => Self::TOOL_TRANSFER,
            HostFinding::FilelessExec => Self::REFLECTIVE_LOADING,
            HostFinding::Metadata { path: MetadataPath::Benign, .. } => Self::INFRASTRUCTURE_DISCOVERY,
            HostFinding::Metadata { .. } => Self::METADATA_API,
            HostFinding::RawSocket { .. } => Self::NON_APPLICATION_LAYER,
        }
    }

    /// The technique of a contact with an external peer on `port`.
    #[must_use]
    pub const fn of_contact(port: u16) -> Self {
        match port {
            53 | 80 | 123 | 443 | 853 | 8080 | 8443 => Self::APPLICATION_LAYER_PROTOCOL,
            _ => Self::NON_STANDARD_PORT,
        }
    }

    fn of_interpreter(exe_path: &str) -> Self {
        let name = exe_path.rsplit('/').next().unwrap_or(exe_path);
        if name.starts_with("python") || name.starts_with("pypy") {
            Self::PYTHON
        } else if ["node", "deno", "bun"].iter().any(|family| name.starts_with(family)) {
            Self::JAVASCRIPT
        } else {
            Self::INTERPRETER
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_told_apart_by_their_file() {
        let check = |path: &str, id: &str| {
            let spawn = HostFinding::Spawn { class: ProgramClass::Interpreter, socket_stdio: false, fileless: false };
            assert_eq!(Technique::of_finding(&spawn, path).id, id, "{path}");
        };
        check("/usr/bin/python3.11", "T1059.006");
        check("/usr/local/bin/node", "T1059.007");
        check("/usr/bin/perl", "T1059");
        check("", "T1059");
    }
}
