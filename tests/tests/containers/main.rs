//! The senses, workloads and lineages of real containers: containerd's and podman's, of root, of a user without any right, and in
//! user namespaces; the ways around walked in each; one that lives for a moment; a program started in a running one.
//!
//! Needs root, containerd, runc and podman. The image is made here of this machine's own files; no registry is asked. Traffic
//! stays in namespaces of the containers.

mod image;
mod runtime;
mod watcher;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use runtime::{Containerd, Podman, Scratch};
use watcher::Watcher;

/// Every test watches the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether this is root; says that the test is skipped when not.
fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn with_scratch(body: impl FnOnce(&Scratch) -> Result<()>) -> Result<()> {
    if !root() {
        return Ok(());
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    body(&Scratch::make()?)
}

/// Walks every way in a container that `command` starts as `workload`; what is barred there must be among `bars`.
fn walk(scratch: &Scratch, workload: &str, command: &str, bars: &[&str]) -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_ways"))
        .args(["--json", "--within", workload])
        .arg(scratch.root())
        .arg(command)
        .output()
        .context("cannot run ways")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut odd = Vec::new();
    for line in said.lines() {
        let cell: serde_json::Value = serde_json::from_str(line)?;
        let text = |field: &str| cell[field].as_str().unwrap_or_default().to_owned();
        if text("way").is_empty() {
            continue; // what it took to load the programs
        }
        if text("seen") != text("expected") && text("seen") != "barred" {
            odd.push(line.to_owned());
        }
        seen.entry(text("seen")).or_default().push(text("way"));
    }
    ensure!(odd.is_empty() && output.status.success(), "{workload}:\n{}\n{errors}", odd.join("\n"));
    let barred = seen.remove("barred").unwrap_or_default();
    ensure!(barred.iter().all(|way| bars.contains(&way.as_str())), "{workload}: barred are {barred:?}");
    let counts: Vec<String> = seen.iter().map(|(kind, ways)| format!("{} {kind}", ways.len())).collect();
    eprintln!("{workload}: {}, {} barred", counts.join(", "), barred.len());
    Ok(())
}

#[test]
fn no_way_leads_around_in_a_container_of_containerd() -> Result<()> {
    with_scratch(|scratch| {
        let containerd = Containerd::start(scratch)?;
        walk(scratch, "container:shop", &containerd.run("shop", "--privileged"), &[])
    })
}

#[test]
fn no_way_leads_around_in_a_user_namespace_of_containerd() -> Result<()> {
    with_scratch(|scratch| {
        let containerd = Containerd::start(scratch)?;
        let mapped = "--privileged --uidmap 0:200000:65536 --gidmap 0:200000:65536";
        walk(scratch, "container:shop-mapped", &containerd.run("shop-mapped", mapped), IN_A_USER_NAMESPACE)
    })
}

#[test]
fn no_way_leads_around_in_a_container_of_podman() -> Result<()> {
    with_scratch(|scratch| {
        let podman = Podman::of_root(scratch)?;
        walk(scratch, "container:shop", &podman.run("shop", "--privileged"), &[])
    })
}

#[test]
fn no_way_leads_around_in_a_rootless_container_of_podman() -> Result<()> {
    with_scratch(|scratch| {
        let podman = Podman::of_nobody(scratch)?;
        walk(scratch, "container:shop", &podman.run("shop", "--privileged"), IN_A_USER_NAMESPACE)
    })
}

/// What a user namespace may not do although it is its own root.
const IN_A_USER_NAMESPACE: &[&str] = &[];

/// A container that is gone before anybody can look at it, and a program started in one that runs.
#[test]
fn a_moment_is_enough_and_guests_are_told_apart() -> Result<()> {
    with_scratch(|scratch| {
        let containerd = Containerd::start(scratch)?;
        let root = Podman::of_root(scratch)?;
        let nobody = Podman::of_nobody(scratch)?;
        let mut watcher = Watcher::load()?;
        for (runtime, run) in [
            ("containerd", containerd.run("moment", "")),
            ("podman", root.run("moment", "")),
            ("podman without root", nobody.run("moment", "")),
        ] {
            // The shell lives for 50 ms; what it starts is found by its argument.
            let mark = format!("mark={}", runtime.replace(' ', "-"));
            shell(&format!("{run} /bin/sh -c '/bin/busybox usleep 50000; /bin/busybox true {mark}'"))?;
            let place = watcher.place_of(&mark)?;
            ensure!(place.workload.key.as_str() == "container:moment", "{runtime}: {place:?}");
            let line: Vec<&str> = place.lineage.iter().map(|node| &*node.exe_path).collect();
            let monitor = line.iter().any(|path| path.ends_with("conmon") || path.contains("containerd-shim"));
            ensure!(monitor, "{runtime}: {line:?} has no monitor");
        }
        for (runtime, start, exec, end) in [
            ("containerd", containerd.start_asleep("guest"), containerd.exec("guest"), containerd.end("guest")),
            ("podman", root.start_asleep("guest"), root.exec("guest"), root.end("guest")),
            ("podman without root", nobody.start_asleep("guest"), nobody.exec("guest"), nobody.end("guest")),
        ] {
            shell(&start)?;
            let mark = format!("guest={}", runtime.replace(' ', "-"));
            let outcome = shell(&format!("{exec} /bin/busybox true {mark}"));
            shell(&end)?;
            outcome?;
            let place = watcher.place_of(&mark)?;
            ensure!(place.workload.key.as_str() == "container:guest", "{runtime}: {place:?}");
            ensure!(place.service.is_none(), "{runtime}: who comes in by the runtime descends from no service");
        }
        Ok(())
    })
}

fn shell(line: &str) -> Result<()> {
    let output = Command::new("/bin/sh").args(["-c", line]).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {errors}");
    Ok(())
}
