//! What tensors are computed with: kernels of the CPU, or of CUDA with the feature `cuda`.

pub use crate::cpu::*;
