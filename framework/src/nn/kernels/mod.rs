//! Kernels: pure functions on slices, with their backward written by hand. Channels last, row-major.

pub mod adamw;
