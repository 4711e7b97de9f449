//! Who and where: process table, workloads, listeners. Pure; `procfs` alone reads files.
mod workload;
