//! The supported kernels: oldest, newest, and what Debian's releases run. A package's exact name changes with each security
//! update, so a series is named and the newest of it is taken.

/// Processor architecture, as Debian names it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
}

impl Architecture {
    /// Debian's name.
    pub(crate) const fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// A kernel to try.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// What its package's name begins with.
    pub(crate) series: &'static str,
    /// The Debian release that brings it, for people.
    pub(crate) suite: &'static str,
    /// For which machine.
    pub(crate) architecture: Architecture,
}

impl Kernel {
    const fn new(name: &'static str, series: &'static str, suite: &'static str, architecture: Architecture) -> Self {
        Self { name, series, suite, architecture }
    }
}

/// All of them.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel::new("5.10", "linux-image-5.10.0-", "11 bullseye", Architecture::Amd64),
    Kernel::new("6.1", "linux-image-6.1.0-", "12 bookworm", Architecture::Amd64),
    Kernel::new("6.12", "linux-image-6.12.", "13 trixie", Architecture::Amd64),
    Kernel::new("6.18", "linux-image-6.18.", "13 trixie-backports", Architecture::Amd64),
    Kernel::new("7.3", "linux-binary-7.3.", "13 trixie-backports", Architecture::Amd64),
    Kernel::new("5.10-arm64", "linux-image-5.10.0-", "11 bullseye", Architecture::Arm64),
    Kernel::new("6.1-arm64", "linux-image-6.1.0-", "12 bookworm", Architecture::Arm64),
    Kernel::new("6.12-arm64", "linux-image-6.12.", "13 trixie", Architecture::Arm64),
];

/// Of all package names those of this kernel, the newest first.
pub(crate) fn candidates<'n>(kernel: &Kernel, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let end = format!("-cloud-{}", kernel.architecture.debian());
    // A backport to an older release (`~deb11`) carries its name in the version: the release's own comes first.
    let own = |name: &&str| name.starts_with(kernel.series) && name.ends_with(&end) && !name.contains("0.deb");
    let mut found: Vec<&str> = names.filter(own).collect();
    found.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
    found.dedup();
    found
}

/// The numbers in a name, in order: 6.12.107 is newer than 6.12.95.
fn numbers(name: &str) -> Vec<u64> {
    let digits = name.split(|letter: char| !letter.is_ascii_digit()).filter(|part| !part.is_empty());
    digits.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_comes_first() {
        let names = [
            "linux-image-6.12.95+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64-dbg",
            "linux-image-6.12.107+deb13-cloud-arm64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
        ];
        let check = |name: &str, expected: &[&str]| {
            let kernel = KERNELS.iter().find(|kernel| kernel.name == name).expect("a kernel");
            assert_eq!(candidates(kernel, names.into_iter()), expected, "{name}");
        };
        check("6.12", &[names[1], names[0]]);
        check("6.12-arm64", &[names[3]]);
        check("6.1", &[names[4]]);
        check("7.3", &[]);
    }
}
