//! Who and where: process table, workloads, listeners. Pure; `procfs` alone reads files.
mod process_table;
mod workload;
