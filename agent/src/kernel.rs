//! The kernel door: load the BPF object, attach, read the rings, report a verdict per sense.
