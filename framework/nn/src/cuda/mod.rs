//! The backend of NVIDIA's cards: the functions of [`crate::cpu`], as kernels of our own (`kernels/*.cu`) and products of cuBLASLt.
//!
//! Everything goes to the null stream of the card of this thread ([`crate::device`]), in order with what dfdx does there; the
//! host waits only where it reads a value. Sums are added up in a fixed order, so that results do not change from run to run.

pub mod adamw;
pub mod attention;
pub mod batch_norm;
mod blaslt;
pub mod bridge;
mod buffer;
mod card;
pub mod chunks;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod depthwise;
pub mod device;
pub mod elementwise;
pub mod ema;
mod event;
pub mod gelu;
mod gemm;
pub mod images;
pub mod lars;
pub mod layer_norm;
pub mod linear;
mod lists;
pub mod loss;
pub mod max_pool;
mod module;
pub mod patches;
mod pinned;
pub mod pointwise_loss;
pub mod pool;
mod relative_position;
pub mod relu;
pub mod resample;
pub mod residual;
pub mod roi_align;
pub mod sgd;
pub mod step_end;
mod storage;
#[cfg(test)]
mod testing;
pub mod tokens;
mod uploads;

pub use buffer::{Buffer, Values, copy, download, download_all, read, unspecified, upload, write, zeros};
pub use storage::{is_rounded, operand, round_all, single, take_operand};

pub use crate::cpu::Output;
