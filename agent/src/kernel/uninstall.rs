//! Ends senses that outlived their agent, and makes sure that they did.
//!
//! In: the directory where they are kept. Out: what was there and what is left. Never: touches the senses of an agent
//! that runs.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::loaded_programs;
use serde::Serialize;

pub use super::pins::PinError;
use super::pins::Pins;

/// The kernel frees a program some grace periods after its last link is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Uninstalled {
    /// Programs that were detached, by name.
    pub programs: Vec<String>,
    /// Programs among them that the kernel still has: something else holds them.
    pub left: Vec<String>,
}

/// Removes every pin below `directory` and waits until the kernel has let go of the programs. Nothing there is no error.
///
/// # Errors
///
/// [`PinError::Taken`] while an agent runs; [`PinError::Object`] for what cannot be removed.
pub fn uninstall(directory: &Path) -> Result<Uninstalled, PinError> {
    if !directory.exists() {
        return Ok(Uninstalled::default());
    }
    // The name of a set of its own is not needed: all of them go.
    let pins = Pins::open(directory, 0)?;
    let mut programs: Vec<(String, u32)> = Vec::new();
    for set in pins.others()? {
        // A set whose links cannot be read goes all the same.
        programs.extend(set.program_ids().unwrap_or_default());
    }
    pins.remove_all()?;
    let deadline = Instant::now() + PATIENCE;
    let mut left = still_loaded(&programs);
    while !left.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        left = still_loaded(&programs);
    }
    Ok(Uninstalled { programs: programs.into_iter().map(|(name, _)| name).collect(), left })
}

fn still_loaded(programs: &[(String, u32)]) -> Vec<String> {
    let loaded: Vec<u32> = loaded_programs().flatten().map(|info| info.id()).collect();
    programs.iter().filter(|(_, id)| loaded.contains(id)).map(|(name, _)| name.clone()).collect()
}
