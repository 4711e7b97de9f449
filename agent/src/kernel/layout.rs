//! Field offsets of the running kernel's structs, from its own BTF.
//!
//! Comes in: `/sys/kernel/btf/vmlinux`. Goes out: [`Parameters`] and the names of what is missing. A wrong offset would
//! read wrong memory without an error, so nothing here is guessed: a field is found by name or it is missing.

use std::collections::HashMap;
use std::path::Path;

use breachline_abi::parameters::{MISSING, Parameters};
use btf_rs::{Backend, Btf, Type};

use super::KernelError;

/// Deepest nesting of anonymous structs and unions that is searched; the kernel's deepest is 4.
const NESTING_MAX: usize = 8;

/// A kernel's layout as the kernel half needs it.
#[derive(Debug)]
pub(super) struct Layout {
    /// Offsets; thresholds are left at their defaults.
    pub(super) parameters: Parameters,
    /// Fields this kernel does not have, as `struct.field`.
    pub(super) missing: Vec<&'static str>,
}

impl Layout {
    /// Reads the layout from a BTF file.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoBtf`] when the file is absent or not BTF.
    pub(super) fn read(path: &Path) -> Result<Self, KernelError> {
        let no_btf = |reason: String| KernelError::NoBtf { path: path.to_owned(), reason };
        // Mapped, 5 MB of type names stay out of the agent's own memory; the file can be mapped since 6.16 only and answers
        // ENODEV before.
        let btf = Btf::from_file_with_backend(path, Backend::Mmap)
            .or_else(|_| Btf::from_file_with_backend(path, Backend::Cache))
            .map_err(|error| no_btf(error.to_string()))?;
        let mut structs = Structs { btf: &btf, by_name: HashMap::new() };
        let mut layout = Self { parameters: Parameters::UNSET, missing: Vec::new() };
        for (place, name) in layout.parameters.offsets() {
            *place = structs.offset(name).unwrap_or(MISSING);
            if *place == MISSING {
                layout.missing.push(name);
            }
        }
        Ok(layout)
    }

    /// Treats a field as one that this kernel does not have.
    pub(super) fn leave_out(&mut self, field: &'static str) {
        for (place, name) in self.parameters.offsets() {
            if name == field && *place != MISSING {
                *place = MISSING;
                self.missing.push(name);
            }
        }
    }
}

struct Structs<'b> {
    btf: &'b Btf,
    /// Looked up by name once: the mmap backend searches every type for it.
    by_name: HashMap<&'static str, Vec<btf_rs::Struct>>,
}

impl Structs<'_> {
    /// Bytes from the start of the struct to the field of a `struct.field.field` name.
    fn offset(&mut self, name: &'static str) -> Option<u32> {
        let (root, path) = name.split_once('.')?;
        let btf = self.btf;
        let candidates = self.by_name.entry(root).or_insert_with(|| {
            let types = btf.resolve_types_by_name(root).unwrap_or_default();
            types.into_iter().filter_map(structure).collect()
        });
        // Several types may bear one name; the one that has the field is the one meant, two that disagree are nobody's.
        let mut offsets: Vec<u32> = candidates.iter().filter_map(|root| path_offset(btf, root, path)).collect();
        offsets.dedup();
        match offsets[..] {
            [offset] => Some(offset / 8),
            _ => None,
        }
    }
}

fn structure(found: Type) -> Option<btf_rs::Struct> {
    match found {
        Type::Struct(inner) | Type::Union(inner) => Some(inner),
        _ => None,
    }
}

/// Bits to a dotted path of members.
fn path_offset(btf: &Btf, root: &btf_rs::Struct, path: &str) -> Option<u32> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (offset, member) = member(btf, root, first, NESTING_MAX)?;
    match rest {
        None => Some(offset),
        Some(rest) => Some(offset + path_offset(btf, &member_type(btf, &member)?, rest)?),
    }
}

/// A member by name, anonymous structs and unions searched through, and its offset in bits.
fn member(btf: &Btf, root: &btf_rs::Struct, name: &str, nesting: usize) -> Option<(u32, btf_rs::Member)> {
    let nesting = nesting.checked_sub(1)?;
    root.members.iter().find_map(|candidate| {
        let own = btf.resolve_name(candidate).unwrap_or_default();
        if own == name {
            return candidate
                .bitfield_size()
                .is_none_or(|bits| bits == 0)
                .then(|| (candidate.bit_offset(), candidate.clone()));
        }
        if !own.is_empty() {
            return None;
        }
        let (offset, found) = member(btf, &member_type(btf, candidate)?, name, nesting)?;
        Some((candidate.bit_offset() + offset, found))
    })
}

/// The struct or union that a member is, behind its typedefs and qualifiers.
fn member_type(btf: &Btf, member: &btf_rs::Member) -> Option<btf_rs::Struct> {
    btf.chained_type_iter(member).find_map(structure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_what_is_asked_for() {
        let path = Path::new(super::super::BTF_PATH);
        if !path.exists() {
            eprintln!("skipped: this kernel offers no BTF");
            return;
        }
        let layout = Layout::read(path).expect("BTF");
        assert!(layout.missing.is_empty(), "missing here: {:?}", layout.missing);
        // A struct's first field and one that cannot be there, whatever the kernel.
        assert_eq!(layout.parameters.vfsmount_root, 0);
        assert_ne!(layout.parameters.task_tgid, layout.parameters.task_mm);
    }

    #[test]
    fn what_is_not_btf_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), b"not btf").expect("written");
        let error = Layout::read(file.path()).expect_err("refused").to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
