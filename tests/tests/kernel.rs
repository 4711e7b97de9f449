//! The senses on the running kernel: every sense is triggered for real and its record compared field by field.
//!
//! Needs root; without it each test says so and ends. Traffic stays on loopback or in network namespaces the tests
//! make.

#[path = "kernel/contact.rs"]
mod contact;
#[path = "kernel/exchange.rs"]
mod exchange;
#[path = "kernel/exec.rs"]
mod exec;
#[path = "kernel/inbound.rs"]
mod inbound;
#[path = "kernel/lineage.rs"]
mod lineage;
#[path = "kernel/loss.rs"]
mod loss;
#[path = "kernel/names.rs"]
mod names;
#[path = "kernel/raw.rs"]
mod raw;
#[path = "kernel/restart.rs"]
mod restart;
#[path = "kernel/rewritten.rs"]
mod rewritten;
#[path = "kernel/socket.rs"]
mod socket;
#[path = "kernel/watch.rs"]
mod watch;

use breachline::kernel::{SenseState, probe};
use watch::root;

#[test]
fn the_probe_says_what_this_kernel_can() {
    if !root() {
        return;
    }
    let verdicts = probe();
    let names: Vec<&str> = verdicts.iter().map(|verdict| verdict.sense).collect();
    assert_eq!(names, ["exec", "lineage", "connect", "socket", "metadata", "names", "inbound", "raw"]);
    for verdict in verdicts {
        // Every kernel that is promised can all of it: a degraded sense here is a defect, most likely a program the
        // verifier refused.
        assert_eq!(verdict.state, SenseState::Active, "{}", verdict.sense);
    }
}
