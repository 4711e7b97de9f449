//! Debian's archive, asked through an apt state of our own: the system's package lists stay as they are, and packages of
//! other releases and machines can be had.
//!
//! In: what is wanted. Out: files below the target directory, kept for the next time. Signatures are checked by apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::bounded;
use super::catalogue::{Architecture, Kernel, candidates};
use crate::process::say;
use crate::workspace;

/// Releases that bring the kernels and the guests' programs.
const SOURCES: &[(&str, &str)] = &[
    ("debian", "bullseye"),
    ("debian-security", "bullseye-security"),
    ("debian", "bookworm"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie"),
    ("debian", "trixie-backports"),
];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Seconds for apt's lists (70 MB) and for one package (up to 50 MB).
const LISTS_SECONDS: u32 = 600;
const PACKAGE_SECONDS: u32 = 180;
/// Images for containers switch apt's own caches off, in files that are read after ours; without them each call reads
/// 100 MB of lists.
const CACHES: [&str; 4] = ["-o", "Dir::Cache::pkgcache=pkgcache.bin", "-o", "Dir::Cache::srcpkgcache=srcpkgcache.bin"];
/// How long lists are trusted: security updates replace packages, whose old files the mirror then no longer holds.
const LISTS_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// How long versions of a kernel are tried, the newest first, before it counts as not to be had: lists may name files that
/// the mirror does not hold (a refusal takes a second, a silent mirror [`PACKAGE_SECONDS`]).
const VERSIONS_TRIED_FOR: Duration = Duration::from_secs(300);

/// In an error: this kernel is not to be had, which says nothing about the agent.
#[derive(Debug)]
pub(super) struct Unobtainable;

impl std::fmt::Display for Unobtainable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the kernel cannot be had")
    }
}

/// The kernel's bootable image, fetched unless it is there.
///
/// # Errors
///
/// Names the packages that cannot be had, and why the newest cannot; it is [`Unobtainable`] then.
pub(super) fn kernel(kernel: &Kernel) -> Result<PathBuf> {
    let image = folder().join(kernel.name).join("vmlinuz");
    if image.exists() {
        return Ok(image);
    }
    let names = package_names()?;
    let candidates = candidates(kernel, names.lines());
    let (begun, mut refused) = (Instant::now(), None);
    for package in candidates.iter().take_while(|_| begun.elapsed() < VERSIONS_TRIED_FOR) {
        let unpacked = match unpacked(&[package], kernel.architecture) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        let found = image_in(&unpacked).with_context(|| format!("{package} holds no vmlinuz"))?;
        fs::create_dir_all(image.parent().unwrap_or(&unpacked))?;
        fs::rename(found, &image)?;
        fs::remove_dir_all(unpacked)?;
        return Ok(image);
    }
    let wanted = format!("{}*-cloud-{} (Debian {})", kernel.series, kernel.architecture.debian(), kernel.suite);
    let error = match refused {
        Some(error) => error.context(format!("no package {wanted} can be downloaded")),
        None => anyhow!("Debian's archive lists no package {wanted}"),
    };
    Err(error.context(Unobtainable))
}

/// The contents of packages (`name`, or `name=version`), unpacked into one folder that the caller moves or removes. One call of
/// apt for all: each takes a second to begin.
pub(super) fn unpacked(packages: &[&str], architecture: Architecture) -> Result<PathBuf> {
    lists()?;
    let folder = folder().join("download");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    say(format_args!("fetching {} ({})", packages.join(", "), architecture.debian()));
    let wanted: Vec<String> = packages
        .iter()
        .map(|package| match package.split_once('=') {
            Some((name, version)) => format!("{name}:{}={version}", architecture.debian()),
            None => format!("{package}:{}", architecture.debian()),
        })
        .collect();
    let (chdir, configured) = (format!("--chdir={}", folder.display()), configured());
    let mut words = vec!["env", &chdir, &configured, "apt-get", "download", "-qq"];
    words.extend(CACHES);
    words.extend(wanted.iter().map(String::as_str));
    bounded(PACKAGE_SECONDS, &words).with_context(|| format!("{} cannot be downloaded", wanted.join(", ")))?;
    let unpacked = folder.join("unpacked");
    for archive in files(&folder)? {
        bounded(PACKAGE_SECONDS, &["dpkg", "-x", &archive.to_string_lossy(), &unpacked.to_string_lossy()])?;
    }
    Ok(unpacked)
}

/// Where everything fetched lies.
pub(super) fn folder() -> PathBuf {
    workspace::target().join("kernels")
}

/// Every package that the lists name.
fn package_names() -> Result<String> {
    lists()?;
    bounded(60, &[&["env", &configured(), "apt-cache", "pkgnames"], &CACHES[..]].concat())
}

fn image_in(unpacked: &Path) -> Option<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_image = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    // In /boot, or since Linux 6.19 beside the modules.
    let modules = entries(unpacked.join("usr/lib/modules")).flat_map(entries);
    entries(unpacked.join("boot")).chain(modules).find(is_image)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<PathBuf> =
        fs::read_dir(folder)?.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    if files.is_empty() {
        bail!("nothing was downloaded into {}", folder.display());
    }
    Ok(files)
}

/// Makes the apt state and fetches its lists, unless that was done today. A release that cannot be fetched is told and
/// does not stop the others: a kernel that is missing because of it is said where it is wanted.
fn lists() -> Result<()> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let state = folder().join("apt");
    let fresh = state.join("fresh");
    if ASKED.swap(true, Ordering::Relaxed) || is_recent(&fresh) {
        return Ok(());
    }
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(part))?;
    }
    fs::write(state.join("status"), "")?;
    fs::write(state.join("sources.list"), sources())?;
    fs::write(state.join("conf"), configuration(&state.to_string_lossy()))?;
    say("fetching Debian's package lists (70 MB) for kernels of other releases");
    let update = ["env", &configured(), "apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any"];
    match bounded(LISTS_SECONDS, &update) {
        Ok(_) => fs::write(fresh, "")?,
        Err(error) => say(format_args!("not all of Debian's package lists could be fetched: {error:#}")),
    }
    Ok(())
}

fn is_recent(mark: &Path) -> bool {
    let age = mark.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age < LISTS_KEPT_FOR)
}

fn sources() -> String {
    let line = |(archive, suite): &(&str, &str)| {
        format!("deb [signed-by={KEYRING}] http://deb.debian.org/{archive} {suite} main\n")
    };
    SOURCES.iter().map(line).collect()
}

fn configuration(state: &str) -> String {
    format!(
        "APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; \"arm64\"; }};\nAPT::Sandbox::User \"root\";\n\
         Dir::State \"{state}\";\nDir::State::status \"{state}/status\";\nDir::State::Lists \"{state}/lists\";\n\
         Dir::Cache \"{state}/cache\";\nDir::Etc::sourcelist \"{state}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n\
         Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAcquire::http::Timeout \"30\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
    )
}

/// `env`'s word that makes apt read our configuration after the system's.
fn configured() -> String {
    format!("APT_CONFIG={}", folder().join("apt/conf").display())
}
