//! What each sense can do on this kernel. A sensor that does not say it is blind is worse than none.

use serde::Serialize;

use super::attach::{self, Attached};
use super::{Config, KernelError};

/// One sense's verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenseVerdict {
    /// `exec`, `lineage`, `connect`, `socket`, `metadata`, `names`, `inbound`, `raw`; and `restart`: whether they outlive the
    /// agent.
    pub sense: &'static str,
    /// What it can.
    #[serde(flatten)]
    pub state: SenseState,
    /// How it does what it can, where that is less than one might think.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

/// How a sense does it, where that is not plain from its name.
fn note(sense: &str) -> &'static str {
    match sense {
        "inbound" => {
            "no hook at the accept without trampolines or kprobes: told from the connections that a shell's parent holds and \
             had just received something on"
        }
        _ => "",
    }
}

/// What a sense can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SenseState {
    /// Everything.
    Active,
    /// It works, without these details.
    Degraded {
        /// Kernel fields or hooks that are not there.
        missing: Vec<String>,
    },
    /// It does not work.
    Unavailable {
        /// What the kernel said.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

/// What a sense is made of.
struct Sense {
    name: &'static str,
    /// Its programs. It works while any of them does.
    programs: &'static [&'static str],
    /// Kernel structs whose fields are its details.
    structs: &'static [&'static str],
}

const SENSES: [Sense; 8] = [
    Sense {
        name: "exec",
        programs: &["sched_process_exec"],
        structs: &[
            "task_struct",
            "cred",
            "nsproxy",
            "mnt_namespace",
            "net",
            "pid_namespace",
            "mm_struct",
            "file",
            "inode",
            "super_block",
            "dentry",
            "vfsmount",
            "mount",
            "fs_struct",
            "files_struct",
            "fdtable",
            "linux_binprm",
            "socket",
        ],
    },
    Sense {
        name: "lineage",
        programs: &["sched_process_fork", "sched_process_exit"],
        structs: &["task_struct", "signal_struct"],
    },
    Sense {
        name: "connect",
        programs: &["connect4", "connect6", "sendmsg4", "sendmsg6"],
        structs: &["mm_struct", "inode", "super_block"],
    },
    // Connections tell their end; of datagrams the packet programs count what the release of their socket tells.
    Sense {
        name: "socket",
        programs: &["inet_sock_set_state", "released", "sent", "received"],
        structs: &["sock", "tcp_sock", "net"],
    },
    // A contact with an endpoint is a connect; what is asked there, the packet program sees.
    Sense { name: "metadata", programs: &["connect4", "connect6", "sent", "received"], structs: &[] },
    // Answers of name servers, and the servers that TLS hellos name.
    Sense { name: "names", programs: &["received", "sent"], structs: &[] },
    // Which connection a process was serving: read from its parent's descriptors when a program starts, on every kernel. The
    // accept itself would say it more exactly; it has no hook without trampolines or kprobes.
    Sense {
        name: "inbound",
        programs: &["sched_process_exec"],
        structs: &["files_struct", "fdtable", "socket", "sock", "inet_connection_sock"],
    },
    // `cap_capable` (6.14) stands in for the hook that AF_PACKET sockets lack.
    Sense { name: "raw", programs: &["raw_socket", "cap_capable"], structs: &["pt_regs"] },
];

/// Fields without which a process has no identity.
const IDENTITY: [&str; 4] =
    ["task_struct.tgid", "task_struct.group_leader", "task_struct.start_boottime", "task_struct.real_parent"];

/// The identity field that is missing, if one is.
pub(super) fn missing_identity(missing: &[&'static str]) -> Option<&'static str> {
    missing.iter().copied().find(|field| IDENTITY.contains(field))
}

/// Verdicts from what the kernel answered.
pub(super) fn from_attached(attached: &[Attached], missing: &[&'static str]) -> Vec<SenseVerdict> {
    let verdict = |sense: &Sense| {
        let state = judge(sense, attached, missing);
        SenseVerdict { sense: sense.name, state, note: note(sense.name) }
    };
    SENSES.iter().map(verdict).collect()
}

fn judge(sense: &Sense, attached: &[Attached], missing: &[&'static str]) -> SenseState {
    // In the sense's own order: the first one's refusal is the one that is told.
    let of = |name: &&str| attached.iter().find(|program| program.program == *name);
    let own: Vec<&Attached> = sense.programs.iter().filter_map(of).collect();
    let refused: Vec<(&str, &str)> =
        own.iter().filter_map(|program| Some((program.program, program.outcome.as_ref().err()?.as_str()))).collect();
    if refused.len() == own.len() {
        let (program, reason) = refused.first().copied().unwrap_or((sense.name, "not in the object"));
        return SenseState::Unavailable { reason: format!("{program}: {reason}"), remedy: remedy(reason) };
    }
    let hooks = refused.iter().map(|(program, reason)| match detail(sense.name, program) {
        "" => format!("{program} ({reason})"),
        detail => format!("{detail}: {program} ({reason})"),
    });
    let fields =
        missing.iter().filter(|field| field.split_once('.').is_some_and(|(root, _)| sense.structs.contains(&root)));
    let missing: Vec<String> = hooks.chain(fields.map(ToString::to_string)).collect();
    if missing.is_empty() { SenseState::Active } else { SenseState::Degraded { missing } }
}

/// What a sense cannot tell without one of its programs, where that is not plain from the program's name.
fn detail(sense: &str, program: &str) -> &'static str {
    match (sense, program) {
        ("socket", "inet_sock_set_state") => "listeners and the ends of connections",
        ("socket", "released") => "the ends of UDP contacts",
        ("socket", "sent") => "how much was sent over UDP",
        ("socket", "received") => "how much was received over UDP, and whether at all",
        _ => "",
    }
}

/// What to do about a refusal.
fn remedy(reason: &str) -> String {
    let text = if reason.contains("cgroup v2") {
        "mount a cgroup v2 hierarchy and start the agent again"
    } else if reason.contains("bpf_probe_read") {
        // The verifier's word for a helper that it does not offer (`unknown func`, from 6.8 on `cannot use helper`).
        "this kernel's lockdown mode `confidentiality` keeps kernel memory from BPF programs: boot with lockdown=integrity"
    } else if reason.contains("ermission") || reason.contains("not permitted") {
        "run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; a container needs them too"
    } else {
        "use a kernel of 5.10 or later with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF"
    };
    text.to_owned()
}

/// Why exec, without which there is no agent, is not there; `None` when it is.
pub(super) fn exec_refused(verdicts: &[SenseVerdict]) -> Option<String> {
    verdicts.iter().find(|verdict| verdict.sense == "exec").and_then(|verdict| match &verdict.state {
        SenseState::Unavailable { reason, remedy } => Some(format!("{reason}; {remedy}")),
        SenseState::Active | SenseState::Degraded { .. } => None,
    })
}

/// What this kernel can, for `doctor`: loads and attaches every program for a moment and reads nothing.
#[must_use]
pub fn probe() -> Vec<SenseVerdict> {
    match try_all() {
        Ok(verdicts) => verdicts,
        Err(error) => {
            let reason = error.to_string();
            let remedy = remedy(&reason);
            let state = SenseState::Unavailable { reason, remedy };
            let verdict = |sense: &Sense| SenseVerdict { sense: sense.name, state: state.clone(), note: "" };
            SENSES.iter().map(verdict).collect()
        }
    }
}

fn try_all() -> Result<Vec<SenseVerdict>, KernelError> {
    let layout = super::known_layout()?;
    let mut ebpf = super::load_object(&Config::default(), &layout)?;
    Ok(from_attached(&attach::all(&mut ebpf)?, &layout.missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(refused: &[(&'static str, &str)]) -> Vec<Attached> {
        let programs = SENSES.iter().flat_map(|sense| sense.programs.iter().copied());
        let outcome = |program: &str| match refused.iter().find(|(name, _)| *name == program) {
            Some((_, reason)) => Err((*reason).to_owned()),
            None => Ok(()),
        };
        programs.map(|program| Attached { program, outcome: outcome(program), loading: None }).collect()
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |refused: &[(&'static str, &str)], missing: &[&'static str], sense: &str, expected: SenseState| {
            let verdicts = from_attached(&attached(refused), missing);
            let verdict = verdicts.iter().find(|verdict| verdict.sense == sense).expect("a verdict");
            assert_eq!(verdict.state, expected);
        };
        check(&[], &[], "exec", SenseState::Active);
        check(&[], &["inode.i_nlink"], "exec", SenseState::Degraded { missing: vec!["inode.i_nlink".to_owned()] });
        check(&[], &["inode.i_nlink"], "socket", SenseState::Active);
        check(
            &[("sendmsg6", "EINVAL")],
            &[],
            "connect",
            SenseState::Degraded { missing: vec!["sendmsg6 (EINVAL)".to_owned()] },
        );
        check(
            &[("released", "EINVAL")],
            &[],
            "socket",
            SenseState::Degraded { missing: vec!["the ends of UDP contacts: released (EINVAL)".to_owned()] },
        );
        let reason = "no cgroup v2 hierarchy is mounted";
        check(
            &[("connect4", reason), ("connect6", reason), ("sent", reason), ("received", reason)],
            &[],
            "metadata",
            SenseState::Unavailable {
                reason: format!("connect4: {reason}"),
                remedy: "mount a cgroup v2 hierarchy and start the agent again".to_owned(),
            },
        );
        check(
            &[("cap_capable", "unknown BTF type"), ("raw_socket", reason)],
            &[],
            "raw",
            SenseState::Unavailable {
                reason: format!("raw_socket: {reason}"),
                remedy: "mount a cgroup v2 hierarchy and start the agent again".to_owned(),
            },
        );
    }

    #[test]
    fn a_refusal_has_its_remedy() {
        let check = |reason: &str, expected: &str| assert!(remedy(reason).contains(expected), "{}", remedy(reason));
        check("Invalid argument (unknown func bpf_probe_read#4)", "lockdown=integrity");
        check("program of this type cannot use helper bpf_probe_read_kernel#113", "lockdown=integrity");
        check("Operation not permitted (os error 1)", "CAP_BPF");
        check("no cgroup v2 hierarchy is mounted", "mount a cgroup v2 hierarchy");
        check("Invalid argument", "5.10 or later");
    }

    #[test]
    fn identity_is_not_a_detail() {
        assert_eq!(missing_identity(&["inode.i_nlink", "task_struct.tgid"]), Some("task_struct.tgid"));
        assert_eq!(missing_identity(&["inode.i_nlink"]), None);
    }
}
