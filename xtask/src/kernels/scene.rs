//! Surroundings in which a sensor may find itself: what `breachline doctor` must say there, and which ways are still seen.
//!
//! In: a guest's console. Out: a cell for each scene: `told` when both are as they must be.

use super::table::Cell;

/// The group of these cells in the table.
const GROUP: &str = "surroundings";

/// A scene: how it is set, and what the agent must answer.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Shell commands, in a mount namespace of their own.
    set: &'static str,
    /// The exit code of `doctor`.
    exit: i32,
    /// What its answer must contain, each.
    says: &'static [&'static str],
    /// Ways that are seen for what they are all the same; none where the agent does not run, or all were walked before.
    seen: &'static str,
}

const V1: &str = "umount /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/systemd; \
                  mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd; ";
/// One of each stage of the chain.
const CHAIN: &str = "execve double-fork connect imds-v1";

/// Scenes of every ordinary boot.
pub(super) const SCENES: &[Scene] = &[
    Scene { name: "cgroup-v2", set: "", exit: 0, says: &["This kernel can do"], seen: "" },
    Scene {
        name: "cgroup-hybrid",
        set: "mkdir /sys/fs/cgroup/unified; mount -t cgroup2 none /sys/fs/cgroup/unified",
        exit: 0,
        says: &["This kernel can do"],
        seen: CHAIN,
    },
    Scene {
        name: "cgroup-v1-own-mount",
        set: "mkdir -p /run/breachline/cgroup; mount -t cgroup2 none /run/breachline/cgroup",
        exit: 0,
        says: &["This kernel can do"],
        seen: CHAIN,
    },
    Scene {
        name: "no-cgroup-v2",
        set: "umount /sys/fs/cgroup",
        exit: 69,
        says: &[
            "no cgroup v2 hierarchy is mounted",
            "mount a cgroup v2 hierarchy and start the agent again",
            "Still seen here: exec, lineage, socket, inbound",
            "Not seen: connect, metadata, names",
        ],
        seen: "execve double-fork",
    },
    Scene {
        name: "no-btf",
        set: "mount -t tmpfs none /sys/kernel/btf",
        exit: 69,
        says: &["CONFIG_DEBUG_INFO_BTF", "Nothing is seen here"],
        seen: "",
    },
];

/// Scenes that need a boot of their own: the kernel's words for it, and what is said then.
pub(super) const LOCKDOWN: &[Scene] = &[
    Scene { name: "lockdown=integrity", set: "", exit: 0, says: &["This kernel can do"], seen: CHAIN },
    Scene {
        name: "lockdown=confidentiality",
        set: "",
        exit: 69,
        says: &["lockdown=integrity", "Nothing is seen here"],
        seen: "",
    },
];

impl Scene {
    /// The commands that play it.
    pub(super) fn script(&self) -> String {
        let legacy = if self.name == "cgroup-hybrid" || self.name == "cgroup-v1-own-mount" { V1 } else { "" };
        let walk = match self.seen {
            "" => String::new(),
            ways => format!("; /ways {ways}; echo scene-walked $?"),
        };
        let set = if self.set.is_empty() { ":" } else { self.set };
        format!(
            "echo 'scene-begin {name} '\nunshare -m sh -c '{legacy}{set}; /breachline doctor; echo scene-exit $?{walk}'\n\
             echo 'scene-end {name}'\n",
            name = self.name,
        )
    }

    /// What came of it.
    pub(super) fn cell(&self, console: &str, column: &str, kernel: &str) -> Cell {
        let complaint = self.complaint(console);
        Cell {
            way: self.name.to_owned(),
            group: GROUP.to_owned(),
            kernel: kernel.to_owned(),
            expected: "told".to_owned(),
            seen: if complaint.is_none() { "told" } else { "wrong" }.to_owned(),
            note: complaint.unwrap_or_default(),
            column: column.to_owned(),
        }
    }

    /// What is wrong with its answer; `None` when nothing is.
    fn complaint(&self, console: &str) -> Option<String> {
        let (begin, end) = (format!("scene-begin {} ", self.name), format!("scene-end {}", self.name));
        let played = console.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let Some((answer, _)) = played else { return Some("was not played to its end".to_owned()) };
        let number = |mark: &str| answer.split_once(mark).and_then(|(_, rest)| rest.lines().next()).map(str::trim);
        let exit = number("scene-exit ").unwrap_or_default();
        let mut wrong = Vec::new();
        if exit != self.exit.to_string() {
            wrong.push(format!("doctor ended with {exit}, expected {}", self.exit));
        }
        wrong.extend(
            self.says.iter().filter(|words| !answer.contains(**words)).map(|words| format!("does not say `{words}`")),
        );
        if !self.seen.is_empty() && number("scene-walked ") != Some("0") {
            wrong.push(format!("not all seen of {}", self.seen));
        }
        (!wrong.is_empty()).then(|| format!("{}: {}", wrong.join(", "), answer.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_held_against_the_scene() {
        let check = |name: &str, console: &str, right: bool| {
            let scene = SCENES.iter().chain(LOCKDOWN).find(|scene| scene.name == name).expect("a scene");
            let cell = scene.cell(console, "old", "5.10");
            assert_eq!(cell.as_expected(), right, "{cell:?}");
        };
        let said = "needs CONFIG_DEBUG_INFO_BTF\r\nNothing is seen here.";
        check("no-btf", &format!("scene-begin no-btf \r\n{said}\r\nscene-exit 69\r\nscene-end no-btf\r\n"), true);
        check("no-btf", &format!("scene-begin no-btf \n{said}\nscene-exit 0\nscene-end no-btf\n"), false);
        check("no-btf", "scene-begin no-btf \nnothing\nscene-exit 69\nscene-end no-btf\n", false);
        check("no-btf", &format!("scene-begin no-btf \n{said}\nscene-exit 69\n"), false);
        check("no-btf", "", false);
        let whole = "scene-begin cgroup-hybrid \nThis kernel can do all of it.\nscene-exit 0\nscene-walked ";
        check("cgroup-hybrid", &format!("{whole}0\nscene-end cgroup-hybrid\n"), true);
        check("cgroup-hybrid", &format!("{whole}1\nscene-end cgroup-hybrid\n"), false);
        check(
            "cgroup-hybrid",
            &format!("{}\nscene-end cgroup-hybrid\n", whole.trim_end_matches("scene-walked ")),
            false,
        );
    }
}
