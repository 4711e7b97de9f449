//! Surroundings in which a sensor may find itself, and what `breachline doctor` must say there.
//!
//! In: a guest's console. Out: how many scenes were played, and a line for each whose answer is not the expected one.

/// A scene: how it is set, and what the agent must answer.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Shell commands, in a mount namespace of their own.
    pub(super) set: &'static str,
    /// The exit code of `doctor --json`.
    pub(super) exit: i32,
    /// What its answer must contain, each.
    pub(super) says: &'static [&'static str],
}

const V1: &str = "umount /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/systemd; \
                  mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd";

/// Scenes of every ordinary boot.
pub(super) const SCENES: &[Scene] = &[
    Scene { name: "cgroup-v2", set: ":", exit: 0, says: &["\"active\""] },
    Scene {
        name: "cgroup-hybrid",
        set: "mkdir /sys/fs/cgroup/unified; mount -t cgroup2 none /sys/fs/cgroup/unified",
        exit: 0,
        says: &["\"active\""],
    },
    Scene {
        name: "cgroup-v1-and-an-own-mount-of-v2",
        set: "mkdir -p /run/breachline/cgroup; mount -t cgroup2 none /run/breachline/cgroup",
        exit: 0,
        says: &["\"active\""],
    },
    Scene {
        name: "no-cgroup-v2",
        set: ":",
        exit: 69,
        says: &[
            "no cgroup v2 hierarchy is mounted",
            "mount a cgroup v2 hierarchy and start the agent again",
            "\"active\"",
        ],
    },
    Scene { name: "no-btf", set: "mount -t tmpfs none /sys/kernel/btf", exit: 69, says: &["CONFIG_DEBUG_INFO_BTF"] },
];

/// Scenes that need a boot of their own: the kernel's words for it, and what is said then.
pub(super) const LOCKDOWN: &[Scene] = &[
    Scene { name: "lockdown=integrity", set: ":", exit: 0, says: &["\"active\""] },
    Scene { name: "lockdown=confidentiality", set: ":", exit: 69, says: &["lockdown"] },
];

impl Scene {
    /// The commands that play it.
    pub(super) fn script(&self) -> String {
        let legacy = self.name.starts_with("cgroup-hybrid") || self.name.starts_with("cgroup-v1");
        let before = match self.name {
            "no-cgroup-v2" => "umount /sys/fs/cgroup",
            _ if legacy => V1,
            _ => ":",
        };
        format!(
            "echo 'scene-begin {name}'\nunshare -m sh -c '{before}; {set}; exec /breachline doctor --json'\n\
             echo \"scene-end {name} $?\"\n",
            name = self.name,
            set = self.set
        )
    }

    /// What is wrong with its answer; `None` when nothing is.
    pub(super) fn complaint(&self, console: &str) -> Option<String> {
        let (begin, end) = (format!("scene-begin {}", self.name), format!("scene-end {} ", self.name));
        let played = console.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let Some((answer, rest)) = played else { return Some(format!("{}: was not played to its end", self.name)) };
        let exit = rest.lines().next().unwrap_or_default().trim();
        let silent = self.says.iter().find(|words| !answer.contains(**words));
        if exit == self.exit.to_string() && silent.is_none() {
            return None;
        }
        let lacks = silent.map(|words| format!(", does not say `{words}`")).unwrap_or_default();
        Some(format!("{}: doctor ended with {exit}, expected {}{lacks}: {}", self.name, self.exit, answer.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_held_against_the_scene() {
        let check = |console: &str, right: bool| {
            let complaint = SCENES[4].complaint(console);
            assert_eq!(complaint.is_none(), right, "{complaint:?}");
        };
        let said = "needs CONFIG_DEBUG_INFO_BTF";
        check(&format!("scene-begin no-btf\r\n{said}\r\nscene-end no-btf 69\r\n"), true);
        check(&format!("scene-begin no-btf\n{said}\nscene-end no-btf 0\n"), false);
        check("scene-begin no-btf\nnothing\nscene-end no-btf 69\n", false);
        check(&format!("scene-begin no-btf\n{said}\n"), false);
        check("", false);
    }
}
