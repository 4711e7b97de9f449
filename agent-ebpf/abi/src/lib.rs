//! Every struct that crosses the kernel line. Numbers and byte arrays only, explicit padding, layout held at compile time.
#![no_std]
