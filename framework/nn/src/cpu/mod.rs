//! Kernels: pure functions on slices, with their backward written by hand. Channels last, row-major.
//!
//! A kernel is parallel over chunks of a fixed size and adds up partial results in their order, so its result does not
//! depend on the number of threads. Kernels assert that the slices fit; the operations check what a user can get wrong.

pub mod adamw;
pub mod argmax;
pub mod attention;
pub mod batch_norm;
pub mod buffer;
pub mod chunks;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod depthwise;
pub mod elementwise;
pub mod ema;
pub mod gelu;
pub mod gemm;
pub mod images;
pub mod lars;
pub mod layer_norm;
pub mod linear;
pub mod loss;
pub mod max_pool;
mod output;
pub mod patches;
pub mod pointwise_loss;
pub mod pool;
pub mod reduce;
pub mod relu;
pub mod resample;
pub mod residual;
pub mod roi_align;
pub mod sgd;
pub mod simd;
pub mod softmax;
pub mod step_end;
mod tile;
pub mod tokens;
mod transpose;

pub use buffer::{
    Buffer, copy, download, download_all, is_rounded, operand, read, round_all, single, take_operand,
    unspecified, upload, write, zeros,
};
pub use output::Output;

/// Values in memory of the device, which kernels read.
pub type Values = [f32];
