//! Kernels: pure functions on slices, with their backward written by hand. Channels last, row-major.

pub mod batch_norm;
pub mod chunks;
pub mod conv2d;
pub mod depthwise;
pub mod gemm;
pub mod loss;
pub mod patches;
pub mod reduce;
pub mod simd;
pub mod tokens;
