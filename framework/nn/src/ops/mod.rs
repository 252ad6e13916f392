//! Operations: kernels (on CPU) or compositions of dfdx operations (on CUDA), on the tape.
//!
//! Each has one public function. The composed version (`composed`) is the one on CUDA, and what tests compare the kernel with.

mod attention;
mod batch_norm;
pub mod blocks;
mod concat;
mod conv2d;
mod cross_entropy;
mod depthwise;
mod dropout;
mod gelu;
mod layer_norm;
#[cfg(not(feature = "cuda"))]
mod layers;
mod linear;
mod loss;
mod maps;
#[cfg(not(feature = "cuda"))]
mod operation;
mod patches;
mod pool;
mod relative_position;
mod relu;
mod resample;
mod residual;
#[cfg(any(test, feature = "cuda"))]
mod rows;
mod tokens;

pub use attention::attention;
pub use batch_norm::{BatchNormParams, batch_norm};
pub use concat::concat_channels;
pub use conv2d::{Window, conv2d};
pub use cross_entropy::{ClassTarget, cross_entropy};
pub use depthwise::{DepthwiseParams, depthwise};
pub use dropout::{dropout, scale_channels, scale_samples};
pub use gelu::gelu;
pub use layer_norm::{NormParams, layer_norm};
pub use linear::{LinearParams, linear, linear_rows};
pub use loss::{masked_mse, normalize_patches};
pub use maps::{to_maps, to_tokens};
#[cfg(not(feature = "cuda"))]
pub use operation::{Backward, operation, operation_on};
pub use patches::{merge_cells, patches};
pub use pool::mean_tokens;
pub use relative_position::RelativePositionBias;
pub use relu::relu;
pub use resample::{adaptive_avg_pool2d, resize_bilinear};
pub use residual::add;
pub use tokens::{add_positions, drop_prefix, gather_tokens, prepend_token, restore_tokens};

use super::Param;
use super::tensor::{Error, Result};

/// That a bias fits the channels of its output.
fn check_bias(bias: Option<&Param>, channels: usize) -> Result<()> {
    match bias {
        Some(bias) if bias.shape() != [channels] => Err(Error::Shape(format!(
            "{}: the bias of {channels} channels is not {:?}",
            bias.name(),
            bias.shape()
        ))),
        _ => Ok(()),
    }
}

/// That a parameter has values: one of a scope that only describes has none.
fn check_allocated(param: &Param) -> Result<()> {
    if param.values().len() == param.numel() {
        return Ok(());
    }
    Err(Error::Value(format!("{} has no values: its model was only described", param.name())))
}
