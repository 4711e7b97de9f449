//! Reading the kernel's own structs: offsets come from [`crate::maps::PARAMETERS`], never from this build.
//!
//! Two kinds of pointers, one way to read both. [`Typed`] is a pointer whose type the verifier knows (a BTF
//! tracepoint's argument, the current task): reading through it is a plain load, a fault gives zero. [`Address`] is a
//! number: reading through it is a helper call. A field that this kernel lacks reads as zero or as no pointer; the
//! verifier sees the offset as a constant and removes the branch.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::num::NonZeroU64;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated;
use breachline_abi::parameters::MISSING;

/// One field of the loader's parameters: a constant to the verifier (the map is frozen), unknown to the compiler.
macro_rules! parameter {
    ($field:ident) => {
        $crate::memory::volatile(&$crate::maps::PARAMETERS.$field)
    };
}
pub(crate) use parameter;

/// Reads a number that the loader set after the compiler was done.
#[inline(always)]
pub fn volatile(number: &'static u32) -> u32 {
    // SAFETY: a reference is valid for reads.
    unsafe { core::ptr::from_ref(number).read_volatile() }
}

/// Adds to a number that other processors may add to at the same moment: BPF's own atomic addition, which `core` does not
/// offer for a target without compare-and-swap.
///
/// # Safety
///
/// `number` must be a valid map value's, aligned to 8 bytes.
#[inline(always)]
pub unsafe fn add(number: *mut u64, amount: u64) {
    // SAFETY: the caller vouches for the place.
    unsafe { asm!("lock *(u64 *)({number} + 0) += {amount}", number = in(reg) number, amount = in(reg) amount) };
}

/// Numbers that any bit pattern is a value of.
pub trait Number: Copy + Default {}
impl Number for u8 {}
impl Number for u16 {}
impl Number for u32 {}
impl Number for u64 {}
impl Number for [u32; 4] {}
impl Number for [u64; 3] {}

/// A kernel object that fields are read from.
pub trait Object: Copy {
    /// The number at `offset`; zero when the kernel has no such field or the memory cannot be read.
    fn number<T: Number>(self, offset: u32) -> T;

    /// The object that the pointer at `offset` leads to; `None` for null.
    fn object(self, offset: u32) -> Option<Self>;

    /// The bare address.
    fn address(self) -> Address;
}

/// A pointer whose type the verifier knows.
#[derive(Copy, Clone)]
pub struct Typed(NonNull<u8>);

impl Typed {
    /// From a hook's argument.
    #[inline(always)]
    pub fn new(pointer: *const u8) -> Option<Self> {
        NonNull::new(pointer.cast_mut()).map(Self)
    }
}

impl Object for Typed {
    #[inline(always)]
    fn number<T: Number>(self, offset: u32) -> T {
        if offset == MISSING {
            return T::default();
        }
        // SAFETY: the verifier checks that a field of this size lies at `offset` and turns a fault into zero.
        unsafe { self.0.as_ptr().add(offset as usize).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    fn object(self, offset: u32) -> Option<Self> {
        if offset == MISSING {
            return None;
        }
        // SAFETY: as above; the verifier knows what the loaded pointer leads to.
        let pointer = unsafe { self.0.as_ptr().add(offset as usize).cast::<*const u8>().read_volatile() };
        Self::new(pointer)
    }

    #[inline(always)]
    fn address(self) -> Address {
        Address(self.0.addr().try_into().unwrap_or(NonZeroU64::MAX))
    }
}

/// A kernel address that may be anything but null.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Address(NonZeroU64);

impl Object for Address {
    #[inline(always)]
    fn number<T: Number>(self, offset: u32) -> T {
        if offset == MISSING {
            return T::default();
        }
        let from = self.0.get().wrapping_add(u64::from(offset)) as *const _;
        let mut value = MaybeUninit::<T>::uninit();
        // Not asked whether it failed: then it fills the room with zeros (since 5.5), and each question would double the
        // paths that an old verifier follows.
        // SAFETY: the helper writes the whole room, and fails on a bad address instead of faulting.
        unsafe {
            generated::bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
            value.assume_init()
        }
    }

    #[inline(always)]
    fn object(self, offset: u32) -> Option<Self> {
        Self::new(self.number(offset))
    }

    #[inline(always)]
    fn address(self) -> Address {
        self
    }
}

impl Address {
    /// From a number; null is no address.
    #[inline(always)]
    pub fn new(address: u64) -> Option<Self> {
        NonZeroU64::new(address).map(Self)
    }

    /// As a number.
    #[inline(always)]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// `offset` bytes further.
    #[inline(always)]
    pub fn after(self, offset: u32) -> Option<Self> {
        Self::new(self.get().wrapping_add(u64::from(offset)))
    }

    /// The object that this one lies in at `offset` (`container_of`).
    #[inline(always)]
    pub fn container(self, offset: u32) -> Option<Self> {
        Self::new(self.get().wrapping_sub(u64::from(offset)))
    }

    /// Copies the C string here to `to`, at most `room` bytes with its NUL. Returns the bytes written, NUL included; 0
    /// when unreadable.
    ///
    /// # Safety
    ///
    /// `room` bytes at `to` must be writable.
    #[inline(always)]
    pub unsafe fn string(self, to: *mut u8, room: u32) -> u32 {
        // SAFETY: the caller vouches for `to`; the helper checks the source.
        let written = unsafe { generated::bpf_probe_read_kernel_str(to.cast(), room, self.get() as *const _) };
        if written > 0 && written <= i64::from(room) { written as u32 } else { 0 }
    }
}
