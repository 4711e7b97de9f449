//! The meter's own part in a program's cost: programs that do nothing, on the same hooks.
//!
//! In: nothing. Out: their [`ProgramCost`]s, to be told beside (never subtracted in silence from) those of the senses.

use std::path::Path;

use aya::Ebpf;

use super::cost::{self, ProgramCost};
use super::layout::Layout;
use super::{BTF_PATH, Config, KernelError, attach, load_object};

/// Attached programs that do nothing. Dropping it detaches them.
pub struct Floor(Ebpf);

impl Floor {
    /// Loads and attaches one for every hook that is measured.
    ///
    /// # Errors
    ///
    /// [`KernelError`], as loading the senses.
    pub fn load() -> Result<Self, KernelError> {
        let layout = Layout::read(Path::new(BTF_PATH))?;
        let mut ebpf = load_object(&Config::default(), &layout)?;
        attach::floor(&mut ebpf)?;
        Ok(Self(ebpf))
    }

    /// What each costs, while the kernel counts it.
    #[must_use]
    pub fn costs(&self) -> Vec<ProgramCost> {
        cost::read(&self.0)
    }
}
